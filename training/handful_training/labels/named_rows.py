"""Which images a table names, whatever else it says of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_training.errors import InputError
from handful_training.sources.naming import label_key, label_root
from handful_training.sources.table import read_header, read_table, restore


class NamedRows(NamedTuple):
    """Images of a pack that a table names, in its order.

    Attributes:
        rows: of the pack, int64 [n], none twice.
        chosen_by: what the column of that name says of each, "" where there is none.
        unknown: paths that are no image of the pack.
    """

    rows: NDArray[np.int64]
    chosen_by: tuple[str, ...]
    unknown: tuple[str, ...]


def read_named(table: Path, images: str, keys: list[str]) -> NamedRows:
    """Read the column `path` of a CSV file, and `chosen_by` where there is one.

    Args:
        table: the file.
        images: what IMAGES names; paths are relative to it.
        keys: of the pack's images.

    Raises:
        InputError: no such table, or none of its paths is an image.
    """
    root = label_root(images)
    columns = ["path", *({"chosen_by"} & set(read_header(table)))]
    row_of = {key: row for row, key in enumerate(keys)}
    width = len(keys[0])
    chosen_by: dict[int, str] = {}
    unknown = []
    for _, (path, *others) in read_table(table, columns):
        key = label_key(path, root)
        number = path.zfill(width)  # a spreadsheet makes 17 of 00017
        row = next((row_of[k] for k in (key, restore(key), number) if k in row_of), None)
        if row is None:
            unknown.append(path)
        else:
            chosen_by[row] = others[0] if others else ""
    if unknown and not chosen_by:
        raise InputError(
            f"{table}: none of its {len(unknown):,} paths is an image of {images}, where images "
            f"are called like {', '.join(keys[:3])}"
        )
    return NamedRows(np.array(list(chosen_by), np.int64), tuple(chosen_by.values()), tuple(unknown))
