"""The pipeline's commands and the service, as processes, over MLflow on PostgreSQL."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from mlflow import MlflowClient

from handful_training.errors import InputError, TrainingError
from handful_training.tracking import Tracker

SECRET = "tok3n-nobody-may-see"
SMALL = tuple(
    f"--set={setting}"
    for setting in ("image.max_side=16", "model.width=4", "model.embedding_dim=16",
                    "model.latent_dim=4", "optimiser.batch_size=32")
)  # fmt: skip


class Stack(NamedTuple):
    """A server, what it keeps on disk, and a client that looks into it."""

    url: str
    database: int  # PostgreSQL's port
    home: Path
    client: Any


@pytest.fixture(scope="module")
def stack(mlflow_stack, tmp_path_factory):
    """The start script of the MLflow image, on PostgreSQL, keeping the artifacts itself."""
    home = tmp_path_factory.mktemp("stack")
    with (
        mlflow_stack.postgres() as database,
        mlflow_stack.mlflow_server(database, str(home / "artifacts"), home) as url,
    ):
        yield Stack(url, database, home, MlflowClient(url, url))


@pytest.fixture(scope="module")
def train(place, stack):
    """Return the function that runs a command against the server; the URL holds a password."""

    def run(*arguments: str | Path, url: str | None = None, **environment: str):
        secret = (url or stack.url).replace("//", f"//ann:{SECRET}@")
        return place.train(
            *arguments,
            MLFLOW_TRACKING_URI=secret,
            HANDFUL_WORK=str(stack.home / "work"),
            **environment,
        )

    return run


@pytest.fixture(scope="module")
def result(train):
    """Return the function that runs a command and gives its JSON."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        done = train(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def run_command(place):
    """The command that trains; short, for what is learnt does not matter here."""
    return ("run", place.images, "--labels", "folders", "--labels-per-class", "8",
            "--epochs", "2", *SMALL)  # fmt: skip


@pytest.fixture(scope="module")
def first(result, run_command):
    """What the first `run` says."""
    return result(*run_command, "--name", "parts")


def aliases(stack: Stack, name: str) -> dict[str, str]:
    """Return all aliases of a model."""
    return {k: str(v) for k, v in stack.client.get_registered_model(name).aliases.items()}


def children(stack: Stack, run_id: str) -> dict[str, Any]:
    """Return the stages of a run by name."""
    parent = stack.client.get_run(run_id)
    found = stack.client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    return {run.info.run_name: run for run in found}


def test_a_run_says_what_it_used_and_what_came_of_it(stack, first):
    """Run, stages, data, logged model and version are linked, each found from the others."""
    client, run = stack.client, stack.client.get_run(first["run_id"])
    version = client.get_model_version("parts", first["version"])
    stages = children(stack, first["run_id"])
    assert set(stages) == {"pretrain", "export", "head", "evaluate", "curve"}
    assert {one.info.status for one in (run, *stages.values())} == {"FINISHED"}
    assert run.data.tags["handful.model_version"] == f"parts/{version.version}"
    assert run.data.tags["handful.space"] == version.tags["handful.space"]
    assert [model.model_id for model in run.outputs.model_outputs] == [
        version.source.removeprefix("models:/")
    ]
    assert version.run_id == version.tags["handful.encoder_run_id"] == first["run_id"]
    (images,) = run.inputs.dataset_inputs
    assert version.tags["handful.data"].removeprefix("sha256:").startswith(images.dataset.digest)
    assert json.loads(images.dataset.source) == {"uri": "photos"}
    assert [one.dataset.digest for one in stages["pretrain"].inputs.dataset_inputs] == [
        images.dataset.digest
    ]
    (labels,) = stages["head"].inputs.dataset_inputs
    assert version.tags["handful.labels"].removeprefix("sha256:").startswith(labels.dataset.digest)
    for words in (first["run_id"], "24 labels", "of 3 classes", "accuracy"):
        assert words in version.description
    for stage in ("pretrain", "export", "head"):
        assert len(stages[stage].data.tags["handful.stage"]) == 16
    assert stages["pretrain"].data.tags["handful.device"] == "cpu"
    assert stages["pretrain"].data.tags["handful.world_size"] == "1"


def test_the_machine_is_watched_while_it_trains_and_only_then(stack, first):
    """Pretraining has CPU and memory beside its curves; the short stages have neither."""
    stages = children(stack, first["run_id"])
    measured = {key for key in stages["pretrain"].data.metrics if key.startswith("system/")}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} < measured
    for stage in ("export", "head", "evaluate"):
        assert not [key for key in stages[stage].data.metrics if key.startswith("system/")]


def test_commands_and_service_agree_through_the_server(
    stack, place, draw, first, result, monkeypatch
):
    """A head, a promotion and a rollback are each served within the poll; what was rolled back
    does not come back when the pipeline runs again, until someone promotes it.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    server = type(place)(stack.home / "service")
    server.root.mkdir()
    monkeypatch.setattr(
        type(place), "environment",
        property(lambda self: os.environ | {"MLFLOW_TRACKING_URI": stack.url,
                                            "HANDFUL_CACHE": str(self.root / "cache")}),
    )  # fmt: skip
    refit = ("head", "parts", place.images, "--labels", "folders", "--labels-per-class", "12")

    def served(address: str, version: str) -> None:
        deadline = time.monotonic() + 60
        while (seen := httpx.get(f"{address}/model").headers["X-Model-Version"]) != version:
            assert time.monotonic() < deadline, seen
            time.sleep(0.1)

    with server.serve("models:/parts@champion") as address:
        served(address, first["version"])
        monkeypatch.undo()
        second = result(*refit)
        assert second["promoted"], second["reason"]
        assert second["version"] != first["version"]
        served(address, second["version"])
        version = stack.client.get_model_version("parts", second["version"])
        assert version.tags["handful.encoder_run_id"] == first["run_id"]
        taken = stack.client.get_model_version("parts", first["version"]).source
        inputs = stack.client.get_run(second["run_id"]).inputs.model_inputs
        assert [one.model_id for one in inputs] == [taken.removeprefix("models:/")]

        assert result("rollback", "parts")["version"] == first["version"]
        served(address, first["version"])
        again = result(*refit)
        assert (again["version"], again["promoted"]) == (second["version"], False)
        assert "rolled back" in again["reason"]
        served(address, first["version"])

        result("promote", "parts", second["version"])
        served(address, second["version"])
    assert SECRET not in (server.root / "serve.log").read_text()
    assert aliases(stack, "parts") == {
        "champion": second["version"],
        "previous": first["version"],
        "challenger": second["version"],
    }
    scored = result("evaluate", "parts", "--images", place.images, "--labels", "folders")
    assert scored["version"] == second["version"]


def test_no_password_is_kept_anywhere(stack, mlflow_stack, first):
    """Neither the database nor the files nor the server's log hold the password of a client."""
    dump = subprocess.run(
        [max(Path("/usr/lib/postgresql").glob("*/bin/pg_dump")), "-h", "127.0.0.1",
         "-p", str(stack.database), "-U", "mlflow", "mlflow"],
        env={**os.environ, "PGPASSWORD": mlflow_stack.PASSWORD}, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert first["run_id"].encode() in dump
    files = [path for path in stack.home.rglob("*") if path.is_file()]
    assert [path for path in files if path.name == "MLmodel"]
    for content in (dump, *(path.read_bytes() for path in files)):
        assert SECRET.encode() not in content


def test_a_host_that_the_server_does_not_know(stack):
    """The message names the server's option."""
    other = stack.url.replace("127.0.0.1", "localhost")
    with pytest.raises(TrainingError, match="--allowed-hosts"), Tracker.open(other).run("parts"):
        pytest.fail("the run was opened")


ONE_OF_TWO = """
import sys
from pathlib import Path
from handful_training.tracking import Tracker
name, *bundles = sys.argv[1:]
tracker = Tracker.open()
print("ready", flush=True)
sys.stdin.readline()
for bundle in bundles:
    with tracker.run(name) as run:
        version = tracker.registry.register(name, Path(bundle), run)
        tracker.registry.consider(name, version)
    print(version, flush=True)
"""


def test_two_pipelines_register_the_same_new_name_at_once(stack, make_bundle, tmp_path):
    """Experiment, model and versions come into being side by side: each version is whole, none is
    lost, the challenger is the newest, and champion and previous are two of them.
    """
    bundles = [make_bundle(tmp_path / f"{i}", head_seed=i) for i in range(4)]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, "twins", *map(str, bundles[i::2])],
            env=os.environ | {"MLFLOW_TRACKING_URI": stack.url, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    for process in both:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(line for out, _ in ended for line in out.split()) == ["1", "2", "3", "4"]
    registry = Tracker.open(stack.url).registry
    found = {registry.find("twins", bundle) for bundle in bundles}
    assert found == {"1", "2", "3", "4"}
    now = aliases(stack, "twins")
    assert now["challenger"] == "4"
    assert now["champion"] != now["previous"]
    assert set(now.values()) <= found
    for version in found:
        registry.download("twins", version, tmp_path)


@pytest.mark.slow
def test_promotions_and_rollbacks_at_once(stack, make_bundle, tmp_path):
    """Whoever comes last, champion and previous stay two different whole versions."""
    tracker = Tracker.open(stack.url)
    for i in range(3):
        with tracker.run("storm") as run:
            bundle = make_bundle(tmp_path / f"{i}", head_seed=i)
            version = tracker.registry.register("storm", bundle, run)
        tracker.registry.consider("storm", version)
    failures = []

    def storm(seed: int) -> None:
        rng, registry = random.Random(seed), Tracker.open(stack.url).registry
        for _ in range(6):
            try:
                if rng.random() < 0.5:
                    registry.rollback("storm")
                else:
                    registry.promote("storm", str(rng.randint(1, 3)))
            except TrainingError as error:
                failures.append(error)

    threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    now = aliases(stack, "storm")
    assert now["champion"] != now["previous"]
    assert tracker.registry.rollback("storm") == now["previous"]


def test_rollback_with_nothing_to_return_to(stack, make_bundle, tmp_path):
    """A model that never had another champion says so, with the command that chooses one."""
    tracker = Tracker.open(stack.url)
    with tracker.run("single") as run:
        version = tracker.registry.register("single", make_bundle(tmp_path / "b"), run)
    tracker.registry.consider("single", version)
    with pytest.raises(InputError, match="handful-train promote single"):
        tracker.registry.rollback("single")


@pytest.mark.slow
def test_a_server_that_goes_when_the_training_is_done(stack, cutting_proxy, train, place):
    """The command fails in one line; run again, it registers what the work folder holds, with the
    whole curve, and trains nothing.
    """
    command = ("export", place.images, "--name", "night", "--epochs", "2", "--train-seed", "7",
               *SMALL, "--json")  # fmt: skip
    quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    front = cutting_proxy(stack.url)
    try:
        front.reset(
            lambda _number, _request: (
                "request" if any("learning_curves" in seen for seen in front.requests) else "no"
            )
        )
        failed = train(*command, url=front.url, **quick)
        assert failed.returncode == 1, failed.stderr
        assert failed.stderr.splitlines()[-1].startswith("handful-train: MLflow at http://…@")
        assert "Traceback" not in failed.stderr
        assert SECRET not in failed.stderr
        with pytest.raises(InputError):
            Tracker.open(stack.url).registry.resolve("night")
        front.reset()
        done = train(*command, url=front.url, **quick)
    finally:
        front.close()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["version"], found["promoted"]) == ("1", True)
    pretrain = children(stack, found["run_id"])["pretrain"]
    assert pretrain.data.tags["handful.skipped"] == "true"
    assert len(stack.client.get_metric_history(pretrain.info.run_id, "loss")) == 2
    runs = stack.client.search_runs([pretrain.info.experiment_id])
    # The first command could not even say that it had failed.
    assert {run.info.status for run in runs} == {"FINISHED", "KILLED"}
