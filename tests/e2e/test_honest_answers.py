"""What commands say of accuracy, coverage and further labels, on a real training."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def audited(place, trained):
    """What `head` says of 18 labels, half of them an audit, that a table names."""
    names = sorted(
        path.relative_to(place.images).as_posix()
        for path in place.images.glob("*/*")
        if path.parent.name != "unsorted"
    )
    table = place.root / "audited.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "chosen_by"])
        for i, name in enumerate(names[::4]):
            how = "audit" if i % 2 else "uncertainty"
            writer.writerow([name, name.partition("/")[0], how])
    version = f"parts/{trained['version']}"
    done = place.train("head", version, place.images, "--labels", table, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def manifest(said):
    return json.loads((Path(said["bundle"]) / "manifest.json").read_text())


def test_a_run_says_how_sure_it_is(trained):
    """`run --json` has coverage of the prediction sets on labels left over, with its interval,
    their size, and the calibration error that chance alone would show.
    """
    assert trained["evaluated_on"] == "unused labels"
    low, high = trained["coverage_ci"]
    assert 0 <= low <= trained["coverage"] <= high <= 1
    assert 1 <= trained["prediction_set_size"] <= 3
    assert trained["prediction_set_level"] == 0.9
    assert 0 <= trained["ece_if_calibrated"][0] <= trained["ece_if_calibrated"][1] <= 1
    low, high = trained["baseline_pca_accuracy_ci"]
    assert low <= trained["baseline_pca_accuracy"] <= high
    assert trained["random_sample"] is None


def test_the_manifest_says_how_sets_are_made(trained):
    """The manifest names the threshold, of how many labels it is, and how many it takes."""
    found = manifest(trained)["head"]["conformal"]
    assert (found["count"], found["needed"], found["level"]) == (24, 9, 0.9)
    assert 0 <= found["threshold"] <= 1
    assert found["coverage_low"] < 0.9 < found["coverage_high"]


def test_a_run_draws_a_learning_curve(place, trained):
    """The run's folder and its artifacts hold the curve, its plot and the sentence that `--json`
    prints; every curve stands on the same numbers of labels.
    """
    folder = Path(trained["folder"])
    said = json.loads((folder / "learning_curve.json").read_text())
    assert said["sentence"] == trained["next_labels"]["sentence"]
    assert [curve["key"] for curve in said["curves"]] == [
        "served", "pixels_linear", "pixels_graph_whitened",
    ]  # fmt: skip
    counts = {tuple(p["labels"] for p in curve["points"]) for curve in said["curves"]}
    assert len(counts) == 1
    assert counts.pop()[-1] == trained["labels"] == 24
    with Image.open(folder / "learning_curve.png") as image:
        image.load()
    kept = place.root.glob(f"mlartifacts/{trained['run_id']}/artifacts/plots/learning_curve.*")
    assert sorted(path.suffix for path in kept) == [".json", ".png"]


def test_labels_of_a_strategy_are_told_from_an_audit(audited):
    """`head` says that its labels are no fair sample, gives the figures of the audit alone, and
    sets the threshold of prediction sets by the audit.
    """
    said, log = audited
    assert said["random_sample"] is False
    assert said["labels_chosen_by"] == {"audit": 15, "uncertainty": 15}
    assert said["audit"]["n"] == 15
    assert said["coverage"] is None  # the threshold was set on these labels
    assert "chosen by a strategy" in log
    conformal = manifest(said)["head"]["conformal"]
    assert (conformal["on"], conformal["count"]) == ("audit", 15)


def test_a_second_head_on_the_same_labels_finds_its_curve(place, trained, audited):
    """The same labels once more: the curve is not measured again."""
    curves = place.root / "work" / "curves"
    before = {path: path.stat().st_mtime_ns for path in curves.glob("*/*")}
    again = place.result(
        "head", f"parts/{trained['version']}", place.images, "--labels", place.root / "audited.csv"
    )
    assert again["next_labels"] == audited[0]["next_labels"]
    assert {path: path.stat().st_mtime_ns for path in curves.glob("*/*")} == before


def test_one_label_per_class_says_that_nothing_can_be_said(place, trained):
    """With one label per class: every class in every set, and the sentence says why there is no
    number.
    """
    table = place.root / "three.csv"
    lines = [f"{name}/001.png,{name}" for name in ("bolt", "nut", "washer")]
    table.write_text("path,label\n" + "\n".join(lines))
    said = place.result("head", f"parts/{trained['version']}", place.images, "--labels", table)
    conformal = manifest(said)["head"]["conformal"]
    assert (conformal["threshold"], conformal["count"], conformal["needed"]) == (None, 0, 9)
    assert "cannot be said" in said["next_labels"]["sentence"]
    assert said["accuracy"] is None
