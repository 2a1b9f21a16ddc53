"""Runs in a real MLflow: what is recorded, and how a run ends."""

import json
import math
import os

import pytest

from handful_training.errors import InputError, TrainingError
from handful_training.tracking import Tracker, runs


@pytest.fixture
def stored(tracker):
    """Return the function that reads a run back."""
    return tracker._store.client.get_run


def test_first_use_in_an_empty_folder_prints_nothing(template):
    """Database, run, model, version and download come without a word on stdout or stderr."""
    assert (template.stdout, template.stderr) == ("", "")


def test_files_are_kept_beside_the_database(template):
    """Artifacts lie in an absolute place beside the database, so a change of folder loses none."""
    root = template.path.parent
    assert list(root.glob("mlartifacts/*/artifacts/manifest.json"))
    assert not (root / "mlruns").exists()


def test_a_run_with_its_stages(tracker, stored):
    """A stage is a child run below the command's run, in the experiment of the model's name."""
    with tracker.run("fashion", title="first", tags={"handful.command": "run"}) as run:
        run.params({"model": {"latent_dim": 64}, "seed": 0})
        with run.child("pretrain") as child:
            child.metrics({"neg_elbo": 3.5}, step=1)
            child.metrics({"neg_elbo": 2.5}, step=2)
    parent, stage = stored(run.id), stored(child.id)
    assert parent.data.params == {"model.latent_dim": "64", "seed": "0"}
    assert parent.data.tags["handful.command"] == "run"
    assert (parent.info.run_name, stage.info.run_name) == ("first", "pretrain")
    assert stage.data.tags["mlflow.parentRunId"] == run.id
    assert (parent.info.status, stage.info.status) == ("FINISHED", "FINISHED")
    history = tracker._store.client.get_metric_history(child.id, "neg_elbo")
    assert [(point.step, point.value) for point in history] == [(1, 3.5), (2, 2.5)]
    experiment = tracker._store.client.get_experiment(parent.info.experiment_id)
    assert experiment.name == "handful/fashion"


def test_nobody_is_named(tracker, stored):
    """Neither the user's name nor the home folder is recorded anywhere in a run."""
    with tracker.run("fashion") as run:
        run.dataset("photos", "sha256:" + "a" * 64, source="/home/ann/photos")
    text = json.dumps(stored(run.id).to_dictionary())
    assert stored(run.id).info.user_id == "unknown"
    assert "mlflow.user" not in stored(run.id).data.tags
    assert "ann" not in text


def test_a_thousand_steps_cost_a_few_requests(tracker, stored):
    """Metrics are sent in batches, and every point arrives."""
    requests = []
    client = tracker._store.client

    class Counting:
        def __getattr__(self, name):
            requests.append(name)
            return getattr(client, name)

    object.__setattr__(tracker._store, "client", Counting())
    with tracker.run("fashion") as run:
        for step in range(1000):
            run.metrics({"loss": 1 / (step + 1), "rate": float(step)}, step=step)
    assert requests.count("log_batch") <= 1000 * 2 // runs.FLUSH_METRICS
    assert len(client.get_metric_history(run.id, "loss")) == 1000
    assert stored(run.id).data.metrics["rate"] == 999


def test_what_is_not_finite_becomes_a_tag(tracker, stored):
    """NaN and infinity are told once with their step; the finite points stay a curve."""
    with tracker.run("fashion") as run:
        run.metrics({"loss": 2.0, "kl": 1.0}, step=1)
        run.metrics({"loss": math.nan, "kl": math.inf}, step=2)
        run.metrics({"loss": math.nan}, step=3)
    data = stored(run.id).data
    assert data.metrics == {"loss": 2.0, "kl": 1.0}
    assert data.tags["nonfinite.loss"] == "nan at step 2"
    assert data.tags["nonfinite.kl"] == "inf at step 2"


def test_odd_names_and_many_values_are_recorded(tracker, stored):
    """Class names of any script and hundreds of long settings are no obstacle."""
    with tracker.run("fashion") as run:
        run.params({f"setting {i}": "x" * 9000 for i in range(250)})
        run.metrics({"accuracy/T-shirt/top!": 0.5, "accuracy/ボート": 0.25})
    data = stored(run.id).data
    assert len(data.params) == 250
    assert data.metrics["accuracy/ボート"] == 0.25
    assert sorted(data.metrics.values()) == [0.25, 0.5]


def test_a_setting_cannot_change_within_a_run(tracker):
    """Recording another value for the same setting is an error, not a silent choice."""
    with tracker.run("fashion") as run:
        run.params({"seed": 0})
        with pytest.raises(TrainingError, match="seed"):
            run.params({"seed": 1})


def test_data_sets_are_told_by_their_digest(tracker, stored):
    """A data set's name, digest, use and counts can be read back; its folder cannot."""
    digest = "sha256:" + "0123456789abcdef" * 4
    with tracker.run("fashion") as run:
        run.dataset(
            "photos", digest, source="/data/photos", context="labels", profile={"images": 60_000}
        )
    (found,) = stored(run.id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("photos", digest[7:39])
    assert json.loads(found.dataset.source) == {"uri": "photos"}
    assert json.loads(found.dataset.profile) == {"digest": digest, "images": 60_000}
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "labels")]


def test_files_and_folders_are_kept(tracker, tmp_path):
    """Plots, one or a folder of them, can be listed with the run."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "map.png").write_bytes(b"png")
    (tmp_path / "log.txt").write_text("log")
    with tracker.run("fashion") as run:
        run.artifacts(tmp_path / "plots", folder="plots")
        run.artifacts(tmp_path / "log.txt")
    client = tracker._store.client
    assert [item.path for item in client.list_artifacts(run.id)] == ["log.txt", "plots"]
    assert [item.path for item in client.list_artifacts(run.id, "plots")] == ["plots/map.png"]


@pytest.mark.parametrize(
    ("raised", "status"),
    [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_a_run_that_ends_badly_says_so(tracker, stored, raised, status):
    """An error marks stage and run FAILED, an interruption KILLED, and what was measured stays."""
    with pytest.raises(type(raised)), tracker.run("fashion") as run, run.child("head") as child:  # noqa: PT012 - the block is the claim
        child.metrics({"loss": 1.0}, step=7)
        raise raised
    assert [stored(one.id).info.status for one in (run, child)] == [status, status]
    assert stored(run.id).data.tags["handful.error"] == type(raised).__name__
    assert stored(child.id).data.metrics == {"loss": 1.0}


def test_a_name_that_cannot_be_a_model_is_refused_at_once(tracker):
    """A bad NAME is the user's fault, told before anything is made."""
    with pytest.raises(InputError, match="letters"), tracker.run("a/b"):
        pytest.fail("the run was opened")


def test_a_deleted_experiment_is_explained(tracker):
    """The message holds the command that brings the experiment back."""
    with tracker.run("fashion") as run:
        pass
    tracker._store.client.delete_experiment(run.experiment)
    with pytest.raises(TrainingError, match="restore"), tracker.run("fashion"):
        pytest.fail("the run was opened")


def test_the_environment_names_the_place(database, monkeypatch, tmp_path):
    """MLFLOW_TRACKING_URI is used; without it mlflow.db in the current folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    assert Tracker.open().uri == f"sqlite:///{database}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert Tracker.open().uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_database_that_cannot_be_opened_is_told_at_once(tmp_path):
    """Something that is no database ends with the variable to set, not with minutes of retries."""
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 999)
    with pytest.raises(TrainingError, match="MLFLOW_TRACKING_URI"):
        Tracker.open(f"sqlite:///{tmp_path}/mlflow.db")
    assert "MLFLOW_TRACKING_URI" not in os.environ
