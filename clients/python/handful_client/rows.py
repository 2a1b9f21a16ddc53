"""Vectors, one row per image: a float32 array where numpy is installed, lists elsewhere.

A row without a vector is NaN in an array and None among lists.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

from handful_client import extras
from handful_client.errors import InputError

Rows = Any  # float32 [n, d], or list of (list of d floats, or None)


def from_lists(vectors: Sequence[Sequence[float] | None], dim: int) -> Rows:
    """Return rows of `dim` numbers each."""
    numpy = extras.numpy_or_none()
    if numpy is None:
        return [None if vector is None else list(vector) for vector in vectors]
    blank = [math.nan] * dim
    filled = [blank if vector is None else vector for vector in vectors]
    return numpy.array(filled, dtype=numpy.float32).reshape(len(filled), dim)


def scatter(rows: Rows, at: Sequence[int], count: int, dim: int) -> Rows:
    """Return `count` rows, of which those at the given places are `rows` and the others blank."""
    if len(at) == count:
        return rows
    wide = from_lists([None] * count, dim)
    for place, row in zip(at, rows, strict=True):
        wide[place] = row
    return wide


def join(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, in order. Needs at least one part."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    return extras.need("numpy", "arrays", "joining arrays").concatenate(parts)


def to_lists(rows: Any) -> list[list[float] | None]:
    """Return rows as JSON can hold them; a row with NaN, Inf or None in it becomes None.

    Raises:
        InputError: not a table of numbers.
    """
    if hasattr(rows, "tolist"):
        rows = rows.tolist()
    try:
        lists = [None if row is None else [float(number) for number in row] for row in rows]
    except (TypeError, ValueError) as error:
        raise InputError(f"give vectors as rows of numbers [N, d], not {rows!r:.60}") from error
    return [row if row and all(map(math.isfinite, row)) else None for row in lists]


def to_npy(array: Any) -> bytes:
    """Return an array as the bytes of an .npy file."""
    numpy = extras.need("numpy", "arrays", "sending arrays")
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def from_npy(body: bytes) -> Any:
    """Return the array in the bytes of an .npy file.

    Raises:
        ValueError: they are no such file.
    """
    numpy = extras.need("numpy", "arrays", "receiving arrays")
    try:
        return numpy.load(io.BytesIO(body), allow_pickle=False)
    except (EOFError, OSError) as error:
        raise ValueError(str(error)) from error


def from_pngs(files: Sequence[bytes]) -> Any:
    """Return PNG files of one size as one array, uint8 [N, H, W, C]."""
    numpy = extras.need("numpy", "arrays", "decoding images to an array")
    pillow = extras.need("PIL.Image", "arrays", "decoding images to an array")
    images = [numpy.asarray(pillow.open(io.BytesIO(file))) for file in files]
    stack = numpy.stack(images) if images else numpy.empty((0, 0, 0, 0), numpy.uint8)
    return stack if stack.ndim == 4 else stack[..., None]
