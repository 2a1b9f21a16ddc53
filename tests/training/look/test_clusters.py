"""`clusters`: from a registered version and images to a table, contact sheets and a run."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful_training.cli import main
from handful_training.errors import InputError
from handful_training.labels.choice import LabelChoice
from handful_training.pipeline.clusters import clusters
from handful_training.tracking import Tracker

SCORES = {"nmi", "ari", "accuracy", "purity"}


@pytest.fixture
def run(home):
    """`clusters` with its options left out, but for those given."""

    def call(images=None, name="animals", k=None, labels=None, output=None, seed=0):
        choice = None if labels is None else LabelChoice(labels)
        where = str(images or home.images)
        return clusters(name, where, k, choice, output=output, seed=seed, device="cpu")

    return call


def read(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_three_colours_are_three_clusters(run, tmp_path):
    """Images of three colours fall into three clusters, whose number is found, and which agree with
    the labels fully, as those of the controls do.
    """
    said = run(labels="folders", output=tmp_path)
    assert (said["k"], said["k_chosen_by"], said["sizes"]) == (3, "largest silhouette", [20] * 3)
    assert [said[name] for name in SCORES] == pytest.approx([1] * 4)
    assert {f"baseline_{kind}_{name}" for kind in ("pca", "pca_whitened") for name in SCORES} <= (
        said.keys()
    )
    assert said["baseline_pca_accuracy"] == pytest.approx(1)
    page = Path(said["page"]).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1): 100.0 %" in page
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html", "clusters.csv", "overview.png", *(f"cluster_00{c}.png" for c in range(3)),
    }  # fmt: skip
    with Image.open(tmp_path / "cluster_002.png") as picture:
        assert min(picture.size) > 200


def test_the_table_names_every_image(run, home, labels, tmp_path):
    """Each image has its cluster and its distance, images of one label one cluster; no cell can act
    as a formula.
    """
    images = tmp_path / "images"
    images.mkdir()
    for i, label in enumerate(labels):
        for j in range(4):
            source = home.images / label / f"=image&{j:02}.png"
            (images / f"=1+{i}{j}.png").write_bytes(source.read_bytes())
    said = run(images, k=3, output=tmp_path)
    rows = read(said["table"])
    assert [row["path"] for row in rows] == [f"'=1+{i}{j}.png" for i in range(3) for j in range(4)]
    assert len({row["cluster"] for row in rows[:4]}) == 1
    assert {row["cluster"] for row in rows} == {"0", "1", "2"}
    assert all(float(row["distance"]) >= 0 for row in rows)
    assert said["k_chosen_by"] == "given"
    assert not SCORES & said.keys()


def test_without_labels_or_decoder_it_groups_all_the_same(run, tmp_path):
    """An encoder alone is enough; k is kept; the same seed writes the same bytes."""
    files = []
    for _ in range(2):
        said = run(name="blind", k=4, seed=5, output=tmp_path)
        files.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
        assert len(said["sizes"]) == said["k"] == 4
        assert min(said["sizes"]) >= 1
    assert files[0] == files[1]


def test_the_run_keeps_figures_and_files(run, home, tmp_path):
    """A run called "clusters" holds every figure and file, and which images it saw."""
    said = run(k=3, labels="folders", output=tmp_path)
    client = Tracker.open()._store.client
    experiment = client.get_experiment_by_name("handful/animals")
    found = client.search_runs([experiment.experiment_id], "attributes.run_name = 'clusters'")[0]
    assert found.data.metrics["nmi"] == said["nmi"]
    assert found.data.metrics["baseline_pca_nmi"] == said["baseline_pca_nmi"]
    assert found.data.metrics["clusters"] == 3
    assert found.data.params["criterion"] == "given"
    assert len(found.inputs.dataset_inputs) == 1
    kept = {item.path for item in client.list_artifacts(found.info.run_id, "clusters")}
    assert kept == {f"clusters/{path.name}" for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("count", "alike", "k", "remedy"),
    [
        (1, False, None, "at least 2"),
        (2, False, None, "too few to group"),
        (5, False, 6, "6 clusters of 5 images: choose a smaller k"),
        (5, True, 2, "1 of them different"),
        (5, True, None, "too few to group"),
    ],
)
def test_too_few_or_too_much_alike(run, tmp_path, count, alike, k, remedy):
    """One image, fewer than clusters, or all alike: an `InputError` that says so."""
    rng = np.random.default_rng(0)
    same = rng.integers(0, 256, (16, 16, 3), np.uint8)
    for i in range(count):
        pixels = same if alike else rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match=remedy):
        run(tmp_path, k=k)


@pytest.fixture
def command(home, tmp_path, monkeypatch, capsys):
    """`handful-train clusters animals IMAGES` with more arguments: status, stdout and stderr."""

    def call(*arguments):
        words = ["handful-train", "clusters", "animals", str(home.images), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, *capsys.readouterr()

    return call


def test_the_command_prints_one_object(command, tmp_path):
    """With --json stdout is one JSON object, and the table lies where it says."""
    status, out, _ = command("-k", "3", "-o", "out", "--json")
    assert status == 0
    (line,) = out.splitlines()
    assert json.loads(line)["table"] == "out/clusters.csv"
    assert len(read(tmp_path / "out" / "clusters.csv")) == 60


@pytest.mark.parametrize("k", ["1", "many", "-3", "1001", "٣", "2.0"])
def test_odd_numbers_of_clusters_are_refused(command, k):
    """What is no number from 2 to 1,000 is bad usage: status 2, and what would do."""
    status, out, err = command(f"-k={k}")
    assert (status, out) == (2, "")
    assert "2 to 1,000" in err
