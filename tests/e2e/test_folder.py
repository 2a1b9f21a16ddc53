"""From a folder of photos to answers, through real processes only."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handful_bundle.bundle import Bundle
from handful_bundle.pixels import decode
from handful_client import Handful


def place_files(place: Any, pattern: str) -> list[Path]:
    return sorted((place.root / "work").glob(pattern))


def test_run_says_what_it_made(place: Any, trained: dict[str, Any]) -> None:
    """The object names a version whose bundle loads, and figures that are fractions."""
    bundle = Bundle.load(Path(trained["bundle"]))
    assert trained["name"] == "parts"
    assert trained["version"] == "1"
    assert trained["promoted"] is True
    assert trained["images"] == 120
    assert trained["labels"] == 24
    assert bundle.manifest.labels == ("bolt", "nut", "washer")
    assert bundle.manifest.image.channels == 3
    low, high = trained["accuracy_ci"]
    assert 0 <= low <= trained["accuracy"] <= high <= 1
    assert 0 <= trained["baseline_pca_accuracy"] <= 1
    assert trained["accuracy"] > 0.6  # chance is 1/3: the parts are easy to tell apart
    assert trained["neg_elbo_nats"] == pytest.approx(bundle.manifest.metrics["neg_elbo_nats"])


def test_broken_files_are_listed_and_cost_nothing_else(place: Any, trained: dict[str, Any]) -> None:
    """Each unreadable image stands in rejected.csv with its reason; all others are used."""
    (table,) = place_files(place, "packs/*/rejected.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["code"] for row in rows} == {
        "image_empty", "image_unsupported", "image_unreadable",
    }  # fmt: skip
    assert all(row["path"].startswith("unsorted/broken") for row in rows)


def test_plots_are_pictures(trained: dict[str, Any]) -> None:
    """The run's folder holds every plot of the design, each a real picture."""
    folder = Path(trained["folder"])
    names = {path.stem for path in folder.glob("*.png")}
    assert {
        "learning_curves", "reconstructions", "samples", "traversals", "kl_per_dimension",
        "embedding_map", "confusion_matrix", "reliability",
    } <= names  # fmt: skip
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors(256) or range(999)) > 3


def test_unchanged_stages_are_skipped(place: Any, trained: dict[str, Any]) -> None:
    """The same command trains nothing, registers nothing and says the same."""
    before = {path: path.stat().st_mtime_ns for path in place_files(place, "*/*/done.json")}
    again = place.result(*place.run)
    changing = {"run_id", "folder", "report", "reason"}
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in trained.items() if k not in changing
    }
    after = {path: path.stat().st_mtime_ns for path in place_files(place, "*/*/done.json")}
    assert after == before


def test_evaluate_matches_classes_by_name(place: Any, trained: dict[str, Any]) -> None:
    """Another folder is scored by the version's own head; its order of classes does not matter."""
    test = place.root / "test"
    for label in ("washer", "bolt"):
        (test / label).mkdir(parents=True)
        for path in sorted((place.images / label).iterdir())[:20]:
            (test / label / path.name).write_bytes(path.read_bytes())
    found = place.result("evaluate", "parts", "--images", test, "--labels", "folders")
    assert found["n"] == 40
    assert found["accuracy"] > 0.6
    assert set(found["per_class"]) == {"bolt", "nut", "washer"}
    assert found["per_class"]["nut"]["n"] == 0
    assert 0 <= found["baseline_pca_accuracy"] <= 1
    (test / "screw").mkdir()
    (test / "screw" / "x.png").write_bytes((test / "bolt" / "001.png").read_bytes())
    done = place.train("evaluate", "parts", "--images", test, "--labels", "folders")
    assert done.returncode == 2
    assert "screw" in done.stderr


def test_embed_writes_what_the_bundle_computes(place: Any, trained: dict[str, Any]) -> None:
    """The embeddings in the file are those of the bundle, in the order of the named images."""
    output = place.root / "embeddings.npy"
    said = place.result("embed", "parts", place.images, "-o", output)
    found = np.load(output)
    assert said["images"] == len(found) == 120
    bundle = Bundle.load(Path(trained["bundle"]))
    with output.with_name("embeddings.npy.keys.csv").open() as file:
        keys = [row["path"] for row in csv.DictReader(file)]
    for i in (0, 50, 119):
        image = decode((place.images / keys[i]).read_bytes(), bundle.manifest.image)
        np.testing.assert_allclose(found[i], bundle.encoder(image[None]).embedding[0], atol=1e-5)


def test_a_new_head_goes_live_without_a_lost_request(
    place: Any, trained: dict[str, Any], draw: Callable[..., Image.Image]
) -> None:
    """While the service answers, `head` registers a version and the service swaps to it; then
    `rollback` swaps back. No request fails, and the space stays.
    """
    rng = np.random.default_rng(5)
    photos = [draw(label, rng) for label in ("bolt", "nut", "washer") * 3]
    with place.serve("models:/parts@champion") as url, Handful(url) as handful:
        answers = handful.classify(photos)
        right = [p.label == q for p, q in zip(answers, ("bolt", "nut", "washer") * 3, strict=True)]
        assert sum(right) >= 6
        space = handful.embed(photos[:1]).model.space
        fitted = place.result(
            "head", "parts", place.images, "--labels", "folders", "--labels-per-class", "9",
            "--seed", "3",
        )  # fmt: skip
        assert fitted["version"] == "2"
        versions = []
        for _ in range(200):
            versions.append(handful.embed(photos[:1]).model.version)
            if versions[-1] == "2":
                break
        assert versions[-1] == "2"
        assert handful.embed(photos[:1]).model.space == space
        assert place.result("rollback", "parts")["version"] == "1"
        for _ in range(200):
            if handful.embed(photos[:1]).model.version == "1":
                break
        assert handful.embed(photos[:1]).model.version == "1"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["run", "nowhere"], "nowhere"),
        (["run", "few"], "50"),
        (["run", "photos", "--labels", "missing.csv"], "missing.csv"),
        (["run", "photos", "--labels", "one.csv"], "at least 2 classes"),
        (["run", "photos", "--labels", "other.csv"], "2 of 2 paths"),
        (["run", "photos", "--time-budget", "soon"], "10m"),
        (["run", "photos", "--set", "model.depth=3"], "model.depth"),
        (["run", "photos", "--adapt", "yes"], "--adapt"),
        (["run", "photos", "--device", "tpu"], "cuda"),
        (["run", "photos", "--labels-per-class", "3"], "--labels"),
        (["head", "nobody", "photos", "--labels", "folders"], "nobody"),
        (["evaluate", "parts/99", "--images", "photos", "--labels", "folders"], "parts"),
        (["embed", "parts", "photos", "-o", "x.doc"], ".npy"),
        (["rollback", "nobody"], "nobody"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_remedy(
    place: Any, trained: dict[str, Any], arguments: list[str], remedy: str
) -> None:
    """Bad usage and bad input exit with 2, a silent stdout, and a line that names the remedy."""
    few = place.root / "few"
    few.mkdir(exist_ok=True)
    Image.new("L", (20, 20)).save(few / "one.png")
    (place.root / "one.csv").write_text("path,label\nnut/000.jpg,nut\nnut/001.png,nut\n")
    (place.root / "other.csv").write_text("path,label\nx.jpg,nut\ny.jpg,bolt\n")
    done = place.train(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert remedy in last
    assert "Traceback" not in done.stderr


def test_a_training_that_fails_exits_with_1(place: Any, trained: dict[str, Any]) -> None:
    """What goes wrong on the way, here a registry that is away, is status 1 with a remedy."""
    away = "http://127.0.0.1:9"
    done = place.train("rollback", "parts", "--json", MLFLOW_TRACKING_URI=away)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "MLFLOW_TRACKING_URI" in done.stderr
