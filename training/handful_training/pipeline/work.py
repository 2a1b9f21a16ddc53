"""Where a command keeps its work, and how a finished stage is found again.

A stage's folder is named after the content that it depends on: data, settings, code. Its
`done.json` is written last, so a stage that was interrupted is never taken for a finished one.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from handful_training.errors import TrainingError

DONE = "done.json"


def work_folder() -> Path:
    """Return the folder for packs, encoders, heads and runs: HANDFUL_WORK, else ./handful-work."""
    return Path(os.environ.get("HANDFUL_WORK") or "handful-work").absolute()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline, with a folder of its own."""

    folder: Path
    key: str

    def result(self) -> dict[str, Any] | None:
        """Return what `finish` wrote, or None if the stage has not been finished."""
        try:
            result: dict[str, Any] = json.loads((self.folder / DONE).read_bytes())
        except (OSError, ValueError):
            return None
        return result

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result and mark the stage as finished, atomically.

        Raises:
            TrainingError: it cannot be written.
        """
        path = self.folder / DONE
        temporary = path.with_name(f".{DONE}.{os.getpid()}.tmp")
        try:
            with temporary.open("w") as file:
                json.dump(result, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"cannot write {path} ({error}); free some space or set HANDFUL_WORK"
            ) from error


def open_stage(work: Path, kind: str, depends_on: dict[str, Any], *, force: bool = False) -> Stage:
    """Return the stage whose content is `depends_on`, with its folder.

    Args:
        work: the work folder.
        kind: plural noun, the folder that stages of this kind share.
        depends_on: everything that the outcome depends on, as JSON values.
        force: forget an earlier outcome.

    Raises:
        TrainingError: the folder cannot be made.
    """
    text = json.dumps(depends_on, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = work / kind / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if force:
            (folder / DONE).unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(
            f"cannot write to {work} ({error}); make it writable or set HANDFUL_WORK"
        ) from error
    return Stage(folder, key)


def code_digest(*modules: ModuleType) -> str:
    """Return a digest of the modules' source: what they do changes with it."""
    digest = hashlib.sha256()
    for module in modules:
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return "sha256:" and the hex digest of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
