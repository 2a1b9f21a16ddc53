"""Make the files of a pack from a source."""

import logging
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import PIXELS_VERSION, resize
from handful_training.errors import InputError
from handful_training.packs import files
from handful_training.packs.pool import decode_chunks
from handful_training.packs.row_file import RowFile
from handful_training.packs.worker import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    Chunk,
    Refusal,
    Report,
    row_digests,
)
from handful_training.progress import progress
from handful_training.sources.source import EncodedSource, PixelSource, Source, UnitSource, parts
from handful_training.sources.table import write_table

MAX_CHUNK = 256  # files: enough that handing them out costs little beside decoding them

logger = logging.getLogger(__name__)


def build_pack(source: Source, spec: ImageSpec, folder: Path, name: str, workers: int) -> None:
    """Read `source` and write a whole pack into the empty `folder`, `pack.json` last.

    Args:
        source: what to read.
        spec: the pixels to make of it.
        folder: where to; on return all is on the disk.
        name: the fingerprint.
        workers: reading processes.

    Raises:
        InputError: more than half of the images cannot be read, or an idx file is damaged.
        TrainingError: processes cannot be started.
        OSError: the disk is full.
    """
    images = RowFile.create(folder / files.IMAGES, len(source), spec.shape)
    digests = RowFile.create(folder / files.DIGESTS, len(source), (DIGEST_BYTES,))
    refused: list[Refusal] = []
    with (
        progress(len(source), desc="Reading images") as bar,
        closing(_read(source, spec, images, digests, workers)) as reports,
    ):
        for report in reports:
            if report.refused:
                refused += report.refused
                bar.note(f"{len(refused):,} rejected")
                _check_half(source, refused, folder)
            bar.update(report.files)

    refused.sort()
    keep = np.ones(len(source), np.bool_)
    keep[[refusal.row for refusal in refused]] = False
    images.compact(keep)
    digests.compact(keep)
    np.save(folder / files.ROWS, np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int64))
    files.write_keys(folder / files.KEYS, source.keys)
    _write_rejected(folder / files.REJECTED, source, refused)
    _write_record(source, spec, folder, name, digests)


def _read(
    source: Source, spec: ImageSpec, images: RowFile, digests: RowFile, workers: int
) -> Generator[Report]:
    first = 0
    for part in parts(source):
        if isinstance(part, PixelSource):
            yield from _fit(part, spec, images, digests, first)
        else:
            # The last chunks decide how long the other processes wait: few files, small chunks.
            size = min(MAX_CHUNK, BLOCK_BYTES // prod(spec.shape), len(part) // (32 * workers))
            borders = _borders(part, max(1, size), workers)
            yield from decode_chunks(_chunks(part, borders, spec, images, digests, first), workers)
        first += len(part)


def _borders(source: EncodedSource, size: int, workers: int) -> Iterator[int]:
    """Yield the rows between which a chunk lies, first and last included.

    What can only be read from its start (a gzipped tar, a row group) goes whole to one process,
    as long as there are enough for all. Else each process goes through all of it, forward, and
    decodes its share of chunks.
    """
    units = source.units if isinstance(source, UnitSource) else None
    if units is None or len(units) < workers:
        yield from range(0, len(source), size)
    else:
        last = 0
        for start in units:
            if start == 0 or start - last >= size:
                yield start
                last = start
    yield len(source)


def _chunks(
    source: EncodedSource,
    borders: Iterable[int],
    spec: ImageSpec,
    images: RowFile,
    digests: RowFile,
    first: int,
) -> Iterator[Chunk]:
    for start, stop in pairwise(borders):
        yield Chunk(source.cut(start, stop), spec, images, digests, first + start)


def _fit(
    source: PixelSource, spec: ImageSpec, images: RowFile, digests: RowFile, first: int
) -> Iterator[Report]:
    """Write pixels that need no decoding, in one stream."""
    for block in source.blocks(max(1, BLOCK_BYTES // prod(source.shape))):
        shown = block if block.ndim == 4 else block[..., np.newaxis]
        if shown.shape[1:] != spec.shape:
            shown = np.stack([resize(image, spec) for image in shown])
        images.write(first, shown)
        digests.write(first, row_digests(shown))
        first += len(shown)
        yield Report(len(shown), [])


def _check_half(source: Source, refused: list[Refusal], folder: Path) -> None:
    if 2 * len(refused) <= len(source):
        return
    table = folder.with_suffix(".rejected.csv")
    _write_rejected(table, source, sorted(refused))
    reasons = Counter((refusal.code, refusal.detail) for refusal in refused).most_common(3)
    listed = "; ".join(f"{n:,} times {code} ({detail})" for (code, detail), n in reasons)
    raise InputError(
        f"more than half of {len(source):,} images cannot be read: {listed}. {table} lists them"
    )


def _write_rejected(path: Path, source: Source, refused: list[Refusal]) -> None:
    rows = ((source.keys[row], code, detail) for row, code, detail in refused)
    write_table(path, ["path", "code", "detail"], rows)


def _write_record(
    source: Source, spec: ImageSpec, folder: Path, name: str, digests: RowFile
) -> None:
    rows: NDArray[np.uint8] = np.load(digests.path, mmap_mode="r")
    written = sorted(folder.iterdir())
    record = files.PackRecord(
        fingerprint=name,
        content_digest=files.digest_of(rows, spec),
        source=source.kind,
        image=spec,
        pixels_version=PIXELS_VERSION,
        found=len(source),
        packed=len(rows),
        duplicates=files.count_duplicates(rows),
        bytes={path.name: path.stat().st_size for path in written},
    )
    files.sync(written)
    (folder / files.RECORD).write_text(record.model_dump_json(indent=1) + "\n")
    files.sync([folder / files.RECORD, folder])
