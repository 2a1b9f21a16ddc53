"""Embeddings as one .npy array, row by row, and beside it a CSV that says which row is whose."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from handful_client import extras
from handful_client.command.atomic import replacing
from handful_client.command.csv_output import neutralised
from handful_client.command.records import Record


def names_path(path: Path) -> Path:
    """Return where the rows' paths and errors stand: `OUT.npy` → `OUT.paths.csv`."""
    return path.with_suffix(".paths.csv")


class NpyOutput:
    """Appends rows float32 [E]; the row of a failed file is NaN."""

    def __init__(self, file: BinaryIO, names: TextIO, dim: int) -> None:
        self._file = file
        self._names = csv.writer(names, lineterminator="\n")
        self._names.writerow(["path", "error"])
        self._dim = dim
        self._rows = 0
        self._numpy: Any = extras.need("numpy", "arrays", "writing .npy")
        self._write_header()

    def write(self, record: Record) -> None:
        """Append one row."""
        row = self._numpy.full(self._dim, self._numpy.nan, "<f4")
        if record.embedding is not None:
            row[:] = record.embedding
        self._file.write(row.tobytes())
        self._names.writerow([neutralised(record.path), neutralised(record.error_text or "")])
        self._rows += 1

    def finish(self) -> None:
        """Write the number of rows into the header, where NumPy leaves room for it to grow."""
        data = self._file.tell()
        start = self._start
        self._file.seek(0)
        self._write_header()
        if self._start != start:
            raise AssertionError("the header has outgrown its room")
        self._file.seek(data)

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._dim)}
        self._numpy.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()


@contextlib.contextmanager
def npy_file(path: Path, dim: int) -> Iterator[NpyOutput]:
    """Write an .npy file and its list of paths, which appear when they are whole."""
    with (
        replacing(path) as temporary,
        replacing(names_path(path)) as temporary_names,
        temporary.open("wb") as file,
        temporary_names.open("w", encoding="utf-8", newline="") as names,
    ):
        output = NpyOutput(file, names, dim)
        yield output
        output.finish()
