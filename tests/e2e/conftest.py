"""One real training on a folder as users have them: mixed sizes and formats, some files broken."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

LABELS = ("bolt", "nut", "washer")
PER_LABEL = 40
BROKEN = 6
# Training must run where no service is installed, so neither may be imported.
TRAIN = (
    "import sys; sys.modules.update(handful_service=None, handful_client=None); "
    "from handful_training.cli import main; main()"
)


@dataclass(frozen=True)
class Place:
    """A folder of images, and where commands about them keep their state."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "photos"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
            "HANDFUL_WORK": str(self.root / "work"),
            "HANDFUL_CACHE": str(self.root / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def run(self) -> tuple[str | Path, ...]:
        """The command that trained `parts`."""
        small = ("image.max_side=24", "model.width=8", "model.embedding_dim=32",
                 "model.latent_dim=8", "optimiser.batch_size=32")  # fmt: skip
        return (
            "run", self.images, "--labels", "folders", "--labels-per-class", "8",
            "--name", "parts", "--epochs", "30", *(f"--set={setting}" for setting in small),
        )  # fmt: skip

    def train(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `handful-train` as a process."""
        return subprocess.run(
            [sys.executable, "-c", TRAIN, *map(str, arguments)],
            cwd=self.root, env=self.environment | environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def result(self, *arguments: str | Path) -> dict[str, Any]:
        """Run it with --json, expecting success, and return the object."""
        done = self.train(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 1, lines  # nothing else on stdout
        return json.loads(lines[0])

    @contextmanager
    def serve(self, model: str) -> Iterator[str]:
        """Run `handful-serve` as a process until the block ends; yields its address."""
        command = [Path(sys.executable).with_name("handful-serve"), "--model", model, "--port", "0"]
        log = self.root / "serve.log"
        environment = self.environment | {"HANDFUL_POLL_SECONDS": "0.2"}
        with (
            log.open("w+") as output,
            subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=output, stderr=output
            ) as process,
        ):
            try:
                yield _address(process, log)
            finally:
                process.send_signal(signal.SIGTERM)
        assert process.returncode == 0, log.read_text()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the service has said where it listens, and is ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            try:
                if httpx.get(f"{found[0]}/readyz").status_code == 200:
                    return found[0]
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def draw_part(label: str, rng: np.random.Generator) -> Image.Image:
    """Draw a part, of a size and colour of its own, on a plain ground."""
    height, width = (int(side) for side in rng.integers(40, 110, 2))
    rows, columns = np.mgrid[:height, :width]
    y, x = height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6)
    away = np.hypot(rows - y, columns - x) / (0.5 * min(height, width))
    mask = {
        "bolt": np.abs(rows - y) < 0.1 * height,
        "nut": away < 0.6,
        "washer": (away < 0.8) & (away > 0.4),
    }[label]
    ground, metal = rng.integers(0, 90, 3), rng.integers(150, 250, 3)
    return Image.fromarray(np.where(mask[..., None], metal, ground).astype(np.uint8))


def fill(folder: Path, per_label: int = PER_LABEL, seed: int = 0) -> None:
    """Write parts as JPEG, PNG and WebP into class folders, and break some files."""
    rng = np.random.default_rng(seed)
    suffixes = (".jpg", ".png", ".webp")
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for i in range(per_label):
            draw_part(label, rng).save(folder / label / f"{i:03}{suffixes[i % 3]}")
    whole = (folder / "nut" / "000.jpg").read_bytes()
    broken = folder / "unsorted"
    broken.mkdir()
    for i in range(BROKEN):
        (broken / f"broken{i}.jpg").write_bytes([b"", b"<html>", whole[: len(whole) // 2]][i % 3])
    (broken / "notes.txt").write_text("not an image")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder of photos: three classes, 40 images each, six broken files."""
    found = Place(tmp_path_factory.mktemp("place"))
    fill(found.images)
    return found


@pytest.fixture(scope="session")
def trained(place: Place) -> dict[str, Any]:
    """What `handful-train run` says after training on it, registered as `parts`."""
    return place.result(*place.run)


@pytest.fixture(scope="session")
def draw() -> Callable[[str, np.random.Generator], Image.Image]:
    return draw_part
