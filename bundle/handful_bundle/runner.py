"""One graph on one device: runs any number of rows, and recovers where the device lets it.

Out of memory: once more in halves, else `DeviceOutOfMemory`; after three of those in a row the
session is opened anew, which gives back what its arena held. A device that has failed for good:
`DeviceFailed`, from then on always. Other errors are the rows' own, unless the device that ran
rows of zeros before does not do so any more.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from handful_bundle.batches import Bound, Columns, Parts, Plain, bucket_of, joined
from handful_bundle.device_errors import trouble
from handful_bundle.errors import DeviceFailed, DeviceOutOfMemory
from handful_bundle.session import Device, Provider, open_session, provider

REOPEN_AFTER = 3  # batches in a row that did not fit, not even in halves

_log = logging.getLogger(__name__)


class Runner:
    """Runs rows through one graph. Thread-safe; on a GPU one batch at a time.

    Args:
        session: a graph of one input with a leading batch axis.
        reopen: opens the graph again; None: it need not be, on the CPU.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        reopen: Callable[[], ort.InferenceSession] | None = None,
    ) -> None:
        (port,) = session.get_inputs()
        self._name: str = port.name
        self._zeros = np.zeros(
            (1, *port.shape[1:]), np.uint8 if port.type == "tensor(uint8)" else np.float32
        )
        self.outputs: tuple[str, ...] = tuple(port.name for port in session.get_outputs())
        self.provider: Provider = provider(session)
        self._reopen = reopen
        self._lock = threading.RLock()
        self._way: Plain | Bound | None = self._way_of(session)
        self._buckets = self._way.buckets
        self._ran_zeros = False
        self._shortages = 0  # in a row
        self._failure: str | None = None

    @classmethod
    def open(
        cls,
        model: bytes,
        device: Device = "auto",
        threads: int | None = None,
        gpu_memory_bytes: int | None = None,
    ) -> "Runner":
        """Open a graph that has been checked; for the arguments see `open_session`."""
        session = open_session(model, device, threads, gpu_memory_bytes)
        if provider(session) == "cpu":
            return cls(session)
        return cls(session, lambda: open_session(model, "cuda", threads, gpu_memory_bytes))

    def __call__(self, parts: Parts, outputs: Sequence[str]) -> Columns:
        """Return `outputs` for the N >= 0 rows of all `parts`, each [N, ...].

        Raises:
            DeviceOutOfMemory: not even halves of a batch fit.
            DeviceFailed: nothing runs in this process any more.
        """
        count = sum(map(len, parts))
        if count == 0:  # shapes are fixed but for the batch axis, so one row tells them
            return [part[:0] for part in self._recovering([self._zeros], outputs)]
        step = self._buckets[-1]
        if count <= step:
            return self._recovering(parts, outputs)
        rows = joined(parts)
        starts = range(0, count, step)
        return _stacked([self._recovering([rows[i : i + step]], outputs) for i in starts])

    def warm_up(self, rows: int) -> None:
        """Run every batch size that `rows` rows or fewer need once, so that no request pays for it.

        The largest first: the smaller ones then find memory that is large enough.
        """
        largest = bucket_of(self._buckets, min(rows, self._buckets[-1]))
        for size in reversed(self._buckets):
            if size <= largest:
                self([np.repeat(self._zeros, size, axis=0)], self.outputs)
        self._ran_zeros = True

    def _way_of(self, session: ort.InferenceSession) -> Plain | Bound:
        return (Plain if self.provider == "cpu" else Bound)(session, self._name)

    def _run(self, parts: Parts, outputs: Sequence[str]) -> Columns:
        if self._failure is not None:
            raise DeviceFailed(self._failure)
        if isinstance(self._way, Plain):
            return self._way.run(parts, outputs)
        with self._lock:
            if self._way is None:
                assert self._reopen is not None
                self._way = self._way_of(self._reopen())
            return self._way.run(parts, outputs)

    def _recovering(self, parts: Parts, outputs: Sequence[str]) -> Columns:
        try:
            found = self._run(parts, outputs)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises its own unrelated classes
            return self._recovered(joined(parts), outputs, error)
        self._shortages = 0
        return found

    def _recovered(self, rows: NDArray[Any], outputs: Sequence[str], error: Exception) -> Columns:
        if trouble(error) == "memory" and len(rows) > 1:
            _log.warning(
                "%d rows do not fit the device's memory; running them in halves", len(rows)
            )
            middle = (len(rows) + 1) // 2
            try:
                return _stacked([self._run([half], outputs) for half in np.split(rows, [middle])])
            except Exception as again:  # noqa: BLE001 - as above
                error = again
        kind = trouble(error)
        if kind == "memory":
            # The frames that failed hold the session, and with it all that its arena has taken.
            for raised in (error, error.__context__):
                if raised is not None:
                    traceback.clear_frames(raised.__traceback__)
            self._forget_session_if_short_again()
            raise DeviceOutOfMemory(
                f"{len(rows)} rows do not fit the memory of the {self.provider} device, nor do "
                "halves of them; lower HANDFUL_MAX_BATCH, or free memory on the device"
            ) from error
        if kind == "fatal" or not self._still_runs():
            self._failure = (
                "the device has failed and answers nothing in this process any more; start it anew"
            )
            raise DeviceFailed(self._failure) from error
        raise error

    def _forget_session_if_short_again(self) -> None:
        self._shortages += 1
        if self._shortages < REOPEN_AFTER or self._reopen is None:
            return
        _log.warning("%d batches in a row did not fit; opening the graph anew", self._shortages)
        with self._lock:
            self._shortages = 0
            self._way = None

    def _still_runs(self) -> bool:
        """Whether rows of zeros still run where they ran before; errors of a CPU do not last."""
        if self._reopen is None or not self._ran_zeros:
            return True
        try:
            self._run([self._zeros], self.outputs)
        except Exception as error:  # noqa: BLE001 - as above
            return trouble(error) == "memory"
        return True


def _stacked(batches: list[Columns]) -> Columns:
    return [np.concatenate(columns) for columns in zip(*batches, strict=True)]
