"""A registry with two small versions, and a folder of images of three colours, oddly named."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful_training.tracking import Tracker

LABELS = ("<script>alert(1)", "cat", "owl & co")
PER_LABEL = 20


@dataclass(frozen=True)
class Home:
    """Where the models and the images are."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
            "HANDFUL_WORK": str(self.root / "work"),
            "OMP_NUM_THREADS": "1",
        }


def fill(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for channel, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for i in range(PER_LABEL):
            pixels = rng.integers(0, 60, (16, 16, 3), np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / label / f"=image&{i:02}.png")


@pytest.fixture(scope="session")
def _home(tmp_path_factory, make_bundle) -> Home:
    home = Home(tmp_path_factory.mktemp("look"))
    fill(home.images)
    tracker = Tracker.open(home.environment["MLFLOW_TRACKING_URI"])
    bundles = {"animals": {"labels": LABELS}, "blind": {"with_decoder": False, "with_head": False}}
    for name, options in bundles.items():
        bundle = make_bundle(home.root / "bundles" / name, name=name, **options)
        with tracker.run(name) as run:
            tracker.registry.consider(name, tracker.registry.register(name, bundle, run))
    return home


@pytest.fixture
def home(_home, monkeypatch) -> Home:
    """Models `animals` (complete) and `blind` (no decoder), and the environment to use them."""
    for name, text in _home.environment.items():
        monkeypatch.setenv(name, text)
    return _home


@pytest.fixture(scope="session")
def labels() -> tuple[str, ...]:
    return LABELS
