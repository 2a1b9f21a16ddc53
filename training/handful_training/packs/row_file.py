"""A .npy file of uint8 rows that several processes fill at once, each its own rows.

Rows are written, not mapped: a full disk is then an error instead of a SIGBUS, and nothing that
grows with the number of rows is ever in memory.
"""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

BLOCK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class RowFile:
    """Rows of uint8 [*shape] in `path`. Small when pickled; opened anew for each write."""

    path: Path
    shape: tuple[int, ...]
    offset: int  # of row 0 in the file

    @classmethod
    def create(cls, path: Path, count: int, shape: tuple[int, ...]) -> Self:
        """Make a file of `count` rows and reserve all its space on the disk.

        Raises:
            OSError: the disk has no room for it.
        """
        with path.open("wb") as file:
            _write_header(file, count, shape)
            offset = file.tell()
            size = offset + count * prod(shape)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        return cls(path, shape, offset)

    def write(self, first: int, rows: NDArray[np.uint8]) -> None:
        """Write `rows` [n, *shape] from row `first` on."""
        with self.path.open("r+b") as file:
            file.seek(self.offset + first * prod(self.shape))
            file.write(np.ascontiguousarray(rows).data)

    def compact(self, keep: NDArray[np.bool_]) -> None:
        """Keep only the rows where `keep` [count] is true, in their order."""
        rows = max(1, BLOCK_BYTES // prod(self.shape))
        kept = int(keep.sum())
        if kept < len(keep):
            mapped = np.load(self.path, mmap_mode="r+")
            to = 0
            for start in range(0, len(keep), rows):
                block = mapped[start : start + rows][keep[start : start + rows]]  # a copy
                mapped[to : to + len(block)] = block  # never beyond what was read
                to += len(block)
            mapped.flush()
            del mapped
        with self.path.open("r+b") as file:
            _write_header(file, kept, self.shape)
            # numpy leaves room for the number of rows to grow or shrink in place.
            assert file.tell() == self.offset
            file.truncate(self.offset + kept * prod(self.shape))


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    npy.write_array_header_1_0(file, description)
