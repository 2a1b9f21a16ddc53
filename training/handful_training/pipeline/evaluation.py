"""How good a head is, always beside the control that learns nothing but PCA."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ConformalInfo
from handful_training.baseline import PixelBaseline
from handful_training.embedding import embed_parts
from handful_training.errors import InputError
from handful_training.gate import OutOfFold
from handful_training.head.conformal import prediction_sets
from handful_training.image_keys import image_keys
from handful_training.labels.fairness import Fairness
from handful_training.labels.labels import AUDIT, Labels
from handful_training.metrics import Scores, Sets, confusion, score, wilson_interval
from handful_training.packs.pack import Pack
from handful_training.plots import confusion_matrix, prediction_set_sizes, reliability

_log = logging.getLogger(__name__)

OUT_OF_FOLD = "out of fold"
MAX_UNUSED = 10_000  # left-over labels that are looked at; half a percent is precise enough


@dataclass(frozen=True)
class Evaluation:
    """Scores of the head and of the baseline on the same images."""

    on: str  # "unused labels", "out of fold" or "given images"
    scores: Scores
    baseline_accuracy: float | None
    fairness: Fairness
    audit: Scores | None  # of the images drawn at random alone, where others were not
    level: float | None  # at which prediction sets shall hold the truth

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
        more = {
            "ece_if_calibrated": self.scores.ece_if_calibrated[0],
            "baseline_pca_accuracy": self.baseline_accuracy,
            "coverage": self.scores.coverage,
            "prediction_set_size": self.scores.prediction_set_size,
            "audit_accuracy": None if self.audit is None else self.audit.accuracy,
        }
        return found | {name: value for name, value in more.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            **self.scores.to_json(),
            "prediction_set_level": self.level,
            "baseline_pca_accuracy": self.baseline_accuracy,
            "baseline_pca_accuracy_ci": self._baseline_interval(),
            "evaluated_on": self.on,
            "labels_chosen_by": self.fairness.chosen_by,
            "random_sample": self.fairness.random,
            "audit": None if self.audit is None else self.audit.to_json(),
        }

    def _baseline_interval(self) -> list[float] | None:
        if self.baseline_accuracy is None:
            return None
        n = self.scores.n
        return list(wilson_interval(round(self.baseline_accuracy * n), n))


@dataclass(frozen=True)
class Predictions:
    """Probabilities beside the truth, for scores and plots."""

    on: str
    probabilities: NDArray[np.float32]  # [n, K], of the head
    target: NDArray[np.int64]  # [n]
    labels: tuple[str, ...]
    control: NDArray[np.float32] | None  # [n, K], of the baseline
    conformal: ConformalInfo | None  # of the head
    chosen_by: tuple[str, ...] = ()  # how each image was chosen, [n]; empty: not known of any

    def evaluate(self) -> Evaluation:
        """Score both."""
        fairness = Fairness.of(self.chosen_by, len(self.target))
        if warning := fairness.warning():
            _log.warning("%s", warning)
        random = np.array([how == AUDIT for how in self.chosen_by], np.bool_)
        return Evaluation(
            self.on,
            self._score(np.arange(len(self.target))),
            None if self.control is None else float((self.control.argmax(1) == self.target).mean()),
            fairness,
            self._score(np.flatnonzero(random)) if random.any() and not random.all() else None,
            None if self.conformal is None else self.conformal.level,
        )

    def sets(self) -> NDArray[np.bool_] | None:
        """Return which classes are in each image's prediction set, [n, K]; None: there are none."""
        if self.conformal is None:
            return None
        return prediction_sets(self.probabilities, self.conformal.threshold)

    def _score(self, rows: NDArray[np.int64]) -> Scores:
        inside = self.sets()
        sets = None if inside is None else Sets(inside[rows], self.on == OUT_OF_FOLD)
        return score(self.probabilities[rows], self.target[rows], self.labels, sets)

    def draw(self, folder: Path) -> None:
        """Draw confusion matrix, reliability and prediction sets into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        matrix = confusion(self.probabilities, self.target)
        confusion_matrix(matrix, self.labels, folder / "confusion_matrix.png")
        reliability(self.probabilities, self.target, folder / "reliability.png")
        if self.conformal is not None and (inside := self.sets()) is not None:
            prediction_set_sizes(
                inside,
                self.target,
                folder / "prediction_sets.png",
                level=self.conformal.level,
                calibrated_here=self.on == OUT_OF_FOLD,
            )


def sample_unused(unused: Labels, seed: int) -> Labels:
    """Return the left-over labels that are looked at: all, or 10,000 drawn by `seed`."""
    if len(unused) <= MAX_UNUSED:
        return unused
    drawn = np.random.default_rng(seed).choice(len(unused), MAX_UNUSED, replace=False)
    rows = np.sort(drawn)
    return replace(
        unused,
        index=unused.index[rows],
        target=unused.target[rows],
        keys=tuple(unused.keys[row] for row in rows.tolist()),
        chosen_by=tuple(unused.chosen_by[row] for row in rows.tolist() if unused.chosen_by),
    )


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
        unused = sample_unused(unused, seed)
        index = unused.index
        return Predictions(
            "unused labels",
            probabilities(bundle, pack.images, index),
            unused.target,
            labels.names,
            baseline.probabilities(pack.images, index),
            sets_of(bundle),
            unused.chosen_by,
        )
    if out_of_fold is None:
        return None
    # All labelled images but those whose labels the encoder itself was trained on.
    kept = np.isin(image_keys(pack.images, labels.index), out_of_fold.keys)
    if not kept.any():
        return None
    control = baseline.out_of_fold(pack.images, labels.index, labels.target, folds=folds, seed=seed)
    return Predictions(
        OUT_OF_FOLD,
        out_of_fold.probabilities,
        out_of_fold.target,
        labels.names,
        control[kept],
        sets_of(bundle),
        tuple(labels.chosen_by[i] for i in np.flatnonzero(kept).tolist() if labels.chosen_by),
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
        sets_of(bundle),
        labels.chosen_by,
    )


def sets_of(bundle: Bundle) -> ConformalInfo | None:
    """Return how the head of `bundle` makes prediction sets; None: it makes none."""
    return None if bundle.manifest.head is None else bundle.manifest.head.conformal


def probabilities(
    bundle: Bundle, images: NDArray[np.uint8], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return p(class) of the images at `rows`, [n, K], by the head that is served."""
    assert bundle.head is not None
    parts = [bundle.head(part.embedding) for part in embed_parts(bundle.encoder, images, rows)]
    return np.concatenate([np.zeros((0, len(bundle.head.labels)), np.float32), *parts])
