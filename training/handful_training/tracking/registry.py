"""Versions of a model: made whole or not at all, judged by the gate, fetched again.

An alias is moved only to a version whose files were fetched back from the registry and passed all
checks of `Bundle.load`. A connection that is lost at any point leaves what there was, and perhaps
a whole version without an alias, which the next attempt finds.
"""

import hashlib
import posixpath
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleError
from handful_bundle.manifest import Manifest
from handful_training.errors import InputError, TrainingError
from handful_training.gate import Candidate, GateDecision, OutOfFold, decide
from handful_training.tracking import lineage, models, names
from handful_training.tracking.aliases import CHAMPION, GONE, Aliases
from handful_training.tracking.models import Logged
from handful_training.tracking.runs import Run
from handful_training.tracking.store import Store, redacted

READY = "READY"
REFUSED_TAG = "handful.refused"  # why a version may not be promoted by the gate
LOGGED = f"{names.PREFIX}m-"  # how the source of a version names the logged model


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
        self._aliases = Aliases(store)
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
            TrainingError: MLflow failed. There is no new version, or a whole one without an alias,
                which `find` finds.
        """
        names.check_name(name)
        manifest = Bundle.load(bundle_dir, device="cpu").manifest
        digest = lineage.manifest_digest(bundle_dir)
        run.flush()
        encoder_run = self.encoder_run(name, manifest.space) or run.id
        tags = lineage.version_tags(manifest, digest, run.id, encoder_run)
        about = lineage.describe(manifest, run.id, encoder_run)
        logged = models.log_bundle(self._store, run.experiment, run.id, bundle_dir, out_of_fold)
        number = self._create(name, logged, run.id, tags, about)
        self._checked.add(Version(name, number))
        models.discard_leftovers(self._store, run.experiment, run.id, digest)
        self._aliases.point_challenger(name)
        run.tags(
            {
                "handful.model_version": f"{name}/{number}",
                lineage.SPACE_TAG: manifest.space,
                lineage.ENCODER_RUN_TAG: encoder_run,
            }
        )
        return number

    def find(self, name: str, bundle_dir: Path) -> str | None:
        """Return the newest version that holds exactly the bundle in `bundle_dir`, if any.

        Raises:
            TrainingError: MLflow failed.
        """
        digest = lineage.manifest_digest(bundle_dir)
        with self._store.errors():
            found = self._store.client.search_model_versions(
                f"name = '{name}' and tag.`{lineage.MANIFEST_TAG}` = '{digest}'",
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
        self._aliases.point_challenger(name)  # an attempt that was cut off may not have come to it
        while True:
            champion = self._aliases.get(name, CHAMPION)
            if champion == version:
                return GateDecision(
                    promoted=True, decided=True, reason="it is the champion already"
                )
            decision = self._judge(name, version, champion)
            if not decision.promoted:
                return decision
            if self._aliases.get(name, CHAMPION) == champion:
                self.promote(name, version)
                return decision
            # Another command was quicker: now it is that one's champion to beat.

    def promote(self, name: str, version: str) -> None:
        """Make `version` the champion; the champion until now becomes `previous`.

        Raises:
            InputError: there is no such version.
            TrainingError: MLflow failed, or the version's files are damaged; the champion stays.
        """
        self._check(self.resolve(f"{name}/{version}"))
        self._aliases.advance(name, version)

    def rollback(self, name: str) -> str:
        """Make `previous` the champion again and return it; a second rollback undoes the first.

        The gate never promotes the version that was turned away from, nor a new one with the same
        encoder and head; `promote` does.

        Raises:
            InputError: there is no previous version.
            TrainingError: MLflow failed, or the version's files are damaged; the champion stays.
        """
        self.resolve(name)  # says so if there is no such model at all
        previous = self._aliases.previous(name)
        if previous is None:
            raise InputError(
                f"{name} has no previous version to return to; "
                f"`handful-train promote {name} VERSION` chooses one"
            )
        self._check(Version(name, previous))
        self._aliases.turn_back(name, previous)
        return previous

    def used(self, version: Version, run: Run) -> None:
        """Note with `run` that it took its encoder, or all of its bundle, from `version`.

        Raises:
            TrainingError: MLflow failed.
        """
        with self._store.errors():
            source = str(self._store.client.get_model_version(*version).source)
        if source.startswith(LOGGED):
            run.model(source.removeprefix(names.PREFIX))
        run.tags({"handful.from_version": f"{version.name}/{version.version}"})

    def resolve(self, reference: str) -> Version:
        """Return the version that NAME, NAME@ALIAS or NAME/VERSION means now.

        NAME alone is the champion, else the newest version.

        Raises:
            InputError: there is none.
            TrainingError: MLflow failed.
        """
        name, alias, number = names.parse(reference)
        if alias is not None:
            number = self._aliases.get(name, alias)
        elif number is None:
            number = self._aliases.get(name, CHAMPION) or self._aliases.newest(name)
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

    def seen(self, version: Version) -> tuple[str, ...]:
        """Return the keys of the labelled images that the version's encoder was adapted to.

        Raises:
            TrainingError: MLflow failed.
        """
        known = models.fetch_out_of_fold(self._store, self._place(version))
        return () if known is None else known.seen

    def refuse(self, version: Version, reason: str) -> None:
        """Have the gate refuse `version` from now on; `promote` can still force it.

        Raises:
            TrainingError: MLflow failed.
        """
        with self._store.errors():
            self._store.client.set_model_version_tag(*version, REFUSED_TAG, reason)

    def refusal(self, version: Version) -> str | None:
        """Return why `version` was refused; None if it was not, or is the champion all the same.

        Raises:
            TrainingError: MLflow failed.
        """
        with self._store.errors():
            tags = self._store.client.get_model_version(*version).tags
        if REFUSED_TAG not in tags or self._aliases.get(version.name, CHAMPION) == version.version:
            return None
        return str(tags[REFUSED_TAG])

    def fetch_run_file(
        self, version: Version, path: str, into: Path, *, of_encoder: bool = False
    ) -> Path | None:
        """Download the file `path` of the run that made the version; None where there is none.

        With `of_encoder`, of the run that brought its encoder into the model.

        Raises:
            InputError: there is no such version.
            TrainingError: MLflow failed.
        """
        wanted = self.resolve(f"{version.name}/{version.version}")
        with self._store.errors():
            made = self._store.client.get_model_version(*wanted)
            run_id = made.tags.get(lineage.ENCODER_RUN_TAG) if of_encoder else None
            run_id = run_id or made.run_id
            listed = self._store.client.list_artifacts(run_id, posixpath.dirname(path) or None)
            if path not in {item.path for item in listed}:
                return None
            return Path(self._store.client.download_artifacts(run_id, path, str(into)))

    def _judge(self, name: str, version: str, champion: str | None) -> GateDecision:
        """Ask the gate and write its answer to the version."""
        if (known := self._aliases.rolled_back(name, version)) is not None:
            what = "it" if known == version else f"version {known}, with the same encoder and head,"
            decision = GateDecision(
                promoted=False,
                decided=True,
                reason=f"{what} was rolled back; `handful-train promote {name} {version}` "
                "makes it champion all the same",
            )
        elif (why := self.refusal(Version(name, version))) is not None:
            decision = GateDecision(
                promoted=False,
                decided=True,
                reason=f"{why}; `handful-train promote {name} {version}` makes it champion all the "
                "same",
            )
        else:
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
        return decision

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

    def encoder_run(self, name: str, space: str) -> str | None:
        """Return the run that brought the encoder of `space` into the model, if one did.

        Raises:
            TrainingError: MLflow failed.
        """
        with self._store.errors():
            found = self._store.client.search_model_versions(
                f"name = '{name}' and tag.`{lineage.SPACE_TAG}` = '{space}'",
                order_by=["version_number ASC"],
                max_results=1,
            )
        return str(found[0].tags.get(lineage.ENCODER_RUN_TAG, found[0].run_id)) if found else None

    def _create(
        self, name: str, logged: Logged, run_id: str, tags: dict[str, str], about: str
    ) -> str:
        """Make exactly one version of a logged model, also where an answer is lost."""
        source = f"{names.PREFIX}{logged.model_id}"
        try:
            with self._store.errors():
                self._create_model(name)
                self._store.client.create_model_version(
                    name,
                    source,
                    run_id=run_id,
                    tags=tags,
                    description=about,
                    model_id=logged.model_id,
                )
        except TrainingError:
            if not self._made(source):  # if MLflow cannot be asked, a version may need the files
                models.discard(self._store, logged.model_id)
                raise
        first, *again = self._made(source)
        for number in again:  # MLflow repeats a request whose answer did not come
            with self._store.errors():
                self._store.client.delete_model_version(name, number)
        return first

    def _create_model(self, name: str) -> None:
        try:
            self._store.client.create_registered_model(name)
        except self._store.mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _made(self, source: str) -> list[str]:
        """Return the versions of a logged model, the first one first."""
        with self._store.errors():
            found = self._store.client.search_model_versions(f"source_path = '{source}'")
        return sorted((str(one.version) for one in found), key=int)

    def _exists(self, name: str, number: str) -> bool:
        found = self._store.ask(lambda client: client.get_model_version(name, number), absent=GONE)
        return found is not None and found.status == READY

    def _missing(self, name: str, reference: str) -> str:
        where = redacted(self._store.uri)
        newest = self._aliases.newest(name)
        if newest is None:
            return (
                f"{where} has no model {name!r}; `handful-train run IMAGES --name {name}` makes "
                "one, MLFLOW_TRACKING_URI points elsewhere"
            )
        return f"{where} has no {reference!r}; the newest is {name}/{newest}"


def _valid(folder: Path) -> bool:
    try:
        Bundle.load(folder, device="cpu")
    except BundleError:
        return False
    return True
