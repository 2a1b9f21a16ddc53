"""Adapting an encoder from the command line: a version of its own, judged, and made anywhere."""

import json
import shutil
from pathlib import Path

import pytest

LABELS = ("--labels", "folders", "--labels-per-class", "8")
BRIEF = ("--epochs", "4", "--set=adapt.rounds=2")


@pytest.fixture(scope="module")
def adapt(place, trained) -> tuple[str | Path, ...]:
    """The command that adapts `parts`."""
    version = f"parts/{trained['version']}"
    return ("adapt", version, place.images, *LABELS, *BRIEF)


@pytest.fixture(scope="module")
def adapted(place, adapt):
    return place.result(*adapt)


def manifest(result) -> dict:
    return json.loads((Path(result["bundle"]) / "manifest.json").read_text())


def test_a_run_says_why_it_did_not_adapt(trained):
    """`--adapt auto` without a time budget leaves the encoder as it is, with the reason."""
    assert trained["adapted"] is False
    assert "--adapt yes" in trained["adapt_reason"]


def test_an_adapted_version_has_a_space_of_its_own(trained, adapted):
    """Another encoder, a decoder and a head; embeddings of the two cannot be mixed up."""
    before, after = manifest(trained), manifest(adapted)
    assert after["space"] != before["space"]
    assert {"encoder.onnx", "decoder.onnx", "head.onnx"} <= set(after["files"])
    assert adapted["version"] != trained["version"]
    assert after["metrics"]["neg_elbo_nats"] < 1.1 * before["metrics"]["neg_elbo_nats"]


def test_only_a_better_one_is_promoted(adapted):
    """With two held-out labels of each class hardly anything can be shown; the gate agrees."""
    assert adapted["adapted"] is adapted["promoted"]
    assert "held-out labelled images" in adapted["adapt_reason"]


def test_a_finished_adaptation_is_not_repeated(place, adapt, adapted):
    """The same command finds the same version."""
    assert place.result(*adapt)["version"] == adapted["version"]


def test_a_control_from_a_random_start_stands_beside_it(place, adapt, adapted):
    """`--control` adds two rungs to the report, and changes nothing of the version."""
    title = "Adapted from a random start"
    assert title not in Path(adapted["report"]).read_text()
    found = place.result(*adapt, "--control")
    assert found["version"] == adapted["version"]
    page = Path(found["report"]).read_text()
    assert page.count(title) >= 2  # its graph, and as it would be served


def test_a_head_on_a_refused_encoder_is_refused(place, adapted):
    """New labels do not smuggle in an encoder that was not shown to be better."""
    if adapted["promoted"]:
        pytest.skip("it was shown to be better")
    found = place.result(
        "head", f"parts/{adapted['version']}", place.images, "--labels", "folders",
        "--labels-per-class", "9",
    )  # fmt: skip
    assert found["promoted"] is False
    assert found["evaluated_on"] == "unused labels"


def test_the_network_comes_from_mlflow_where_it_is_not_at_hand(place, adapt, adapted, tmp_path):
    """In another work folder the encoder can be adapted just the same."""
    done = place.train(*adapt, "--json", HANDFUL_WORK=str(tmp_path / "work"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "parts"
    assert len(list((tmp_path / "work" / "networks").glob("*.pt"))) == 2


def test_a_network_that_is_nowhere_is_an_error(place, adapt, adapted, tmp_path):
    """One line that names the remedy, and status 1."""
    logged = list(place.root.glob("**/network/network.pt"))
    assert logged
    for i, path in enumerate(logged):
        shutil.move(path, tmp_path / str(i))
    try:
        done = place.train(*adapt, HANDFUL_WORK=str(tmp_path / "work"))
    finally:
        for i, path in enumerate(logged):
            shutil.move(tmp_path / str(i), path)
    assert done.returncode == 1
    assert "ONNX files cannot be trained on" in done.stderr
    assert "HANDFUL_WORK" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_adapts_when_told_to(place):
    """`--adapt yes` adapts whatever the budget; refused, the version is that of a plain run."""
    tuned = (*place.run, "--name", "tuned")
    found = place.result(*tuned, "--adapt", "yes", "--set=adapt.rounds=2")
    assert found["adapt_seconds"] > 0
    assert "held-out labelled images" in found["adapt_reason"]
    plain = place.result(*tuned)
    assert (plain["version"] == found["version"]) is not found["adapted"]


def test_adapting_to_nothing_is_bad_usage(place):
    """`--adapt yes` without labels: status 2 and the remedy."""
    done = place.train("run", place.images, "--adapt", "yes")
    assert done.returncode == 2
    assert "--labels" in done.stderr
