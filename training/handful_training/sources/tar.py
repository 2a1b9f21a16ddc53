"""Images in tar files, plain or gzipped, on disk or behind URLs; WebDataset's shards among them.

A sample's parts share a name up to the first dot (WebDataset's rule): `0001.jpg` is the image and
`0001.cls` or `0001.json` say what is known of it. Every member with an image's suffix is an image.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from handful_bundle.errors import ImageTooLarge
from handful_training.errors import InputError
from handful_training.progress import progress
from handful_training.sources.column import label_text
from handful_training.sources.folder import MAX_FILE_BYTES, FileUnreadable
from handful_training.sources.naming import unique_names
from handful_training.sources.place import Place
from handful_training.sources.sendable import as_sendable
from handful_training.sources.tar_index import count, members, open_unpacked


@dataclass(frozen=True, eq=False)
class TarSource:
    """Images in tars, in the order in which they lie there."""

    keys: Sequence[str]
    shards: tuple[Place, ...]
    shard: NDArray[np.int32]  # [n], which one image i is in
    span: NDArray[np.int64]  # [n, 2], its first byte and its size, in the unpacked tar
    units: Sequence[int] | None  # rows where a gzipped shard begins; None where all can be sought
    summary: str = ""
    cache: Path | None = field(default=None, repr=False)
    kind: ClassVar[str] = "tar"

    @classmethod
    def open(cls, shards: Sequence[Place], named: str, cache: Path | None = None) -> Self:
        """List the images of all `shards`.

        Args:
            shards: tar files.
            named: what the user called them.
            cache: where the lists are kept; see `tar_index.members`.

        Raises:
            InputError: a damaged tar, or no image in any.
        """
        names: list[list[str]] = []
        spans: list[NDArray[np.int64]] = []
        left: Counter[str] = Counter()
        for place in progress(shards, desc="Listing shards", unit="shard"):
            own, span = _images(place, cache, left)
            names.append(own)
            spans.append(span)
        total = sum(map(len, names))
        aside = f"; left aside {count(left)}" if left else ""
        if not total:
            raise InputError(f"no image in {named} ({len(shards):,} tar files){aside}")
        empty = names.count([])
        shown = f"{len(shards):,} tars" if len(shards) > 1 else "a tar"
        summary = f"{total:,} images in {shown}, {named}{aside}"
        if empty:
            summary += f"; {empty:,} of the tars hold none"
        packed = any(place.name.lower().endswith("gz") for place in shards)
        starts = np.cumsum([0, *map(len, names)])[:-1]
        return cls(
            unique_names([place.name for place in shards], names),
            tuple(shards),
            np.repeat(np.arange(len(shards), dtype=np.int32), [len(own) for own in names]),
            np.concatenate(spans),
            sorted(set(starts.tolist()) - {total}) if packed else None,
            summary,
            cache,
        )

    def __len__(self) -> int:
        return len(self.shard)

    def read(self, i: int) -> bytes:
        """Return the bytes of image `i`. The tar stays open for the next one.

        Raises:
            ImageTooLarge: more than `MAX_FILE_BYTES`.
            ImageError: it is a TIFF of a kind that is not read.
            FileUnreadable: the tar is gone, or has changed since it was listed.
        """
        offset, size = self.span[i].tolist()
        if size > MAX_FILE_BYTES:
            raise ImageTooLarge(f"{size:,} bytes, allowed are {MAX_FILE_BYTES:,}; shrink the image")
        place = self.shards[int(self.shard[i])]
        try:
            file = _opened.file(place)
            file.seek(offset)  # in a .gz: forward from where the last image ended
            data = file.read(size)
        except (EOFError, OSError, zlib.error) as error:
            _opened.close()
            raise FileUnreadable(f"{place.shown}: {error}") from error
        if len(data) != size:
            raise FileUnreadable(f"{place.shown} ends before it; has it changed meanwhile?")
        return as_sendable(data)

    def stat_token(self, i: int) -> str:
        """Return the token of the tar that holds image `i`."""
        return self.shards[int(self.shard[i])].token

    def cut(self, start: int, stop: int) -> Self:
        """Return images `start` to `stop`."""
        shard = self.shard[start:stop]
        first = int(shard.min(initial=len(self.shards) - 1))
        return replace(
            self,
            keys=self.keys[start:stop],
            shards=self.shards[first : int(shard.max(initial=first)) + 1],
            shard=shard - np.int32(first),
            span=self.span[start:stop],
            units=None,
            summary="",
        )

    def labels(self, column: str | None) -> Iterator[tuple[int, str]]:
        """Yield (row, label) of the images that a text beside them labels.

        Args:
            column: the suffix of that text or a key of the .json; unless given, `.cls`, else
                the key `label`.

        Raises:
            InputError: a text that is no label.
        """
        start = 0
        for place in self.shards:
            names: dict[str, None] = {}  # as in `_images`, each once
            label_of: dict[str, str] = {}
            for name, _, _, note in members(place, self.cache):
                if note is None:
                    names[name] = None
                elif name and (label := _label(name, note, column, f"{place.shown}, {name}")):
                    label_of[_sample(name)[0]] = label
            for row, name in enumerate(names, start):
                if label := label_of.get(_sample(name)[0]):
                    yield row, label
            start += len(names)


class _Opened:
    """The tar that this process read last. One at a time: the next image mostly lies in it."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._file: IO[bytes] | None = None

    def file(self, place: Place) -> IO[bytes]:
        if self._file is None or place != self._place:
            self.close()
            self._file, self._place = open_unpacked(place), place
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._place = None


_opened = _Opened()


def _images(
    place: Place, cache: Path | None, left: Counter[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Return names and spans of the images in one tar. Of two with one name tar keeps the last."""
    at: dict[str, tuple[int, int]] = {}
    for name, offset, size, note in members(place, cache):
        if not name:
            left[note or ""] += 1
        elif note is None:
            if name in at:
                left["images that a later one of the same name replaces"] += 1
            at[name] = (offset, size)
    return list(at), np.array(list(at.values()), np.int64).reshape(len(at), 2)


def _sample(name: str) -> tuple[str, str]:
    """Split a name at the first dot of its last part: sample and suffix."""
    folder, slash, last = name.rpartition("/")
    sample, _, suffix = last.partition(".")
    return folder + slash + sample, suffix


def _label(name: str, note: str, column: str | None, place: str) -> str | None:
    suffix = _sample(name)[1].lower()
    if suffix == (column or "cls").lower().removeprefix("."):
        return note.strip() or None
    if suffix == "json":
        try:
            found = json.loads(note)
        except ValueError as error:
            raise InputError(f"{place}: no JSON ({error})") from error
        if isinstance(found, dict):
            return label_text(found.get(column or "label"), place)
    return None
