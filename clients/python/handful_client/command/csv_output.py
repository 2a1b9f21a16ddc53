"""CSV that a spreadsheet opens without running anything."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from handful_client.command.atomic import replacing
from handful_client.command.records import CLASSIFY_COLUMNS, Record, classify_cells

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def neutralised(text: str) -> str:
    """Return a text cell that no spreadsheet takes for a formula.

    A leading quote mark is what spreadsheets themselves use to say "text" (OWASP, CSV
    Injection).
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


class CsvOutput:
    """Writes records as rows. Numbers with 9 digits, which give the same float32 back.

    Args:
        stream: where to.
        dim: numbers in an embedding; None when classifying.
    """

    def __init__(self, stream: TextIO, dim: int | None) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._dim = dim
        columns = CLASSIFY_COLUMNS if dim is None else ("path", "error", *_names(dim))
        self._writer.writerow(columns)

    def write(self, record: Record) -> None:
        """Write one row."""
        if self._dim is None:
            self._writer.writerow(_cell(cell) for cell in classify_cells(record).values())
            return
        numbers = [""] * self._dim
        if record.embedding is not None:
            numbers = [f"{number:.9g}" for number in record.embedding]
        self._writer.writerow([_cell(record.path), _cell(record.error_text), *numbers])


@contextmanager
def csv_file(path: Path, dim: int | None) -> Iterator[CsvOutput]:
    """Write a CSV file, which appears when it is whole."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield CsvOutput(file, dim)


def _names(dim: int) -> list[str]:
    return [f"e{index}" for index in range(dim)]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.9g}"
    return neutralised(str(value))
