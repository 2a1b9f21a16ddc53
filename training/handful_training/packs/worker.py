"""What a reading process does: files → pixels → its rows of the pack.

Imports little on purpose: every process that reads pays for it.
"""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from math import prod
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.packs.row_file import RowFile
from handful_training.sources.source import EncodedSource, read_each

DIGEST_BYTES = 32
BLOCK_BYTES = 8 * 1024**2  # pixels in the memory of one process
MAX_DETAIL = 300


class Refusal(NamedTuple):
    """An image that cannot be used."""

    row: int  # in the source
    code: str
    detail: str


@dataclass(frozen=True)
class Chunk:
    """Files to decode, and where their pixels go."""

    source: EncodedSource  # these files only
    spec: ImageSpec
    images: RowFile
    digests: RowFile
    first: int  # row of the first file

    def __len__(self) -> int:
        return len(self.source)

    def singly(self) -> Iterator[Self]:
        """Yield each file as a chunk of its own."""
        for i in range(len(self)):
            source = self.source.cut(i, i + 1)
            yield type(self)(source, self.spec, self.images, self.digests, self.first + i)


class Report(NamedTuple):
    """What came of a chunk."""

    files: int
    refused: list[Refusal]


def decode_chunk(chunk: Chunk) -> Report:
    """Decode `chunk` and write its rows; those of refused files stay empty.

    Raises:
        OSError: the rows cannot be written.
        TrainingError: a store does not answer any more.
    """
    block = max(1, BLOCK_BYTES // prod(chunk.spec.shape))
    rows = np.zeros((min(block, len(chunk)), *chunk.spec.shape), np.uint8)
    refused: list[Refusal] = []
    start = filled = 0
    with closing(read_each(chunk.source, range(len(chunk)))) as files:
        for i, data in enumerate(files):
            row = i - start
            try:
                if isinstance(data, ImageError):
                    raise data
                rows[row] = decode(data, chunk.spec)
            except ImageError as error:
                rows[row] = 0
                refused.append(Refusal(chunk.first + i, error.code, str(error)[:MAX_DETAIL]))
            filled = row + 1
            if filled == len(rows):
                _write(chunk, start, rows)
                start, filled = i + 1, 0
    if filled:
        _write(chunk, start, rows[:filled])
    return Report(len(chunk), refused)


def _write(chunk: Chunk, start: int, rows: NDArray[np.uint8]) -> None:
    chunk.images.write(chunk.first + start, rows)
    chunk.digests.write(chunk.first + start, row_digests(rows))


def row_digests(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the SHA-256 of each of `rows` [n, ...]: uint8 [n, 32]."""
    digests = b"".join(hashlib.sha256(row.data).digest() for row in np.ascontiguousarray(rows))
    return np.frombuffer(digests, np.uint8).reshape(len(rows), DIGEST_BYTES)


def start_worker() -> None:
    """Prepare a reading process: Ctrl-C is for the main process; and never outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def ready() -> bool:
    """Answer that the process works."""
    return True


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # the queue of a killed parent would be waited for without end
