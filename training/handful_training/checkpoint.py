"""A training state on disk: whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch

from handful_training.errors import TrainingError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path` atomically.

    Raises:
        TrainingError: the file cannot be written; what stood at `path` before is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        temporary.unlink(missing_ok=True)
        kept = f"; the last good checkpoint is {path}" if path.exists() else ""
        raise TrainingError(
            f"cannot write {path} ({error}); free some space or name another work folder{kept}"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values, no code.

    Raises:
        TrainingError: not a checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its reader stumbles on
        raise TrainingError(f"{path} is not a checkpoint; remove it and train again") from error
    return state
