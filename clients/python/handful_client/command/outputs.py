"""Which form a command's output takes: by the name after `-o`."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from handful_client.command.csv_output import CsvOutput, csv_file
from handful_client.command.json_output import json_line
from handful_client.command.npy_output import npy_file
from handful_client.command.parquet_output import parquet_file
from handful_client.command.records import Record
from handful_client.errors import InputError
from handful_client.wire import ModelRef


class Output(Protocol):
    """Takes records, one after the other."""

    def write(self, record: Record) -> None:
        """Take one record."""


def check(name: str | None, *, classifies: bool, as_json: bool) -> None:
    """Refuse an output that cannot be, before any work is done.

    Raises:
        InputError: of an unknown form, or one that the command or `--json` excludes.
    """
    if name is None or name == "-":
        if name == "-" and as_json:
            raise InputError("--json leaves standard output to its one object; give -o a file")
        return
    suffix = Path(name).suffix.lower()
    if suffix not in {".csv", ".parquet", ".npy"}:
        raise InputError(f"{name}: unknown kind of output; name it .parquet, .csv or .npy")
    if suffix == ".npy" and classifies:
        raise InputError(f"{name}: predictions are no array; name it .parquet or .csv")


def open_output(
    name: str | None, *, dim: int | None, model: ModelRef, as_json: bool
) -> AbstractContextManager[Output]:
    """Open the output.

    Args:
        name: what stands after `-o`; None: CSV on standard output, or inside the JSON object.
        dim: numbers in an embedding; None when classifying.
        model: who answers.
        as_json: whether standard output is to hold one JSON object.
    """
    if name is None and as_json:
        return json_line()
    if name is None or name == "-":
        return nullcontext(CsvOutput(sys.stdout, dim))
    path = Path(name)
    if path.suffix.lower() == ".parquet":
        return parquet_file(path, dim, model)
    if path.suffix.lower() == ".npy" and dim is not None:
        return npy_file(path, dim)
    return csv_file(path, dim)
