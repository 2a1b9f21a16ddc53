"""A registry with a small version, and a folder of images of three colours."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handful_training.labels.choice import LabelChoice
from handful_training.tracking import Tracker

LABELS = ("red", "green", "blue")
PER_LABEL = 20


@dataclass(frozen=True)
class Home:
    """Where the model and the images are."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"


def fill(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for channel, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for i in range(PER_LABEL):
            pixels = rng.integers(0, 60, (16, 16, 3), np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / label / f"=image {i:02}.png")


@pytest.fixture(scope="session")
def _home(tmp_path_factory, make_bundle) -> Home:
    home = Home(tmp_path_factory.mktemp("suggest"))
    fill(home.images)
    bundle = make_bundle(home.root / "bundle", name="colours", with_head=False)
    tracker = Tracker.open(f"sqlite:///{home.root}/mlflow.db")
    with tracker.run("colours") as run:
        version = tracker.registry.register("colours", bundle, run)
        tracker.registry.consider("colours", version)
    return home


@pytest.fixture
def home(_home, monkeypatch, tmp_path) -> Home:
    """Model `colours` (an encoder and a decoder), its images, and the environment to use them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{_home.root}/mlflow.db")
    monkeypatch.setenv("HANDFUL_WORK", str(_home.root / "work"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return _home


@pytest.fixture
def ask(home) -> Callable[..., dict[str, Any]]:
    """`suggest` with its options left out, but for those given."""
    from handful_training.pipeline.suggest import Wish, suggest

    def call(count=6, labels=None, images=None, **wish) -> dict[str, Any]:
        choice = None if labels is None else LabelChoice(str(labels))
        where = str(images or home.images)
        return suggest("colours", where, choice, Wish(count, **wish), device="cpu")

    return call


@pytest.fixture(scope="session")
def read() -> Callable[[Any], list[dict[str, str]]]:
    """The rows of a CSV file."""

    def rows(path: Any) -> list[dict[str, str]]:
        with Path(path).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return list(csv.DictReader(file))

    return rows


@pytest.fixture(scope="session")
def fill_in(read) -> Callable[..., Path]:
    """Do what a person does: label each row of a table by its folder, and save it as `target`."""

    def label(source: Any, target: Path, count: int | None = None) -> Path:
        rows = read(source)
        for row in rows[:count]:
            row["label"] = row["label"] or row["path"].lstrip("'").partition("/")[0]
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return target

    return label


@pytest.fixture(scope="session")
def blobs() -> Callable[..., tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Points of norm 1 around well separated centres, and whose each is."""

    def make(sizes, seed=0, spread=0.05, dims=16) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        centres = np.linalg.qr(rng.standard_normal((dims, dims)))[0][: len(sizes)]
        group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        points = centres[group] + spread * rng.standard_normal((len(group), dims))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points.astype(np.float32), group

    return make
