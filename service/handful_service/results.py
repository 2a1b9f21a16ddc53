"""What became of the items of one request: columns for those that were computed, else errors."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_service.errors import ServiceError
from handful_service.work import Columns

FIRST = np.zeros(1, np.intp)
"""The index of one item alone."""
FIRST.flags.writeable = False

_NONE = np.empty(0, np.intp)
_FEW_NUMBERS = 2**12  # up to which the product below takes a third of the time


@dataclass
class Results:
    """What became of the items of one request."""

    count: int  # of items
    columns: Columns = ()  # each [n, ...]: the items that were computed, in their order
    index: NDArray[np.intp] = field(default_factory=lambda: _NONE)  # [n] their items
    errors: dict[int, ServiceError] = field(default_factory=dict)  # item → why it has no row

    def reject_nonfinite(self, *columns: int) -> None:
        """Turn rows that are not finite in one of `columns` into errors of their items."""
        if all(_is_finite(self.columns[column]) for column in columns):
            return  # as ever
        good = np.ones(len(self.index), bool)
        for column in columns:
            values = self.columns[column]
            good &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        self.keep(good)

    def keep(self, good: NDArray[np.bool_]) -> None:
        """Turn the rows that are not `good`, [n], into errors of their items."""
        if good.all():
            return
        for item in self.index[~good]:
            self.errors[int(item)] = ServiceError(
                "nonfinite_output", "The model's output for this item is not finite."
            )
        self.columns = tuple(column[good] for column in self.columns)
        self.index = self.index[good]


def _is_finite(values: NDArray[Any]) -> bool:
    # What is not finite stays so in a sum of squares; a sum that overflows is looked at again.
    if values.size <= _FEW_NUMBERS and math.isfinite(np.vdot(values, values)):
        return True
    return bool(np.isfinite(values).all())
