"""What benches of trainings share: the command line with a state of its own, and Fashion-MNIST."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from demo import fashion_mnist


class Fashion(NamedTuple):
    """Fashion-MNIST's four files, as IMAGES and `--labels` take them."""

    train: str
    train_labels: str
    test: str
    test_labels: str


def fashion() -> Fashion:
    """Return where Fashion-MNIST is; fetched if it is nowhere."""
    data = fashion_mnist.find(
        Path("handful-work/data/fashion-mnist"), os.environ.get(fashion_mnist.VARIABLE)
    ).absolute()
    names = (
        fashion_mnist.TRAIN_IMAGES,
        fashion_mnist.TRAIN_LABELS,
        fashion_mnist.TEST_IMAGES,
        fashion_mnist.TEST_LABELS,
    )
    return Fashion(*(str(data / name) for name in names))


@dataclass(frozen=True)
class HandfulTrain:
    """`handful-train`, keeping everything below `work`: what was trained before is found again."""

    work: Path

    @property
    def tracking(self) -> str:
        """Where its registry is."""
        return f"sqlite:///{self.work.absolute()}/mlflow.db"

    def __call__(self, *arguments: str) -> dict[str, Any]:
        """Run a command with --json and return the object; where it fails, so does the bench."""
        self.work.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "HANDFUL_WORK": str(self.work.absolute()),
            "MLFLOW_TRACKING_URI": self.tracking,
        }
        done = subprocess.run(
            [sys.executable, "-m", "handful_training.cli", *arguments, "--json"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"handful-train {' '.join(arguments)}\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
