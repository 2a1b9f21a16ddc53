"""Runs whose process died without a word: found at the next start and marked KILLED.

MLflow shows such a run as RUNNING for ever. Each command therefore holds a lock on a file in the
work folder while its runs are open, and the operating system frees the lock of a process that
dies, however it dies. A free lock whose file is still there is a command that did not end.
Commands on several hosts may share the folder.
"""

import hashlib
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from handful_training.errors import TrainingError
from handful_training.tracking.store import Store

COMMAND_TAG = "handful.process"  # the same on a command's run and on its stages
ERROR_TAG = "handful.error"
FOLDER = "open-runs"
DIED = "the process died"

_log = logging.getLogger(__name__)


class OpenRuns:
    """The commands that have runs open in one MLflow, by their files in a work folder."""

    def __init__(self, store: Store, work: Path) -> None:
        self._store = store
        self._folder = work / FOLDER
        self._here = hashlib.sha256(store.uri.encode()).hexdigest()[:12]

    @contextmanager
    def hold(self, experiment: str) -> Iterator[str]:
        """Keep the lock for the block; yields the value of `COMMAND_TAG` for its runs.

        The file goes when all went well; else the next command asks what became of the runs.
        """
        token = uuid.uuid4().hex
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._here}-{experiment}-{token}.lock"
            lock = FileLock(path)
            lock.acquire()
        except OSError:  # the work folder complains of it in its own words
            yield token
            return
        try:
            yield token
            # An answer that got lost can have made a run that nobody knows of.
            _kill(self._store, experiment, token)
            path.unlink(missing_ok=True)
        finally:
            lock.release()

    def sweep(self) -> int:
        """Mark the runs of dead commands KILLED, and return how many there were.

        What cannot be told to MLflow now is left for the next command.
        """
        killed = 0
        for path in sorted(self._folder.glob(f"{self._here}-*.lock")):
            _, experiment, token = path.stem.split("-", 2)
            lock = FileLock(path, blocking=False)
            try:
                lock.acquire()
            except (Timeout, OSError):  # alive, or somebody else's
                continue
            try:
                killed += _kill(self._store, experiment, token)
                path.unlink(missing_ok=True)
            except TrainingError as error:
                _log.debug("runs of a dead command are left as they are: %s", error)
            finally:
                lock.release()
        if killed:
            _log.info("marked %d runs of a command that died as KILLED", killed)
        return killed


def _kill(store: Store, experiment: str, token: str) -> int:
    with store.errors():
        client = store.client
        found = client.search_runs(
            [experiment],
            f"attributes.status = 'RUNNING' and tags.`{COMMAND_TAG}` = '{token}'",
        )
        for run in found:
            client.set_tag(run.info.run_id, ERROR_TAG, DIED)
            client.set_terminated(run.info.run_id, "KILLED")
    return len(found)
