"""Versions and aliases in a real registry on sqlite."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleCorrupt
from handful_training.errors import InputError, TrainingError
from handful_training.tracking import Version, models
from handful_training.tracking.lineage import manifest_digest

RIGHT, WRONG = [True] * 12, [False] * 12


@pytest.fixture
def aliases(tracker):
    """Return the function that reads all aliases of a model."""

    def read() -> dict[str, str]:
        found = tracker._store.client.get_registered_model("animals").aliases
        return {alias: str(number) for alias, number in found.items()}

    return read


@pytest.fixture
def files(tracker):
    """Return the function that gives the folder where MLflow keeps a version's files."""

    def find(name: str, version: str) -> Path:
        place = tracker._store.client.get_model_version_download_uri(name, version)
        return Path(place.removeprefix("file://"))

    return find


def test_a_version_tells_what_it_is(tracker, register, bundle_dir):
    """Tags name space, head, manifest, run and label count; the run and model are linked."""
    number = register(tracker)
    manifest = Bundle.load(bundle_dir).manifest
    found = tracker._store.client.get_model_version("animals", number)
    assert found.tags == {
        "handful.encoder_run_id": found.run_id,
        "handful.head": manifest.head.digest,
        "handful.label_count": "15",
        "handful.manifest": manifest_digest(bundle_dir),
        "handful.run_id": found.run_id,
        "handful.space": manifest.space,
    }
    assert found.status == "READY"
    model = tracker._store.client.get_logged_model(found.source.removeprefix("models:/"))
    assert (model.source_run_id, model.status) == (found.run_id, "READY")
    assert "mlflow.user" not in model.tags


def test_a_version_holds_no_pickle_and_no_home(tracker, register, files, out_of_fold):
    """What is stored is the bundle, code as text and plain arrays, with no path of ours."""
    root = files("animals", register(tracker, out_of_fold=out_of_fold(RIGHT)))
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".pkl", ".pyc", ".joblib"))]
    assert {"MLmodel", "pyfunc.py", "requirements.txt", "input_example.json",
            "code/handful_bundle/pixels.py", "artifacts/bundle/manifest.json",
            "artifacts/out_of_fold.npz"} <= names  # fmt: skip
    model = (root / "MLmodel").read_text()
    assert "cat" in model  # the signature names the classes
    assert str(Path(models.__file__).parents[3]) not in model
    pins = (root / "requirements.txt").read_text()
    for name in ("onnxruntime-gpu==", "onnxruntime==", "numpy==", "simplejpeg==", "mlflow=="):
        assert name in pins


def test_logging_leaves_the_import_path_alone(tracker, register):
    """MLflow puts a copy of handful_bundle first on the path to try a model out; it is undone."""
    before = list(sys.path)
    register(tracker)
    assert sys.path == before


def test_the_first_version_becomes_champion(tracker, register, aliases):
    """With nothing to compare, the first valid version is served."""
    number = register(tracker)
    assert aliases() == {"challenger": number}
    decision = tracker.registry.consider("animals", number)
    assert (decision.promoted, decision.decided) == (True, True)
    assert tracker.registry.resolve("animals") == Version("animals", number)
    assert tracker.registry.resolve("animals@champion").version == number


def test_the_gate_keeps_a_worse_version_out(tracker, register, out_of_fold):
    """A version that is worse on the same images stays challenger; its tags say why."""
    good = register(tracker, out_of_fold=out_of_fold(RIGHT))
    tracker.registry.consider("animals", good)
    bad = register(tracker, out_of_fold=out_of_fold(WRONG))
    decision = tracker.registry.consider("animals", bad)
    assert (decision.promoted, decision.decided, decision.champion_only) == (False, True, 12)
    assert tracker.registry.resolve("animals").version == good
    assert tracker.registry.resolve("animals@challenger").version == bad
    tags = tracker._store.client.get_model_version("animals", bad).tags
    assert tags["handful.gate.promoted"] == "false"
    assert tags["handful.gate.against"] == good
    assert tags["handful.gate.reason"] == decision.reason


def test_the_gate_lets_a_better_version_in(tracker, register, out_of_fold):
    """A version that is better becomes champion and the old one `previous`."""
    old = register(tracker, out_of_fold=out_of_fold(WRONG))
    tracker.registry.consider("animals", old)
    new = register(tracker, out_of_fold=out_of_fold(RIGHT))
    assert tracker.registry.consider("animals", new).promoted
    assert tracker.registry.resolve("animals@champion").version == new
    assert tracker.registry.resolve("animals@previous").version == old


def test_an_encoder_alone_never_replaces_a_classifier(tracker, register, make_bundle, tmp_path):
    """A version without a head would end /classify: it is kept, not served."""
    bare = make_bundle(tmp_path / "bare", with_head=False)
    first = register(tracker, bundle=bare)
    assert tracker.registry.consider("animals", first).promoted
    second = register(tracker)
    assert tracker.registry.consider("animals", second).promoted
    third = register(tracker, bundle=bare)
    assert not tracker.registry.consider("animals", third).promoted
    assert tracker.registry.resolve("animals").version == second


def test_considering_the_champion_again_changes_nothing(tracker, register, aliases):
    """The gate may be asked twice."""
    number = register(tracker)
    tracker.registry.consider("animals", number)
    before = aliases()
    assert tracker.registry.consider("animals", number).promoted
    tracker.registry.promote("animals", number)
    assert aliases() == before


def test_rollback_swaps_and_swaps_back(tracker, register):
    """A rollback returns to the champion before; a second one undoes it."""
    registry = tracker.registry
    first, second = register(tracker), register(tracker)
    registry.promote("animals", first)
    registry.promote("animals", second)
    assert registry.rollback("animals") == first
    assert registry.resolve("animals@champion").version == first
    assert registry.resolve("animals@previous").version == second
    assert registry.rollback("animals") == second
    assert registry.resolve("animals@previous").version == first


def test_rollback_without_a_previous_version_says_what_to_do(tracker, register):
    """With nothing to return to, the message names `promote`, or the model that is missing."""
    tracker.registry.promote("animals", register(tracker))
    with pytest.raises(InputError, match="handful-train promote animals"):
        tracker.registry.rollback("animals")
    with pytest.raises(InputError, match="handful-train run"):
        tracker.registry.rollback("plants")


def test_what_was_rolled_back_does_not_come_back_by_itself(
    tracker, register, out_of_fold, make_bundle, tmp_path
):
    """The gate refuses the version, and a new one with the same encoder and head, with the command
    that overrules it; another head is judged as ever.
    """
    registry = tracker.registry
    first = register(tracker, bundle=make_bundle(tmp_path / "0", head_seed=1))
    registry.consider("animals", first)
    bad = register(tracker, out_of_fold=out_of_fold(RIGHT))
    assert registry.consider("animals", bad).promoted
    assert registry.rollback("animals") == first
    same = register(tracker, out_of_fold=out_of_fold(RIGHT))
    for version in (bad, same):
        decision = registry.consider("animals", version)
        assert (decision.promoted, decision.decided) == (False, True)
        assert f"handful-train promote animals {version}" in decision.reason
    assert registry.resolve("animals").version == first
    other = register(tracker, bundle=make_bundle(tmp_path / "1", head_seed=2))
    assert registry.consider("animals", other).promoted
    registry.promote("animals", bad)
    assert registry.consider("animals", bad).promoted  # a person's word counts
    assert registry.rollback("animals") == other


def test_previous_is_found_again_where_it_was_lost(tracker, register, aliases):
    """A promotion that was cut off can leave `previous` on the champion: the champion before is
    known from the versions themselves.
    """
    registry = tracker.registry
    first, second, third = (register(tracker) for _ in range(3))
    for version in (first, second):
        registry.promote("animals", version)
    tracker._store.client.set_registered_model_alias("animals", "previous", second)
    assert registry.rollback("animals") == first
    tracker._store.client.delete_registered_model_alias("animals", "previous")
    registry.promote("animals", third)
    assert aliases() == {"champion": third, "previous": first, "challenger": third}


def test_a_name_alone_is_the_champion_else_the_newest(tracker, register):
    """NAME means the champion; before there is one, the version with the highest number."""
    numbers = [register(tracker) for _ in range(3)]
    assert tracker.registry.resolve("animals").version == numbers[-1]
    tracker.registry.promote("animals", numbers[0])
    assert tracker.registry.resolve("models:/animals").version == numbers[0]
    assert tracker.registry.resolve("animals/2") == Version("animals", "2")


@pytest.mark.parametrize("reference", ["plants", "animals@previous", "animals/9", "animals/99999"])
def test_what_does_not_exist_is_named(tracker, register, reference):
    """A missing model, alias or version is bad input, and the message says what there is."""
    register(tracker)
    with pytest.raises(InputError, match=r"newest is animals/1|handful-train run"):
        tracker.registry.resolve(reference)


def test_downloads_are_kept_by_content(tracker, register, bundle_dir, tmp_path, make_bundle):
    """Versions of the same bundle share a folder, another bundle gets its own; all are checked."""
    same = [tracker.registry.download("animals", register(tracker), tmp_path) for _ in range(2)]
    assert same[0] == same[1]
    assert Bundle.load(same[0]).manifest == Bundle.load(bundle_dir).manifest
    other = register(tracker, bundle=make_bundle(tmp_path / "other", head_seed=1))
    assert tracker.registry.download("animals", other, tmp_path) != same[0]
    assert len(list((tmp_path / "bundles").iterdir())) == 2  # nothing temporary is left


def test_a_damaged_download_is_fetched_again(tracker, register, tmp_path):
    """A folder that no longer passes its checks is replaced, not used."""
    number = register(tracker)
    folder = tracker.registry.download("animals", number, tmp_path)
    (folder / "encoder.onnx").write_bytes(b"")
    assert tracker.registry.download("animals", number, tmp_path) == folder
    Bundle.load(folder)


def test_files_of_the_run_are_found_by_version(tracker, bundle_dir, tmp_path):
    """What was kept with the run that made a version comes back; what was not is None."""
    (tmp_path / "pca.npz").write_bytes(b"baseline")
    with tracker.run("animals") as run:
        run.artifacts(tmp_path / "pca.npz", folder="baseline")
        version = Version("animals", tracker.registry.register("animals", bundle_dir, run))
    into = tmp_path / "into"
    into.mkdir()
    found = tracker.registry.fetch_run_file(version, "baseline/pca.npz", into)
    assert found.read_bytes() == b"baseline"
    for absent in ("baseline/other.npz", "pca.npz", "nowhere/pca.npz"):
        assert tracker.registry.fetch_run_file(version, absent, into) is None


def test_a_version_whose_files_were_altered_is_never_promoted(
    tracker, register, files, database, out_of_fold
):
    """Another process finds the altered file by its digest; the champion stays."""
    registry = tracker.registry
    first, second = (register(tracker, out_of_fold=out_of_fold(RIGHT)) for _ in range(2))
    registry.promote("animals", first)
    (files("animals", second) / "artifacts/bundle/head.onnx").write_bytes(b"other")
    fresh = type(tracker).open(f"sqlite:///{database}").registry
    for attempt in (fresh.promote, fresh.consider):
        with pytest.raises(TrainingError, match=r"head\.onnx"):
            attempt("animals", second)
    assert fresh.resolve("animals@champion").version == first


def test_a_damaged_champion_stops_the_gate_and_promote_gets_past_it(tracker, register, files):
    """Nothing is decided against a champion that cannot be read; a person still can."""
    first, second = register(tracker), register(tracker)
    tracker.registry.promote("animals", first)
    (files("animals", first) / "artifacts/bundle/manifest.json").write_text("{}")
    with pytest.raises(TrainingError, match="handful-train promote animals"):
        tracker.registry.consider("animals", second)
    tracker.registry.promote("animals", second)
    assert tracker.registry.resolve("animals").version == second


def test_an_invalid_bundle_is_never_registered(tracker, register, bundle_dir, tmp_path):
    """A bundle that fails its checks leaves no version, no model and a failed run."""
    broken = Path(shutil.copytree(bundle_dir, tmp_path / "broken"))
    (broken / "encoder.onnx").write_bytes(b"other")
    with pytest.raises(BundleCorrupt):
        register(tracker, bundle=broken)
    client = tracker._store.client
    assert [model.name for model in client.search_registered_models()] == ["quiet"]
    (run,) = client.search_runs([client.get_experiment_by_name("handful/animals").experiment_id])
    assert run.info.status == "FAILED"


def test_files_that_cannot_be_kept_register_nothing(tracker, bundle_dir, database):
    """Where the files cannot be kept, there is no version, no logged model, and the run failed."""
    client = tracker._store.client
    with pytest.raises(TrainingError, match="MLFLOW_TRACKING_URI"), tracker.run("animals") as run:  # noqa: PT012 - the run must be open when its place goes bad
        (database.parent / "mlartifacts").write_text("a file where the folder should be")
        tracker.registry.register("animals", bundle_dir, run)
    assert client.get_run(run.id).info.status == "FAILED"
    assert client.search_logged_models([run.experiment]) == []
    with pytest.raises(InputError):
        tracker.registry.resolve("animals")


TWO = """
import sys
from pathlib import Path
from handful_training.tracking import Tracker
uri, bundle = sys.argv[1:]
tracker = Tracker.open(uri)
print("ready", flush=True)
sys.stdin.readline()
with tracker.run("animals") as run:
    version = tracker.registry.register("animals", Path(bundle), run)
decision = tracker.registry.consider("animals", version)
print(version)
"""


def test_two_processes_register_at_once(tracker, bundle_dir, database, aliases):
    """Both succeed with versions of their own, and every alias names one of them."""
    command = [sys.executable, "-c", TWO, f"sqlite:///{database}", str(bundle_dir)]
    both = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(out.strip() for out, _ in ended) == ["1", "2"]
    found = aliases()
    assert found["challenger"] == "2"
    assert found["champion"] in {"1", "2"}
    assert found.get("previous") != found["champion"]
    for name in ("1", "2"):
        tracker.registry.promote("animals", name)  # each is whole


@pytest.mark.slow
def test_two_first_commands_at_once_in_an_empty_folder(bundle_dir, tmp_path):
    """The database is made once, whoever comes first, and both get their version."""
    environment = {k: v for k, v in os.environ.items() if "MLFLOW" not in k}
    command = [sys.executable, "-c", TWO, f"sqlite:///{tmp_path}/mlflow.db", str(bundle_dir)]
    both = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    ended = [process.communicate("go\n", timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(out.split()[-1] for out, _ in ended) == ["1", "2"]
    assert [err for _, err in ended] == ["", ""]
