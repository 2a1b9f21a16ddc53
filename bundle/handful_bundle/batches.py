"""Run rows through a session: as they are on the CPU, in a few fixed batch sizes on a GPU.

Every new shape costs a GPU session memory and a stall, so there the last rows are padded up to the
next bucket. Rows never influence each other in a graph with a batch axis: the padding is cut off.
"""

import bisect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from handful_bundle import page_locked

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
GPU_BUCKETS = (*BUCKETS, 128, 256)  # a GPU takes long to fill, and copies best in large pieces
_TYPES: dict[str, type[np.uint8] | type[np.float32]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
}

Columns = list[NDArray[Any]]
Parts = Sequence[NDArray[Any]]
"""Rows in one or several arrays [n, ...], which are copied together where they are run from."""


def joined(parts: Parts) -> NDArray[Any]:
    """Return the rows of all `parts`, at least one, in one array."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def bucket_of(buckets: Sequence[int], count: int) -> int:
    """Return the least of `buckets` that holds `count` rows, which the largest does."""
    return buckets[bisect.bisect_left(buckets, count)]


class Plain:
    """Runs rows from where they are, no more of them than there are. Thread-safe.

    On the CPU, fixed buffers save nothing that can be measured, and a new shape costs nothing:
    padding would only add rows.
    """

    buckets = BUCKETS

    def __init__(self, session: ort.InferenceSession, name: str) -> None:
        self._session = session
        self._name = name

    def run(self, parts: Parts, outputs: Sequence[str]) -> Columns:
        """Return `outputs` for all rows of `parts`, 1 <= n <= the largest bucket."""
        batch = np.ascontiguousarray(joined(parts))
        found: Columns = self._session.run(list(outputs), {self._name: batch})
        return found


class _Port(NamedTuple):
    """An input or output: what one row of it is."""

    dtype: type[np.uint8] | type[np.float32]
    shape: tuple[int, ...]


class Bound:
    """Runs rows through fixed page-locked buffers, so that a batch costs one copy each way.

    Every batch size has a binding of its own to the first rows of the buffers. Not thread-safe.
    """

    buckets = GPU_BUCKETS

    def __init__(self, session: ort.InferenceSession, name: str) -> None:
        self._session = session
        self._name = name
        self._ports = {
            port.name: _Port(_TYPES[port.type], tuple(port.shape[1:]))
            for port in (*session.get_inputs(), *session.get_outputs())
        }
        self._rows = 0  # that the buffers hold
        self._buffers: dict[str, NDArray[Any]] = {}
        self._bindings: dict[tuple[int, tuple[str, ...]], ort.IOBinding] = {}

    def run(self, parts: Parts, outputs: Sequence[str]) -> Columns:
        """Return `outputs` for all rows of `parts`, 1 <= n <= the largest bucket."""
        count = sum(map(len, parts))
        bucket = bucket_of(self.buckets, count)
        if bucket > self._rows:
            self._grow(bucket)
        names = tuple(outputs)
        binding = self._bindings.get((bucket, names))
        if binding is None:
            binding = self._bindings[bucket, names] = self._bind(bucket, names)
        # What an earlier batch left behind the rows may stay: it is computed and cut off.
        given = self._buffer(self._name)
        _copy(parts, given)
        binding.bind_cpu_input(self._name, given[:bucket])  # begins to copy to the device
        binding.synchronize_inputs()  # from page-locked memory, copies go on by themselves
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return [self._buffer(output)[:count].copy() for output in names]

    def _grow(self, rows: int) -> None:
        self._bindings.clear()
        self._buffers.clear()
        self._rows = rows

    def _buffer(self, name: str) -> NDArray[Any]:
        found = self._buffers.get(name)
        if found is None:
            port = self._ports[name]
            shape = (self._rows, *port.shape)
            found = self._buffers[name] = page_locked.empty(shape, port.dtype)
        return found

    def _bind(self, bucket: int, outputs: Sequence[str]) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name in outputs:
            buffer = self._buffer(name)[:bucket]
            binding.bind_output(
                name, "cpu", 0, self._ports[name].dtype, buffer.shape, buffer.ctypes.data
            )
        return binding


def _copy(parts: Parts, target: NDArray[Any]) -> None:
    start = 0
    for part in parts:
        target[start : start + len(part)] = part
        start += len(part)
