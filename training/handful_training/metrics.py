"""How good calibrated probabilities are. Pure functions of arrays; knows no model.

Every fraction lies in [0, 1]; losses are in nats.
"""

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

ECE_BINS = 15
DRAWS = 200  # of outcomes, to see what chance alone makes of the calibration error


@dataclass(frozen=True)
class ClassScores:
    """How one class fared. None: undefined, as precision is for a class never predicted."""

    n: int  # rows of this class
    accuracy: float | None  # share of them that were predicted as it: its recall
    recall: float | None  # the same, by its other name
    precision: float | None  # share of the rows predicted as it that are of it
    recall_ci: tuple[float, float] = (0.0, 1.0)  # Wilson, 95 %
    coverage: float | None = None  # share of them whose prediction set holds it


@dataclass(frozen=True)
class Scores:
    """How predictions compare with the truth, over `n` rows."""

    accuracy: float
    accuracy_ci: tuple[float, float]  # Wilson, 95 %
    n: int
    log_loss: float  # nats
    ece: float
    per_class: dict[str, ClassScores]
    ece_if_calibrated: tuple[float, float]  # what chance alone would show: mean, 97.5 % quantile
    coverage: float | None = None  # share of prediction sets that hold the truth; None: not known
    coverage_ci: tuple[float, float] | None = None  # Wilson, 95 %
    prediction_set_size: float | None = None  # classes, mean; None while the head gives no sets

    def to_json(self) -> dict[str, Any]:
        """Return what `handful-train evaluate --json` prints: plain dicts, lists and numbers."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True)
class Sets:
    """Prediction sets of the rows that are scored.

    Attributes:
        inside: which classes are in, bool [n, K].
        calibrated_here: their threshold was set on these very rows: the share of them that are
            covered is the level by construction, and says nothing.
    """

    inside: NDArray[np.bool_]
    calibrated_here: bool = False


def score(
    probabilities: NDArray[np.floating],
    target: NDArray[np.integer],
    labels: tuple[str, ...],
    sets: Sets | None = None,
) -> Scores:
    """Compare `probabilities` [n, K] with the right classes `target` [n]; n >= 1."""
    matrix = confusion(probabilities, target)
    right = int(matrix.trace())
    n = len(target)
    covered = None
    if sets is not None and not sets.calibrated_here:
        covered = sets.inside[np.arange(n), target]
    return Scores(
        accuracy=right / n,
        accuracy_ci=wilson_interval(right, n),
        n=n,
        log_loss=log_loss(probabilities, target),
        ece=expected_calibration_error(probabilities, target),
        per_class=_per_class(matrix, labels, target, covered),
        ece_if_calibrated=ece_if_calibrated(probabilities),
        coverage=None if covered is None else float(covered.mean()),
        coverage_ci=None if covered is None else wilson_interval(int(covered.sum()), n),
        prediction_set_size=None if sets is None else float(sets.inside.sum(axis=1).mean()),
    )


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion, within [0, 1]; (0, 1) where n is 0.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference". Unlike the
    textbook's p +- z sd it keeps its coverage for few rows and for proportions near 0 and 1.

    Raises:
        ValueError: more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    # At the ends the formula gives 0 and 1 exactly; rounding does not.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def log_loss(probabilities: NDArray[np.floating], target: NDArray[np.integer]) -> float:
    """Return the mean of -log p(right class), in nats.

    Probabilities below float32's resolution (1.2e-7) count as that: one confident error costs 16
    nats, not infinity.
    """
    right = probabilities[np.arange(len(target)), target].astype(np.float64)
    return float(-np.log(np.maximum(right, np.finfo(np.float32).eps)).mean())


def expected_calibration_error(
    probabilities: NDArray[np.floating], target: NDArray[np.integer], bins: int = ECE_BINS
) -> float:
    """Return the mean distance between confidence and accuracy, over bins of equal width.

        ECE = sum over bins of (rows in it / n) * |accuracy - mean confidence|

    Naeini et al. 2015; Guo et al. 2017 (arXiv:1706.04599), eq. 3. It is biased upwards when bins
    hold few rows: a perfect forecaster of 10 classes shows 10 % on 100 rows, 3 % on 1,000.
    """
    curve = reliability(probabilities, target, bins)
    return float((curve.rows * np.abs(curve.accuracy - curve.confidence)).sum() / len(target))


def ece_if_calibrated(
    probabilities: NDArray[np.floating], *, bins: int = ECE_BINS, draws: int = DRAWS
) -> tuple[float, float]:
    """Return the ECE that these confidences would show if they were right: mean, 97.5 % quantile.

    Outcomes are drawn from the confidences themselves (Broecker & Smith 2007, "Increasing the
    reliability of reliability diagrams"). An ECE below the quantile may be chance. The same
    probabilities give the same numbers.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    n = len(confidence)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    rng = np.random.default_rng(0)
    found = np.empty(draws)
    for i in range(draws):
        surplus = (rng.random(n) < confidence) - confidence
        found[i] = np.abs(np.bincount(place, weights=surplus, minlength=bins)).sum() / n
    return float(found.mean()), float(np.quantile(found, 0.975))


@dataclass(frozen=True)
class Reliability:
    """Rows, accuracy and mean confidence by bin of confidence, each [bins]; 0 in empty bins."""

    rows: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]


def reliability(
    probabilities: NDArray[np.floating], target: NDArray[np.integer], bins: int = ECE_BINS
) -> Reliability:
    """Group predictions by confidence into bins (0, 1/bins], ..., (1 - 1/bins, 1]."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == target
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    divisor = np.maximum(rows, 1)
    return Reliability(
        rows,
        np.bincount(place, weights=right, minlength=bins) / divisor,
        np.bincount(place, weights=confidence, minlength=bins) / divisor,
    )


def confusion(
    probabilities: NDArray[np.floating], target: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Count rows by right class (row) and predicted class (column), [K, K]."""
    K = probabilities.shape[1]
    pairs = target.astype(np.int64) * K + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=K * K).reshape(K, K)


def _per_class(
    matrix: NDArray[np.int64],
    labels: tuple[str, ...],
    target: NDArray[np.integer],
    covered: NDArray[np.bool_] | None,
) -> dict[str, ClassScores]:
    inside = None
    if covered is not None:
        inside = np.bincount(target, weights=covered, minlength=len(labels))
    scores = {}
    for k, label in enumerate(labels):
        right, n, predicted = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        recall = right / n if n else None
        scores[label] = ClassScores(
            n,
            recall,
            recall,
            right / predicted if predicted else None,
            wilson_interval(right, n),
            float(inside[k] / n) if inside is not None and n else None,
        )
    return scores


def _plain(value: Any) -> Any:
    """Return `value` with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
