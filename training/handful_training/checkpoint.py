"""A training state on disk: whole or not at all, and never believed unseen.

The file is what `torch.save` writes, followed by its SHA-256. torch reads over the digest, but
would also read over a flipped bit among the weights: it checks no sums.
"""

import hashlib
import io
import logging
import time
from pathlib import Path
from typing import Any

import torch

from handful_training.atomic_file import write_whole
from handful_training.errors import TrainingError

FORMAT = 1  # raise it when what a state holds changes; other formats are trained anew
_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path` atomically.

    Raises:
        TrainingError: the file cannot be written; what stood at `path` before is intact.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    try:
        write_whole(path, content + hashlib.sha256(content).digest())
    except OSError as error:
        kept = f"; the last good checkpoint is {path}" if path.exists() else ""
        raise TrainingError(
            f"cannot write {path} ({error.strerror or error}); make room there or set "
            f"HANDFUL_WORK to another folder{kept}"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values, no code.

    Raises:
        TrainingError: not a checkpoint, or damaged.
    """
    try:
        data = path.read_bytes()
        content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("its digest does not fit")  # noqa: TRY301 - told with the others
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
    except Exception as error:  # torch.load raises whatever its reader stumbles on
        raise TrainingError(
            f"{path} is damaged or no checkpoint; remove it and train again"
        ) from error
    return state


class Keeper:
    """Keeps the state of one training at one place, and finds it again."""

    def __init__(self, path: Path, identity: dict[str, Any], every_seconds: float) -> None:
        """Start the clock.

        Args:
            path: of the checkpoint.
            identity: what the training is of; a state of anything else is not continued.
            every_seconds: how often `due` says so.
        """
        self.path = path
        self._identity = {"format": FORMAT, **identity}
        self._every = every_seconds
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._saved_at > self._every

    def load(self) -> dict[str, Any] | None:
        """Return the state to continue from, or None, and say so where there was one in vain."""
        if not self.path.exists():
            return None
        try:
            state = load_checkpoint(self.path)
        except TrainingError:
            _log.warning("%s is damaged; the training starts over", self.path)
            return None
        if state.get("identity") != self._identity:
            _log.warning("%s is of another training; this one starts over", self.path)
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the state.

        Raises:
            TrainingError: it cannot be written; the checkpoint before it is intact.
        """
        self._saved_at = time.monotonic()  # also of a failure: the next try waits its turn
        save_checkpoint(self.path, {"identity": self._identity, **state})

    def try_to_save(self, state: dict[str, Any]) -> None:
        """Write the state, or warn and leave it to the next time: a full disk may be emptied."""
        try:
            self.save(state)
        except TrainingError as error:
            _log.warning("%s; the training goes on and tries again later", error)
