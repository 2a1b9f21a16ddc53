"""Where a command keeps its work, and how a finished stage is found again.

A stage's folder is named after the content that it depends on: data, settings, code. Its
`done.json` is written last, so a stage that was interrupted is never taken for a finished one. Two
runs that want the same stage at once make it once: the second waits.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from handful_training.atomic_file import write_whole
from handful_training.errors import TrainingError

DONE = "done.json"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}

_log = logging.getLogger(__name__)


def work_folder() -> Path:
    """Return the folder for packs, encoders, heads and runs: HANDFUL_WORK, else ./handful-work."""
    return Path(os.environ.get("HANDFUL_WORK") or "handful-work").absolute()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline, with a folder of its own."""

    folder: Path
    key: str
    lock: BaseFileLock  # a killed run holds none

    def result(self) -> dict[str, Any] | None:
        """Return what `finish` wrote, or None: then it is this run that makes the stage.

        Another run that is making it is waited for.

        Raises:
            TrainingError: the folder cannot be written.
        """
        found = self._read()
        if found is not None:
            return found
        try:
            try:
                self.lock.acquire(timeout=0)
            except Timeout:
                _log.info("another run is making %s; waiting for it", self.folder)
                self.lock.acquire()
        except OSError as error:
            raise _cannot_write(self.lock.lock_file, error) from error
        found = self._read()
        if found is not None:
            self.lock.release()
        else:
            self._remove_leftovers()
        return found

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result and mark the stage as finished, atomically.

        Raises:
            TrainingError: it cannot be written.
        """
        path = self.folder / DONE
        try:
            write_whole(path, json.dumps(result, indent=1).encode())
        except OSError as error:
            raise _cannot_write(path, error) from error
        self.lock.release(force=True)

    def forget(self) -> None:
        """Take it that the stage was never finished."""
        (self.folder / DONE).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Remove what a killed run was writing: hidden until it is whole."""
        for path in self.folder.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = json.loads((self.folder / DONE).read_bytes())
        except (OSError, ValueError):
            return None
        return result


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
        stage = Stage(folder, key, FileLock(folder.with_suffix(".lock"), is_singleton=True))
        if force:
            stage.forget()
    except OSError as error:
        raise _cannot_write(work, error) from error
    return stage


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a full disk or a folder that may not be written, inside the block, into TrainingError.

    Stages that are finished, and the last checkpoint, are intact: the same command goes on there.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise _cannot_write(error.filename or "a file", error) from error


def _cannot_write(path: str | Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"cannot write {path}: {error.strerror or error}; make room there, or make it writable, "
        "or set HANDFUL_WORK to another folder, and start it again"
    )


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
