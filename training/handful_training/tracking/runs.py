"""One run of a command in MLflow: its settings, its curves, its data, its files, how it ended."""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from handful_training.errors import TrainingError
from handful_training.tracking import fields
from handful_training.tracking.store import Store
from handful_training.tracking.system_metrics import Point, sampled

BATCH = 100  # parameters and tags per request: MLflow's limit
METRICS_BATCH = 1000  # metrics per request: MLflow's limit
FLUSH_METRICS = 500
FLUSH_SECONDS = 5.0
PATIENCE = 5  # a flush that failed after t seconds is tried again after 5 t
PARENT_TAG = "mlflow.parentRunId"  # how MLflow's page nests runs


class Run:
    """A run that is under way. Made by `Tracker.run` and `Run.child`; not for several threads.

    Metrics are collected and sent a few hundred at a time. A server that is away for a while
    costs no training: they are kept and sent later, at the latest when the run ends.
    """

    def __init__(
        self, store: Store, experiment: str, run_id: str, tags: Mapping[str, str] | None = None
    ) -> None:
        self.id = run_id
        self.experiment = experiment  # its id
        self._store = store
        self._tags = dict(tags or {})  # of every stage below it too
        self._samples: deque[Point] = deque()  # from another thread
        self._waiting: list[Point] = []
        self._notes: dict[str, str] = {}  # tags that are not sent yet
        self._nonfinite_seen: set[str] = set()
        self._failing = False
        self._due = time.monotonic() + FLUSH_SECONDS

    def params(self, values: Mapping[str, object]) -> None:
        """Record settings, nested ones under dotted names. Each may be set once.

        Raises:
            TrainingError: MLflow failed, or a setting has another value already.
        """
        entities = self._store.mlflow.entities
        flat = fields.flatten(values)
        items = [entities.Param(fields.key(k), fields.value(v)) for k, v in flat.items()]
        with self._store.errors():
            for start in range(0, len(items), BATCH):
                self._store.client.log_batch(self.id, params=items[start : start + BATCH])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; an old value is replaced.

        Raises:
            TrainingError: MLflow failed.
        """
        items = [self._store.mlflow.entities.RunTag(k, v) for k, v in values.items()]
        with self._store.errors():
            for start in range(0, len(items), BATCH):
                self._store.client.log_batch(self.id, tags=items[start : start + BATCH])

    def note(self, values: Mapping[str, str]) -> None:
        """Set tags when metrics are sent next. Never fails for want of a server, as `metrics`."""
        self._notes |= values

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Record numbers at `step`. Never fails for want of a server; the run's end does.

        One that is not finite becomes a tag `nonfinite.NAME` with the step where it first was.
        """
        finite, other = fields.split_finite(values)
        now = time.time_ns() // 1_000_000
        self._waiting += [(fields.key(k), v, now, step) for k, v in finite.items()]
        for name, number in other.items():
            if name not in self._nonfinite_seen:
                self._nonfinite_seen.add(name)
                self._notes[fields.key(f"nonfinite.{name}")] = f"{number} at step {step}"
        full = len(self._waiting) >= FLUSH_METRICS and not self._failing
        if full or time.monotonic() >= self._due:
            self._try_to_flush()

    def flush(self) -> None:
        """Send what is waiting.

        Raises:
            TrainingError: MLflow failed; what was not sent is kept.
        """
        while self._samples:
            self._waiting.append(self._samples.popleft())
        while self._waiting:
            batch = [
                self._store.mlflow.entities.Metric(*item) for item in self._waiting[:METRICS_BATCH]
            ]
            with self._store.errors():
                self._store.client.log_batch(self.id, metrics=batch)
            del self._waiting[: len(batch)]
        if self._notes:
            self.tags(self._notes)
            self._notes = {}
        self._failing = False
        self._due = time.monotonic() + FLUSH_SECONDS

    def _try_to_flush(self) -> None:
        started = time.monotonic()
        try:
            self.flush()
        except TrainingError:  # all is kept; the next flush or the run's end tries again
            self._failing = True
            took = time.monotonic() - started
            self._due = started + took + max(FLUSH_SECONDS, PATIENCE * took)

    def dataset(
        self,
        name: str,
        digest: str,
        *,
        source: str,
        context: str = "training",
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Record which data the run saw, by the digest of its content. No pixel is read.

        Args:
            name: what people call it.
            digest: "sha256:" and 64 hex digits, of the content.
            source: where it came from. Of a path only the last part is kept, of a URL neither
                credentials nor query.
            context: "training", "labels", "evaluation".
            profile: counts worth showing, such as `{"images": 60000}`.

        Raises:
            TrainingError: MLflow failed.
        """
        entities = self._store.mlflow.entities
        kind, place = fields.place(source)
        data = entities.Dataset(
            name=name[:500],
            digest=fields.dataset_digest(digest),
            source_type=kind,
            source=json.dumps({"uri": place}),
            profile=json.dumps({"digest": digest, **(profile or {})}),
        )
        tag = entities.InputTag("mlflow.data.context", context)
        with self._store.errors():
            self._store.client.log_inputs(self.id, [entities.DatasetInput(data, [tag])])

    def model(self, model_id: str) -> None:
        """Record which logged model the run took as it was.

        Raises:
            TrainingError: MLflow failed.
        """
        taken = self._store.mlflow.entities.LoggedModelInput(model_id)
        with self._store.errors():
            self._store.client.log_inputs(self.id, models=[taken])

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Record CPU, memory, disk, network and GPUs while the block runs."""
        with sampled(self._store, self.id, self._samples.append):
            yield

    def artifacts(self, path: Path, *, folder: str | None = None) -> None:
        """Keep a file, or all files of a folder, with the run (below `folder` there).

        Raises:
            TrainingError: MLflow failed.
        """
        client = self._store.client
        log = client.log_artifacts if path.is_dir() else client.log_artifact
        with self._store.errors():
            log(self.id, str(path), folder)

    @contextmanager
    def child(self, name: str, *, tags: Mapping[str, str] | None = None) -> Iterator["Run"]:
        """Open a run below this one, for one stage."""
        self.flush()
        tags = {**(tags or {}), PARENT_TAG: self.id}
        with open_run(self._store, self.experiment, name, tags, lasting=self._tags) as run:
            yield run


@contextmanager
def open_run(
    store: Store,
    experiment: str,
    name: str | None,
    tags: Mapping[str, str],
    *,
    lasting: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Open a run, and close it as FINISHED, FAILED (an error) or KILLED (an interruption).

    Args:
        store: where.
        experiment: its id.
        name: what people call it.
        tags: of this run alone.
        lasting: tags of this run and of every stage below it.
    """
    tags = {**tags, **(lasting or {})}
    with store.errors():
        created = store.client.create_run(experiment, run_name=name, tags=tags)
    run = Run(store, experiment, created.info.run_id, lasting)
    try:
        yield run
        run.flush()
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            run.flush()
            run.tags({"handful.error": type(error).__name__})
            with store.errors():
                store.client.set_terminated(run.id, status)
        except TrainingError as second:  # the first error is the one to tell
            error.add_note(f"the run {run.id} could not be marked {status}: {second}")
        raise
    with store.errors():
        store.client.set_terminated(run.id, "FINISHED")
