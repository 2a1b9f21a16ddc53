"""Run any number of rows through a session in a few fixed batch sizes.

Every new shape costs a GPU session memory and a stall, so the last rows are padded up to the next
bucket. Rows never influence each other in a graph with a batch axis, so the padding is cut off.
"""

import bisect
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

BUCKETS = (1, 2, 4, 8, 16, 32, 64)


def run_padded(
    session: ort.InferenceSession, name: str, rows: NDArray[Any], outputs: list[str]
) -> list[NDArray[np.float32]]:
    """Return `outputs` of `session` for `rows`, each with as many rows as came in.

    Args:
        session: a graph whose only input is `name`, with a leading batch axis.
        name: the input's name.
        rows: [N, ...], N >= 0, of the input's type.
        outputs: which outputs to return, in this order.
    """
    if len(rows) == 0:
        # Shapes are fixed but for the batch axis, so one row of zeros tells them.
        one = np.zeros((1, *rows.shape[1:]), rows.dtype)
        return [part[:0] for part in session.run(outputs, {name: one})]
    parts = [
        [out[:count] for out in session.run(outputs, {name: batch})]
        for batch, count in _padded(rows)
    ]
    if len(parts) == 1:
        return parts[0]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _padded(rows: NDArray[Any]) -> Iterator[tuple[NDArray[Any], int]]:
    for start in range(0, len(rows), BUCKETS[-1]):
        batch = np.ascontiguousarray(rows[start : start + BUCKETS[-1]])
        count = len(batch)
        bucket = BUCKETS[bisect.bisect_left(BUCKETS, count)]
        if bucket > count:
            padding = np.zeros((bucket - count, *batch.shape[1:]), batch.dtype)
            batch = np.concatenate([batch, padding])
        yield batch, count
