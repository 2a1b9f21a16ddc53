"""Image files named in the `path` column of a Parquet file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from handful_training.errors import InputError
from handful_training.sources.folder import FileSource, normalise
from handful_training.sources.parquet import column_labels, column_texts, opened
from handful_training.sources.place import Place


@dataclass(frozen=True)
class ParquetPaths(FileSource):
    """Files on disk, listed by a Parquet file beside them."""

    table: Place | None = None  # None in a part that was cut out

    @classmethod
    def read_table(cls, place: Place) -> Self:
        """Take the files named in `path`, relative to the folder that holds the table.

        Raises:
            InputError: an empty path, or an empty table.
        """
        root = os.path.dirname(place.location)  # noqa: PTH120 - pathlib keeps "a/../b"
        paths = list(table_paths(place))
        keys = list(dict.fromkeys(normalise(path, root) for path in paths))
        return cls(root, keys, listed(place, len(paths), len(keys)), place)

    def labels(self, column: str | None) -> Iterator[tuple[int, str]]:
        """Yield (row, label) from a column of the table, as `ParquetSource.labels` does."""
        assert self.table is not None
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = [row_of[normalise(path, self.root)] for path in table_paths(self.table)]
        with opened(self.table) as table:
            for line, label in column_labels(table, column, self.table):
                yield rows[line], label


def table_paths(place: Place) -> Iterator[str]:
    """Yield the column `path`.

    Raises:
        InputError: a path is null or empty.
    """
    with opened(place) as table:
        for row, path in enumerate(column_texts(table, "path")):
            if not path:
                raise InputError(f"{place.shown}, row {row}: the path is empty")
            yield path


def listed(place: Place, rows: int, images: int) -> str:
    """Say what a table names.

    Raises:
        InputError: nothing.
    """
    if not images:
        raise InputError(f"{place.shown} lists no image; write one path a row")
    summary = f"{images:,} images listed in {place.shown}"
    if rows > images:
        summary += f"; {rows - images:,} rows name a file again and count once"
    return summary
