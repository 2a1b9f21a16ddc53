"""What the columns of a Parquet file hold: image bytes, paths, names, labels.

Hugging Face's layout is `image: struct<bytes: binary, path: string>`, and the schema's metadata
tells which column that is and how the numbers of a ClassLabel are called
(huggingface.co/docs/datasets, "Features").
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from handful_training.errors import InputError

BYTES_COLUMNS = ("image", "img", "bytes", "image_bytes")


class Layout(NamedTuple):
    """Which leaf of the schema is which; names of nested ones have a dot, as in `image.bytes`."""

    data: str | None  # encoded images, or
    path: str | None  # where they lie
    name: str | None  # what they are called, where the bytes are here


def find_layout(schema: pa.Schema, shown: str) -> Layout:
    """Tell which columns to read.

    Raises:
        InputError: neither image bytes nor paths.
    """
    declared = [
        column for column, kind in _features(schema).items() if kind.get("_type") == "Image"
    ]
    has_path = "path" in schema.names and is_text(schema.field("path").type)
    for column in [*declared, *BYTES_COLUMNS]:
        if column not in schema.names:
            continue
        kind = schema.field(column).type
        if _is_binary(kind):
            return Layout(column, None, "path" if has_path else None)
        if pa.types.is_struct(kind):
            inner = {field.name: field.type for field in kind}
            if _is_binary(inner.get("bytes")):
                named = is_text(inner.get("path"))
                return Layout(f"{column}.bytes", None, f"{column}.path" if named else None)
    if has_path:
        return Layout(None, "path", None)
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)[:300]
    raise InputError(
        f"{shown}: no column `path` of paths and no column `image` of image bytes, plain or in "
        f"Hugging Face's struct of bytes and path; found {columns or 'no column'}"
    )


def label_column(schema: pa.Schema, column: str | None, shown: str) -> tuple[str, Sequence[str]]:
    """Return the column of labels, and the names of its numbers where the metadata has them.

    Raises:
        InputError: there is no such column, or it is neither text nor whole numbers.
    """
    column = column or "label"
    if column not in schema.names:
        raise InputError(
            f"{shown}: no column `{column}`; write --labels column:NAME with one of "
            f"{', '.join(schema.names)[:300]}"
        )
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{shown}: column `{column}` is {kind}; a label is text or a whole number")
    names = _features(schema).get(column, {}).get("names", ())
    return column, [str(name) for name in names]


def is_text(kind: pa.DataType | None) -> bool:
    """Tell whether a column of this type holds text."""
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind is not None and (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_binary(kind: pa.DataType | None) -> bool:
    return kind is not None and (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's metadata says of each column; nothing where there is none."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)}
