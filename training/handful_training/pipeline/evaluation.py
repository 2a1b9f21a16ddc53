"""How good a head is, always beside the control that learns nothing but PCA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training.baseline import PixelBaseline
from handful_training.embedding import embed_parts
from handful_training.errors import InputError
from handful_training.gate import OutOfFold
from handful_training.labels.labels import Labels
from handful_training.metrics import Scores, confusion, score
from handful_training.packs.pack import Pack
from handful_training.plots import confusion_matrix, reliability

MAX_UNUSED = 10_000  # left-over labels that are looked at; half a percent is precise enough


@dataclass(frozen=True)
class Evaluation:
    """Scores of the head and of the baseline on the same images."""

    on: str  # "unused labels", "out of fold" or "given images"
    scores: Scores
    baseline_accuracy: float | None

    def metrics(self) -> dict[str, float]:
        """Return the numbers for MLflow."""
        low, high = self.scores.accuracy_ci
        found = {
            "accuracy": self.scores.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "log_loss": self.scores.log_loss,
            "ece": self.scores.ece,
        }
        if self.baseline_accuracy is not None:
            found["baseline_pca_accuracy"] = self.baseline_accuracy
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            **self.scores.to_json(),
            "baseline_pca_accuracy": self.baseline_accuracy,
            "evaluated_on": self.on,
        }


@dataclass(frozen=True)
class Predictions:
    """Probabilities beside the truth, for scores and plots."""

    on: str
    probabilities: NDArray[np.float32]  # [n, K], of the head
    target: NDArray[np.int64]  # [n]
    labels: tuple[str, ...]
    control: NDArray[np.float32] | None  # [n, K], of the baseline

    def evaluate(self) -> Evaluation:
        """Score both."""
        return Evaluation(
            self.on,
            score(self.probabilities, self.target, self.labels),
            None if self.control is None else float((self.control.argmax(1) == self.target).mean()),
        )

    def draw(self, folder: Path) -> None:
        """Draw confusion matrix and reliability into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        matrix = confusion(self.probabilities, self.target)
        confusion_matrix(matrix, self.labels, folder / "confusion_matrix.png")
        reliability(self.probabilities, self.target, folder / "reliability.png")


def predict_unseen(
    bundle: Bundle,
    pack: Pack,
    labels: Labels,
    unused: Labels | None,
    out_of_fold: OutOfFold | None,
    baseline: PixelBaseline,
    *,
    folds: int,
    seed: int,
) -> Predictions | None:
    """Predict labelled images that a fresh head has not seen.

    Those that `--labels-per-class` left over, if there are any; else the out-of-fold
    predictions; with one label in a class there is nothing honest to say, hence None.
    """
    if unused is not None:
        rows = np.arange(len(unused))
        if len(rows) > MAX_UNUSED:
            rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_UNUSED, replace=False))
        index = unused.index[rows]
        return Predictions(
            "unused labels",
            probabilities(bundle, pack.images, index),
            unused.target[rows],
            labels.names,
            baseline.probabilities(pack.images, index),
        )
    if out_of_fold is None:
        return None
    control = baseline.out_of_fold(pack.images, labels.index, labels.target, folds=folds, seed=seed)
    return Predictions(
        "out of fold", out_of_fold.probabilities, labels.target, labels.names, control
    )


def predict_given(
    bundle: Bundle, pack: Pack, labels: Labels, baseline: PixelBaseline | None
) -> Predictions:
    """Predict images that the user labelled for the purpose; classes are matched by name.

    Raises:
        InputError: the bundle has no head, or a label is none of its classes.
    """
    if bundle.head is None:
        raise InputError(
            "this version has no head; fit one by `handful-train head NAME IMAGES --labels ...`"
        )
    known = bundle.head.labels
    if unknown := sorted(set(labels.names) - set(known)):
        raise InputError(
            f"the labels name {', '.join(unknown[:5])}, which the head does not know; "
            f"it knows {', '.join(known[:20])}"
        )
    place = np.array([known.index(name) for name in labels.names])
    control = None
    if baseline is not None and baseline.labels == known:
        control = baseline.probabilities(pack.images, labels.index)
    return Predictions(
        "given images",
        probabilities(bundle, pack.images, labels.index),
        place[labels.target],
        known,
        control,
    )


def probabilities(
    bundle: Bundle, images: NDArray[np.uint8], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return p(class) of the images at `rows`, [n, K], by the head that is served."""
    assert bundle.head is not None
    parts = [bundle.head(part.embedding) for part in embed_parts(bundle.encoder, images, rows)]
    return np.concatenate([np.zeros((0, len(bundle.head.labels)), np.float32), *parts])
