"""Labels that lie beside the images: in a column of a Parquet file, in a text of a tar."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from handful_training.errors import InputError


@runtime_checkable
class LabelledSource(Protocol):
    """A source that can hold labels itself; read by `--labels column`."""

    def labels(self, column: str | None) -> Iterator[tuple[int, str]]:
        """Yield (row, label) of the images that have one.

        Args:
            column: where to look; None for the place where they usually are.

        Raises:
            InputError: there is no such column, or it holds no labels.
        """
        ...


def label_text(value: object, place: str) -> str | None:
    """Return a label as text, None where there is none.

    Raises:
        InputError: `value` is neither text nor a whole number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, (bool, int)):
        return str(value)
    raise InputError(f"{place}: a label is text or a whole number, found {type(value).__name__}")
