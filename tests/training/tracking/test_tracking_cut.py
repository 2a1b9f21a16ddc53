"""Connections that are cut between the pipeline and a real MLflow server, at any request."""

import itertools
import re
from contextlib import suppress

import pytest

from handful_training.errors import TrainingError
from handful_training.tracking import Tracker

CHANGES = (
    "POST .*/runs/create",
    "POST .*/logged-models$",
    "PUT .*/encoder.onnx",
    "PATCH .*/logged-models/",
    "POST .*/registered-models/create",
    "POST .*/model-versions/create",
    "POST .*/registered-models/alias",
    "POST .*/runs/update",
)
# Where most can go wrong; the others are as the first of them.
TELLING = (
    ("POST .*/model-versions/create", "answer"),
    ("POST .*/model-versions/create", "request"),
    ("POST .*/runs/create", "answer"),
)
QUARTERS = 4  # of all requests


@pytest.fixture(scope="module")
def server(template, tmp_path_factory, serve):
    """A server that proxies the artifacts."""
    home = tmp_path_factory.mktemp("cut")
    (home / "server.db").write_bytes(template.path.read_bytes())
    with serve(
        "server", "--backend-store-uri", f"sqlite:///{home}/server.db", "--workers", "1",
        "--serve-artifacts", "--artifacts-destination", str(home / "artifacts"),
    ) as url:  # fmt: skip
        yield url


@pytest.fixture
def front(server, cutting_proxy, monkeypatch):
    """The server behind a proxy; MLflow asks once and does not wait."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    proxy = cutting_proxy(server)
    yield proxy
    proxy.close()


@pytest.fixture
def attempt(front, bundle_dir, tmp_path):
    """Return the function that does what the end of `handful-train run` does; gives the version."""

    def register(name: str) -> str:
        tracker = Tracker.open(front.url, work=tmp_path / "work")
        with tracker.run(name) as run:
            version = tracker.registry.find(name, bundle_dir)
            if version is None:
                version = tracker.registry.register(name, bundle_dir, run)
            tracker.registry.consider(name, version)
        return version

    return register


@pytest.fixture
def judge(server, attempt, front, bundle_dir, tmp_path):
    """Return the function that judges what an attempt which was cut has left, then tries again."""

    def check(name: str) -> None:
        front.reset()
        tracker = Tracker.open(server)
        client, registry = tracker._store.client, tracker.registry
        for version in client.search_model_versions(f"name = '{name}'"):
            registry.download(name, str(version.version), tmp_path / f"left-{name}")  # is whole

        version = attempt(name)
        versions = client.search_model_versions(f"name = '{name}'")
        assert [str(one.version) for one in versions] == [version]
        aliases = client.get_registered_model(name).aliases
        assert {k: str(v) for k, v in aliases.items()} == {
            "champion": version,
            "challenger": version,
        }
        experiment = client.get_experiment_by_name(f"handful/{name}").experiment_id
        models = client.search_logged_models([experiment], "status = 'READY'")
        assert {f"models:/{model.model_id}" for model in models} <= {versions[0].source}
        runs = client.search_runs([experiment])
        assert not [run for run in runs if run.info.status == "RUNNING"]

    return check


@pytest.mark.parametrize(
    ("request_", "lost"),
    [
        pytest.param(word, lost, marks=() if (word, lost) in TELLING else pytest.mark.slow)
        for word, lost in itertools.product(CHANGES, ("request", "answer"))
    ],
)
def test_what_a_lost_request_or_answer_leaves_is_made_whole(attempt, front, judge, request_, lost):
    """After the first failure at any step that changes the registry, no version lacks files and no
    alias hangs in the air; the same command again ends with exactly one version.
    """
    name = re.sub(r"\W+", "-", f"{request_} {lost}").strip("-")
    cut = itertools.count()
    front.reset(lambda _, seen: lost if re.search(request_, seen) and next(cut) == 0 else "no")
    with suppress(TrainingError):  # what can be done without, is
        attempt(name)
    assert next(cut) >= 1
    judge(name)


def test_a_repeated_request_makes_nothing_twice(attempt, front, judge, monkeypatch):
    """Where MLflow repeats what it got no answer to, there is still one run, model and version."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    counts = {word: itertools.count() for word in CHANGES}

    def cut(_: int, seen: str) -> str:
        for word, count in counts.items():
            if re.search(word, seen):
                return "answer" if next(count) == 0 else "no"
        return "no"

    front.reset(cut)
    assert attempt("repeated") == "1"
    judge("repeated")


@pytest.mark.slow
@pytest.mark.parametrize("quarter", range(QUARTERS))
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_connection_that_goes_at_any_request(attempt, front, judge, lost, quarter):
    """The same when the server goes at request n and stays away, for every n."""
    for whole in "ab":  # MLflow asks some things once in a process
        front.reset()
        attempt(f"whole-{lost}-{quarter}-{whole}")
    total = len(front.requests)
    assert total > 50
    for n in range(1 + quarter * total // QUARTERS, 1 + (quarter + 1) * total // QUARTERS):
        front.reset(
            lambda number, _, n=n: "no" if number < n else lost if number == n else "request"
        )
        with pytest.raises(TrainingError, match="MLFLOW_TRACKING_URI"):
            attempt(f"{lost}-{n}")
        judge(f"{lost}-{n}")
