"""The folder of a pack: what is in it, and whether to believe it.

    images.npy      uint8 [M, H, W, C], the images that could be read, in the order of the source
    digests.npy     uint8 [M, 32], SHA-256 of each image's pixels
    rows.npy        int64 [N], row in images.npy of each image of the source, -1 if rejected
    keys.jsonl      the keys of all N images of the source, one JSON string a line
    rejected.csv    path, code, detail of the N - M others
    pack.json       what all this was made from; written last

`images.npy` holds only pixels, so `numpy.load(..., mmap_mode="r")` reads it anywhere.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from handful_bundle.errors import HandfulError
from handful_bundle.manifest import Digest, ImageSpec
from handful_training.packs.worker import row_digests

IMAGES, DIGESTS, ROWS = "images.npy", "digests.npy", "rows.npy"
KEYS, REJECTED, RECORD = "keys.jsonl", "rejected.csv", "pack.json"
SPOT_CHECKS = 16
BLOCK_BYTES = 8 * 1024**2


class PackDamaged(HandfulError):
    """The folder is not a whole pack. It is packed again."""


class Rejected(NamedTuple):
    """An image that could not be used."""

    key: str
    code: str
    detail: str


class PackRecord(BaseModel):
    """`pack.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    fingerprint: Digest  # of the inputs: what the pack is found by
    content_digest: Digest  # of the pixels: what later stages depend on
    source: str
    image: ImageSpec
    pixels_version: int
    found: int
    packed: int
    duplicates: int
    bytes: dict[str, int]  # size of each other file


@dataclass(frozen=True, eq=False)
class Pack:
    """Pixels of all readable images of a source, mapped from disk.

    Attributes:
        root: its folder.
        record: its `pack.json`.
        images: uint8 [M, H, W, C], read-only and mapped.
        keys: their keys.
        row_of: int64 [N]: row in `images` of each image of the source, -1 if rejected.
        rejected: the images that could not be used; also in `rejected.csv`.
    """

    root: Path
    record: PackRecord
    images: NDArray[np.uint8]
    keys: list[str]
    row_of: NDArray[np.int64]
    rejected: list[Rejected]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> ImageSpec:
        """Size and channels of the pixels."""
        return self.record.image

    @property
    def fingerprint(self) -> str:
        """Digest of the inputs, known without reading an image."""
        return self.record.fingerprint

    @property
    def content_digest(self) -> str:
        """Digest of the pixels: equal for equal pixels in equal order, wherever they came from."""
        return self.record.content_digest

    @property
    def duplicates(self) -> int:
        """How many images have exactly the pixels of an earlier one."""
        return self.record.duplicates

    @property
    def rejected_csv(self) -> Path:
        """The table of rejected images."""
        return self.root / REJECTED

    @classmethod
    def load(cls, root: Path) -> Self:
        """Open the pack in `root`.

        Checked are the sizes of all files, shapes, counts, and the pixels of a few images.

        Raises:
            PackDamaged: something is missing, or not as `pack.json` says.
        """
        try:
            record = PackRecord.model_validate_json((root / RECORD).read_bytes())
            for name, size in record.bytes.items():
                if (found := (root / name).stat().st_size) != size:
                    raise PackDamaged(f"{root / name} has {found:,} bytes instead of {size:,}")
            images = np.load(root / IMAGES, mmap_mode="r", allow_pickle=False)
            digests = np.load(root / DIGESTS, mmap_mode="r", allow_pickle=False)
            row_of = np.load(root / ROWS, allow_pickle=False)
            lines = (root / KEYS).read_text(encoding="ascii").splitlines()
            keys = json.loads(f"[{','.join(lines)}]")  # at once: several times as fast
            refusals = _read_refusals(root / REJECTED)
        except (OSError, ValueError, ValidationError) as error:
            raise PackDamaged(f"{root}: {error}") from error
        kept = row_of >= 0
        refused = np.flatnonzero(~kept)
        if (
            images.shape != (record.packed, *record.image.shape)
            or len(digests) != record.packed
            or not np.array_equal(row_of[kept], np.arange(record.packed))
            or {len(keys), len(row_of)} != {record.found}
            or len(refused) != len(refusals)
        ):
            raise PackDamaged(f"{root}: its files disagree on the number or the shape of images")
        if digest_of(digests, record.image) != record.content_digest or not _spot_check(
            images, digests
        ):
            raise PackDamaged(f"{root}: the pixels are not those that were packed")
        rejected = [
            Rejected(keys[row], *refusal)
            for row, refusal in zip(refused.tolist(), refusals, strict=True)
        ]
        if rejected:
            keys = list(compress(keys, kept))
        return cls(root, record, images, keys, row_of, rejected)


def digest_of(digests: NDArray[np.uint8], spec: ImageSpec) -> str:
    """Return the digest of images [M, *spec.shape] that have these `digests` [M, 32]."""
    digest = hashlib.sha256(f"{len(digests)} {spec.shape}".encode())
    for block in _blocks(digests):
        digest.update(block.data)
    return f"sha256:{digest.hexdigest()}"


def count_duplicates(digests: NDArray[np.uint8]) -> int:
    """Return how many rows of `digests` [M, 32] equal an earlier one."""
    # As byte strings they sort fast; numpy drops NULs at the end, but all have one length.
    return len(digests) - len(np.unique(np.ascontiguousarray(digests).view("S32")))


def write_keys(path: Path, keys: Sequence[str]) -> None:
    """Write `keys`, whatever characters are in them."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(json.dumps(key) + "\n" for key in keys)


def sync(paths: Iterable[Path]) -> None:
    """Return once `paths`, files or folders, are on the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _blocks(rows: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    step = max(1, BLOCK_BYTES // rows[0].nbytes) if len(rows) else 1
    return (np.ascontiguousarray(rows[i : i + step]) for i in range(0, len(rows), step))


def _spot_check(images: NDArray[np.uint8], digests: NDArray[np.uint8]) -> bool:
    rows = np.unique(np.linspace(0, len(images) - 1, SPOT_CHECKS).astype(np.int64))
    return np.array_equal(row_digests(images[rows]), digests[rows])


def _read_refusals(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [(code, detail) for _, code, detail in rows]
