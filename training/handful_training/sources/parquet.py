"""Images whose bytes lie in Parquet files, read row group by row group."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, ClassVar, Self

import pyarrow as pa
import pyarrow.parquet as pq

from handful_bundle.errors import ImageTooLarge
from handful_training.errors import InputError
from handful_training.sources.column import label_text
from handful_training.sources.folder import MAX_FILE_BYTES, FileMissing, FileUnreadable
from handful_training.sources.naming import unique_names
from handful_training.sources.parquet_layout import find_layout, is_text, label_column
from handful_training.sources.place import Place
from handful_training.sources.sendable import as_sendable

BATCH_BYTES = 4 * 1024**2
MAX_BATCH = 1024  # rows
BUFFER_BYTES = 1024**2  # of a column, instead of all of it in a row group

REMEDY = "fetch it again or leave it out"


@dataclass(frozen=True, eq=False)
class ParquetSource:
    """Images in one or more Parquet files, in the order of their rows."""

    keys: Sequence[str]
    files: tuple[Place, ...]
    starts: Sequence[int]  # first row of each row group
    groups: Sequence[tuple[int, int]]  # file of each row group, and its number in that file
    column: str  # that holds the bytes
    first: int = 0  # row of image 0
    summary: str = ""
    units: Sequence[int] | None = field(default=None, repr=False)  # where the row groups begin
    kind: ClassVar[str] = "parquet"

    @classmethod
    def open(cls, files: Sequence[Place], named: str) -> Self:
        """Read the footers of `files`, and the column of names if there is one.

        Raises:
            InputError: a damaged file, files of different layouts, or no image.
        """
        starts: list[int] = []
        groups: list[tuple[int, int]] = []
        names: list[list[str]] = []
        columns: set[str] = set()
        total = 0
        for number, place in enumerate(files):
            with opened(place) as table:
                layout = find_layout(table.schema_arrow, place.shown)
                if layout.data is None:
                    raise InputError(
                        f"{place.shown} holds paths; give such a table alone, not among others"
                    )
                columns.add(layout.data)
                names.append(_names(table, layout.name))
                for group in range(table.num_row_groups):
                    rows = table.metadata.row_group(group).num_rows
                    if rows:
                        starts.append(total)
                        groups.append((number, group))
                    total += rows
        if not total:
            raise InputError(f"no row in {named} ({len(files):,} Parquet files)")
        if len(columns) > 1:
            raise InputError(
                f"{named}: the images are in columns of different names "
                f"({', '.join(sorted(columns))}); give files of one layout"
            )
        shown = f"{len(files):,} Parquet files" if len(files) > 1 else "a Parquet file"
        return cls(
            unique_names([place.name for place in files], names),
            tuple(files),
            starts,
            groups,
            columns.pop(),
            summary=f"{total:,} images in {shown}, {named}",
            units=starts,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, i: int) -> bytes:
        """Return the bytes of image `i`. Its row group stays open for the next one.

        Raises:
            FileMissing: the row has no bytes.
            FileUnreadable: the row group is damaged.
            ImageTooLarge: more than `MAX_FILE_BYTES`.
            ImageError: it is a TIFF of a kind that is not read.
        """
        row = self.first + range(len(self))[i]
        at = bisect_right(self.starts, row) - 1
        number, group = self.groups[at]
        data = _open_group.value(self.files[number], group, self.column, row - self.starts[at])
        if data is None:
            raise FileMissing("the row has no bytes, only a path or nothing")
        if len(data) > MAX_FILE_BYTES:
            raise ImageTooLarge(
                f"{len(data):,} bytes, allowed are {MAX_FILE_BYTES:,}; shrink the image"
            )
        return as_sendable(data)

    def stat_token(self, i: int) -> str:
        """Return the token of the file that holds image `i`."""
        at = bisect_right(self.starts, self.first + i) - 1
        return self.files[self.groups[at][0]].token

    def cut(self, start: int, stop: int) -> Self:
        """Return images `start` to `stop`."""
        first, last = self.first + start, self.first + stop
        low, high = bisect_right(self.starts, first) - 1, bisect_left(self.starts, last)
        used = self.groups[low][0]
        return replace(
            self,
            keys=self.keys[start:stop],
            files=self.files[used : self.groups[high - 1][0] + 1],
            starts=self.starts[low:high],
            groups=[(number - used, group) for number, group in self.groups[low:high]],
            first=first,
            summary="",
            units=None,
        )

    def labels(self, column: str | None) -> Iterator[tuple[int, str]]:
        """Yield (row, label) from a column; `label` unless another is given.

        The numbers of a Hugging Face ClassLabel become its names; -1 and null are no label.

        Raises:
            InputError: there is no such column, or it holds no labels.
        """
        start = 0
        for place in self.files:
            with opened(place) as table:
                yield from column_labels(table, column, place, start)
                start += table.metadata.num_rows


@contextmanager
def opened(place: Place) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file and say what is wrong with it in our own words."""
    try:
        with place.open() as file, _table(file) as table:
            yield table
    except FileUnreadable as error:
        raise InputError(f"{place.shown}: {error}; run the command again") from error
    except (pa.ArrowException, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0][:200]
        raise InputError(f"{place.shown} cannot be read: {reason}; {REMEDY}") from error


def column_labels(
    table: pq.ParquetFile, column: str | None, place: Place, start: int = 0
) -> Iterator[tuple[int, str]]:
    """Yield (row, label) of one file, whose row 0 counts as `start`."""
    column, names = label_column(table.schema_arrow, column, place.shown)
    for row, value in enumerate(_values(table, column), start):
        if names and isinstance(value, int):
            if value >= len(names):
                raise InputError(
                    f"{place.shown}: column `{column}` holds {value}, its metadata names "
                    f"{len(names)} classes"
                )
            if value >= 0:
                yield row, names[value]
        elif value != -1 and (label := label_text(value, f"{place.shown}, column `{column}`")):
            yield row, label


def column_texts(table: pq.ParquetFile, column: str) -> Iterator[str | None]:
    """Yield a column of text, row by row."""
    for value in _values(table, column):
        assert value is None or isinstance(value, str)
        yield value


def _values(table: pq.ParquetFile, column: str) -> Iterator[object]:
    for batch in table.iter_batches(batch_size=MAX_BATCH * 16, columns=[column]):
        yield from _leaf(batch).to_pylist()


def _leaf(batch: pa.RecordBatch) -> pa.Array:
    """Return the only column of `batch`, or the only field of that."""
    values = batch.column(0)
    return values.flatten()[0] if pa.types.is_struct(values.type) else values


def _names(table: pq.ParquetFile, column: str | None) -> list[str]:
    """Return what the images of one file are called: by their paths, or else by their numbers."""
    count = table.metadata.num_rows
    width = len(str(max(count - 1, 0)))
    if column is not None and is_text(_type(table.schema_arrow, column)):
        names = list(column_texts(table, column))
        if all(names) and len(set(names)) == count:
            return [str(name) for name in names]
    return [f"{row:0{width}d}" for row in range(count)]


def _type(schema: pa.Schema, column: str) -> pa.DataType:
    outer, _, inner = column.partition(".")
    kind = schema.field(outer).type
    return kind.field(inner).type if inner else kind


def _table(file: IO[bytes]) -> pq.ParquetFile:
    return pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)


class _OpenGroup:
    """The row group that this process reads. One at a time, forward: the next image follows."""

    def __init__(self) -> None:
        self._at: tuple[Place, int, str] | None = None
        self._file: IO[bytes] | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._values: list[bytes | None] = []
        self._start = 0  # row in the group of the first of `_values`
        self._damage = ""

    def value(self, place: Place, group: int, column: str, row: int) -> bytes | None:
        """Return one value of a column in a row group."""
        if (place, group, column) != self._at or row < self._start:
            self.close()
            self._open(place, group, column)
        try:
            while not self._damage and row >= self._start + len(self._values):
                self._start += len(self._values)
                self._values = _leaf(next(self._batches)).to_pylist()
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._damage = str(error).partition("\n")[0][:200] or "it ends early"
        if self._damage:
            raise FileUnreadable(f"row group {group} of {place.shown}: {self._damage}")
        return self._values[row - self._start]

    def close(self) -> None:
        self._batches, self._values, self._start, self._damage = iter(()), [], 0, ""
        if self._file is not None:
            self._file.close()
        self._file = self._at = None

    def _open(self, place: Place, group: int, column: str) -> None:
        self._at = (place, group, column)
        try:
            self._file = place.open()
            table = _table(self._file)
            about = table.metadata.row_group(group)
            batch = BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)
            self._batches = table.iter_batches(
                batch_size=min(max(1, batch), MAX_BATCH), row_groups=[group], columns=[column]
            )
        except (pa.ArrowException, OSError) as error:
            self._damage = str(error).partition("\n")[0][:200] or "it cannot be opened"


_open_group = _OpenGroup()
