"""CSV tables as people make them: read with plain words for what is wrong, written to be safe."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from handful_training.errors import InputError

# A spreadsheet takes a cell that begins like this for a formula and runs it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, cells of `columns`) of each row. Other columns are ignored.

    Commas separate, double quotes enclose; a byte order mark, blank lines and white space around
    cells do not matter. Bytes that are not UTF-8 come as surrogates, as in names of files.

    Raises:
        InputError: unreadable, not such a table, or without one of `columns`.
    """
    try:
        with path.open("rb") as file:
            yield from table_rows(file, str(path), columns)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def read_header(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        InputError: unreadable.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def table_rows(
    file: IO[bytes], name: str, columns: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the rows of an open table, as `read_table` does; `name` is for the messages."""
    with io.TextIOWrapper(
        file, encoding="utf-8-sig", errors="surrogateescape", newline=""
    ) as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            if header and header[0].startswith(("\udcff\udcfe", "\udcfe\udcff")):
                raise InputError(f"{name} is UTF-16; save it as UTF-8")
            places = _places(name, header, columns)
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{name}, line {reader.line_num}: {len(row)} cells, the header has "
                        f"{len(header)}; put a cell that holds a comma in double quotes"
                    )
                yield reader.line_num, tuple(row[place].strip() for place in places)
        except csv.Error as error:
            raise InputError(f"{name}, line {reader.line_num}: {error}") from error


def write_table(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    errors: str = "backslashreplace",
) -> None:
    """Write a CSV file in which no cell can act as a formula.

    Args:
        path: where.
        header: names of the columns.
        rows: their cells.
        errors: what becomes of names that are not UTF-8; "surrogateescape" writes their bytes.
    """
    with path.open("w", encoding="utf-8", errors=errors, newline="") as file:
        writer = csv.writer(file)  # RFC 4180: CRLF, else a lone CR in a cell is left unquoted
        writer.writerow(header)
        for row in rows:
            writer.writerow([neutralise(cell) for cell in row])


def neutralise(cell: str) -> str:
    """Return `cell` with an apostrophe before what a spreadsheet would run."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def restore(cell: str) -> str:
    """Return what `neutralise` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell


def _places(name: str, header: list[str], columns: Sequence[str]) -> list[int]:
    missing = [column for column in columns if column not in header]
    if missing:
        shown = ",".join(header)[:80] or "an empty line"
        raise InputError(
            f"{name}: no column `{missing[0]}`; its first line must be "
            f"`{','.join(columns)}` (commas between), found `{shown}`"
        )
    if twice := [column for column in columns if header.count(column) > 1]:
        raise InputError(f"{name}: two columns are called `{twice[0]}`; keep one")
    return [header.index(column) for column in columns]
