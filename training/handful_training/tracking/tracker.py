"""Where a command's runs and versions go: one MLflow, one door."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from handful_training.tracking.abandoned import COMMAND_TAG, OpenRuns
from handful_training.tracking.names import check_name
from handful_training.tracking.registry import Registry
from handful_training.tracking.runs import Run, open_run
from handful_training.tracking.store import Store, redacted


@dataclass(frozen=True)
class Tracker:
    """MLflow, opened: `run` records work, `registry` keeps what came of it."""

    registry: Registry
    _store: Store
    _open_runs: OpenRuns | None = None

    @classmethod
    def open(cls, uri: str | None = None, *, work: Path | None = None) -> Self:
        """Connect to `uri`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder.

        Args:
            uri: where MLflow is.
            work: the work folder; runs of commands that died in it are marked KILLED.

        Raises:
            TrainingError: it does not answer within seconds.
        """
        store = Store.open(uri)
        if work is None:
            return cls(Registry(store), store)
        open_runs = OpenRuns(store, work)
        open_runs.sweep()
        return cls(Registry(store), store, open_runs)

    @property
    def uri(self) -> str:
        """Where everything is kept, without credentials."""
        return redacted(self._store.uri)

    @contextmanager
    def run(
        self, name: str, *, title: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[Run]:
        """Open a run in the experiment `handful/NAME`; it ends with the block.

        An error inside marks it FAILED, an interruption KILLED.

        Args:
            name: the model's NAME.
            title: what MLflow's page calls the run; by default it thinks of something.
            tags: see `origin`.

        Raises:
            InputError: `name` cannot be a model's name.
            TrainingError: MLflow failed.
        """
        experiment = self._store.experiment(f"handful/{check_name(name)}")
        if self._open_runs is None:
            with open_run(self._store, experiment, title, tags or {}) as run:
                yield run
            return
        with (
            self._open_runs.hold(experiment) as token,
            open_run(
                self._store, experiment, title, tags or {}, lasting={COMMAND_TAG: token}
            ) as run,
        ):
            yield run
