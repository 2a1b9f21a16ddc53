"""Versions of a model and the aliases that say which is served: champion, challenger, previous.

An alias is moved only to a version whose files were fetched back from the registry and passed all
checks of `Bundle.load`. `champion` is always written in one step, and last where versions advance:
whoever polls it sees the old version or the new one.
"""

import hashlib
import posixpath
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleError
from handful_bundle.manifest import Manifest
from handful_training.errors import InputError, TrainingError
from handful_training.gate import Candidate, GateDecision, OutOfFold, decide
from handful_training.tracking import models, names
from handful_training.tracking.runs import Run
from handful_training.tracking.store import Store, redacted

CHAMPION = "champion"  # served
CHALLENGER = "challenger"  # last trained
PREVIOUS = "previous"  # champion before; what `rollback` returns to
READY = "READY"
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # a missing alias is the latter


class Version(NamedTuple):
    """One version of a model."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """How MLflow names it."""
        return f"models:/{self.name}/{self.version}"


class Registry:
    """The model registry of one MLflow."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checked: set[Version] = set()  # versions whose files this process has verified

    def register(
        self, name: str, bundle_dir: Path, run: Run, *, out_of_fold: OutOfFold | None = None
    ) -> str:
        """Log the bundle with the run, make it the next version of `name`, alias `challenger`.

        The version comes into being only after its files were fetched back and checked, so that
        a version is always whole.

        Raises:
            BundleError: `bundle_dir` is not a valid bundle.
            InputError: `name` cannot be a model's name.
            TrainingError: MLflow failed; there is no new version.
        """
        names.check_name(name)
        manifest = Bundle.load(bundle_dir, device="cpu").manifest
        tags = {
            "handful.manifest": manifest_digest(bundle_dir),
            "handful.run_id": run.id,
            "handful.space": manifest.space,
        }
        if manifest.head is not None:
            tags["handful.head"] = manifest.head.digest
            tags["handful.label_count"] = str(manifest.head.label_count)
        run.flush()
        logged = models.log_bundle(self._store, run.experiment, run.id, bundle_dir, out_of_fold)
        try:
            number = self._create(name, logged.model_id, run.id, tags)
        except BaseException:
            models.discard(self._store, logged)
            raise
        self._checked.add(Version(name, number))
        newest = self._alias(name, CHALLENGER)
        if newest is None or int(newest) < int(number):  # another one may have been quicker
            self._set(name, CHALLENGER, number)
        return number

    def find(self, name: str, bundle_dir: Path) -> str | None:
        """Return the newest version that holds exactly the bundle in `bundle_dir`, if any.

        Raises:
            TrainingError: MLflow failed.
        """
        digest = manifest_digest(bundle_dir)
        with self._store.errors():
            found = self._store.client.search_model_versions(
                f"name = '{name}' and tag.`handful.manifest` = '{digest}'",
                order_by=["version_number DESC"],
                max_results=1,
            )
        return str(found[0].version) if found else None

    def consider(self, name: str, version: str) -> GateDecision:
        """Ask the gate about `version`, record its answer, promote if it says so.

        Raises:
            InputError: there is no such version.
            TrainingError: MLflow failed, or the version's files are damaged.
        """
        champion = self._alias(name, CHAMPION)
        if champion == version:
            return GateDecision(promoted=True, decided=True, reason="it is the champion already")
        decision = decide(
            None if champion is None else self._candidate(Version(name, champion)),
            self._candidate(Version(name, version)),
        )
        with self._store.errors():
            for key, text in (
                ("promoted", str(decision.promoted).lower()),
                ("decided", str(decision.decided).lower()),
                ("reason", decision.reason),
                ("against", champion or ""),
            ):
                self._store.client.set_model_version_tag(name, version, f"handful.gate.{key}", text)
        if decision.promoted:
            self.promote(name, version)
        return decision

    def promote(self, name: str, version: str) -> None:
        """Make `version` the champion; the champion until now becomes `previous`.

        Raises:
            InputError: there is no such version.
            TrainingError: MLflow failed, or the version's files are damaged; the champion stays.
        """
        wanted = self.resolve(f"{name}/{version}")
        self._check(wanted)
        champion = self._alias(name, CHAMPION)
        if champion == version:
            return
        if champion is not None:
            self._set(name, PREVIOUS, champion)
        self._set(name, CHAMPION, version)  # last: this is what the service sees

    def rollback(self, name: str) -> str:
        """Make `previous` the champion again and return it; a second rollback undoes the first.

        Raises:
            InputError: there is no previous version.
            TrainingError: MLflow failed, or the version's files are damaged; the champion stays.
        """
        champion, previous = self._alias(name, CHAMPION), self._alias(name, PREVIOUS)
        if previous is None or previous == champion:
            self.resolve(name)  # says so if there is no such model at all
            raise InputError(
                f"{name} has no previous version to return to; "
                f"`handful-train promote {name} VERSION` chooses one"
            )
        wanted = Version(name, previous)
        self._check(wanted)
        self._set(name, CHAMPION, previous)  # first: this is the urgent part
        if champion is not None:
            self._set(name, PREVIOUS, champion)
        return previous

    def resolve(self, reference: str) -> Version:
        """Return the version that NAME, NAME@ALIAS or NAME/VERSION means now.

        NAME alone is the champion, else the newest version.

        Raises:
            InputError: there is none.
            TrainingError: MLflow failed.
        """
        name, alias, number = names.parse(reference)
        if alias is not None:
            number = self._alias(name, alias)
        elif number is None:
            number = self._alias(name, CHAMPION) or self._newest(name)
        elif not self._exists(name, number):
            number = None
        if number is None:
            raise InputError(self._missing(name, reference))
        return Version(name, number)

    def download(self, name: str, version: str, work: Path) -> Path:
        """Return a folder below `work` with the bundle of the version, checked.

        Folders are named after the manifest's digest: what is there already is not fetched again.

        Raises:
            InputError: there is no such version.
            TrainingError: MLflow failed, or the version's files are damaged.
        """
        wanted = self.resolve(f"{name}/{version}")
        home = work / "bundles"
        home.mkdir(parents=True, exist_ok=True)
        place = self._place(wanted)
        manifest = models.fetch_manifest(self._store, place)
        final = home / hashlib.sha256(manifest).hexdigest()[:32]
        if _valid(final):
            return final
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as folder:
            fetched = models.fetch_bundle(self._store, place, Path(folder))
            shutil.rmtree(final, ignore_errors=True)
            try:
                fetched.rename(final)
            except OSError:
                if not _valid(final):  # else another process has just put the same one there
                    raise
        return final

    def fetch_run_file(self, version: Version, path: str, into: Path) -> Path | None:
        """Download the file `path` of the run that made the version; None where there is none.

        Raises:
            InputError: there is no such version.
            TrainingError: MLflow failed.
        """
        wanted = self.resolve(f"{version.name}/{version.version}")
        with self._store.errors():
            run_id = self._store.client.get_model_version(*wanted).run_id
            listed = self._store.client.list_artifacts(run_id, posixpath.dirname(path) or None)
            if path not in {item.path for item in listed}:
                return None
            return Path(self._store.client.download_artifacts(run_id, path, str(into)))

    def _candidate(self, version: Version) -> Candidate:
        place = self._place(version)
        try:
            labels = Manifest.model_validate_json(models.fetch_manifest(self._store, place)).labels
        except ValueError as error:
            raise TrainingError(
                f"the manifest of {version.uri} is damaged; `handful-train promote {version.name} "
                "VERSION` chooses a champion without asking the gate"
            ) from error
        if labels is None:
            return Candidate(None)
        return Candidate(labels, models.fetch_out_of_fold(self._store, place))

    def _check(self, version: Version) -> None:
        if version in self._checked:
            return
        with tempfile.TemporaryDirectory() as folder:
            models.fetch_bundle(self._store, self._place(version), Path(folder))
        self._checked.add(version)

    def _place(self, version: Version) -> str:
        with self._store.errors():
            return str(self._store.client.get_model_version_download_uri(*version))

    def _create(self, name: str, model_id: str, run_id: str, tags: dict[str, str]) -> str:
        client = self._store.client
        with self._store.errors():
            try:
                client.create_registered_model(name)
            except self._store.mlflow.exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            created = client.create_model_version(
                name, f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
            )
        return str(created.version)

    def _alias(self, name: str, alias: str) -> str | None:
        found = self._ask(lambda: self._store.client.get_model_version_by_alias(name, alias))
        return None if found is None else str(found.version)

    def _exists(self, name: str, number: str) -> bool:
        found = self._ask(lambda: self._store.client.get_model_version(name, number))
        return found is not None and found.status == READY

    def _newest(self, name: str) -> str | None:
        with self._store.errors():
            found = self._store.client.search_model_versions(
                f"name = '{name}'", order_by=["version_number DESC"], max_results=1
            )
        return str(found[0].version) if found else None

    def _set(self, name: str, alias: str, number: str) -> None:
        with self._store.errors():
            self._store.client.set_registered_model_alias(name, alias, number)

    def _ask(self, question: Any) -> Any:
        """Return MLflow's answer, None where the thing does not exist."""
        with self._store.errors():
            try:
                return question()
            except self._store.mlflow.exceptions.MlflowException as error:
                if error.error_code in GONE:
                    return None
                raise

    def _missing(self, name: str, reference: str) -> str:
        where = redacted(self._store.uri)
        newest = self._newest(name)
        if newest is None:
            return (
                f"{where} has no model {name!r}; `handful-train run IMAGES --name {name}` makes "
                "one, MLFLOW_TRACKING_URI points elsewhere"
            )
        return f"{where} has no {reference!r}; the newest is {name}/{newest}"


def manifest_digest(bundle_dir: Path) -> str:
    """Return the digest of the manifest, and with it of all that it names."""
    data = (bundle_dir / "manifest.json").read_bytes()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _valid(folder: Path) -> bool:
    try:
        Bundle.load(folder, device="cpu")
    except BundleError:
        return False
    return True
