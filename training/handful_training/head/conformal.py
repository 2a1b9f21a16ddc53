"""Prediction sets: all classes that the labels do not let us rule out.

The served rule is one threshold t on head.onnx's probabilities:

    set(x) = {k : 1 - p_k(x) <= t}, and the most probable class in any case

Score 1 - p(right class): Sadinle, Lei & Wasserman 2019, "Least Ambiguous Set-Valued Classifiers
with Bounded Error Levels" (LAC), the smallest sets on average. With n scores s of images that are
exchangeable with those to come, t = the ceil((n + 1) level)-th smallest of s gives

    level <= P(right class in set) < level + 1 / (n + 1)

(Vovk et al. 2005; the upper bound without ties). For the n at hand the coverage is not `level` but
a draw from Beta(k, n + 1 - k), k = ceil((n + 1) level) (Vovk 2012, "Conditional validity of
inductive conformal predictors", prop. 2a): with 50 labels, "90 %" is 81 ... 97 %.

Where there are fewer than k scores no t exists, and the set is every class. Nothing is clamped.

The scores are those of out-of-fold predictions, so no label is set aside. Cross-conformal
predictors proper (Vovk 2015; CV+, Barber et al. 2021, "Predictive inference with the jackknife+")
would have to serve the models of all folds; here one model is served, of all labels. What differs
from the theorem: the folds' models saw fewer labels, which errs on the side of larger sets; and one
temperature was fitted on the same rows. Where cross-validation was repeated, each repeat counts as
one model would, and t is the smallest number that k labels are within on average over repeats. The
mean of repeated predictions must not be taken first: it is better than any one model, hence than
the served one, and costs 2 points of coverage on Fashion-MNIST with 100 labels. The bench
`conformal` measures what comes of all this.

Not here, because the served rule is one number: adaptive sets (APS, RAPS), which are larger, and a
threshold per class, which would need as many labels of each class as this needs in all. Coverage
holds on average over classes, not in each; `handful-train evaluate` shows it by class.
"""

import math
from fractions import Fraction

import numpy as np
from mapie.conformity_scores import LACConformityScore
from numpy.typing import NDArray
from scipy.stats import beta

from handful_bundle.manifest import ConformalInfo

LEVEL = 0.9
METHOD = "lac_out_of_fold"
RANGE = 0.95  # of what coverage may turn out to be


def fit_conformal(
    out_of_fold: NDArray[np.floating] | None,
    target: NDArray[np.integer],
    *,
    level: float = LEVEL,
    audit: NDArray[np.bool_] | None = None,
) -> ConformalInfo:
    """Return the manifest's block about prediction sets.

    `threshold` is None where `count` labels are fewer than `needed`. `coverage_low` and
    `coverage_high` hold 95 % of the coverage that so many labels may give. Labels chosen by a
    strategy are not exchangeable with the images to come; where enough of them are a random audit,
    these alone are used, and `on` says so.

    Args:
        out_of_fold: calibrated p(class) of each labelled image by heads that did not see its
            label, [R, n, K] for R repeats, or [n, K] for one; None: there are none.
        target: index of the right class, [n].
        level: share of sets that shall hold the right class, in (0, 1).
        audit: which labels are of images drawn at random, [n]; None: that is not known.

    Raises:
        ValueError: `level` is no probability between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}: give a probability between 0 and 1, such as 0.9")
    needed = labels_needed(level)
    rows, on = np.arange(0 if out_of_fold is None else len(target)), "labels"
    if audit is not None and audit[rows].sum() >= needed:
        rows, on = np.flatnonzero(audit), "audit"
    n, threshold, low, high = len(rows), None, 1.0, 1.0
    if out_of_fold is not None and n >= needed:
        repeats = out_of_fold if out_of_fold.ndim == 3 else out_of_fold[None]
        threshold = _threshold(repeats[:, rows], target[rows], level)
        low, high = coverage_range(n, level)
    return ConformalInfo.model_validate(
        {
            "method": METHOD,
            "level": level,
            "threshold": threshold,
            "count": n,
            "needed": needed,
            "on": on,
            "coverage_low": low,
            "coverage_high": high,
        }
    )


def _threshold(repeats: NDArray[np.floating], target: NDArray[np.integer], level: float) -> float:
    """Return the smallest t that k of n labels are within, on average over `repeats` [R, n, K]."""
    count, n, classes = repeats.shape
    lac = LACConformityScore()
    every = np.tile(target, count)
    # In float64, as whoever compares 1 - p with t does.
    flat = repeats.reshape(-1, classes).astype(np.float64)
    scores = lac.get_conformity_scores(every, flat, every)
    rank = count * _rank(n, level)
    # The library takes the ceil((m + 1)(1 - alpha))-th smallest of m scores; that is to be `rank`.
    alpha = 1 - (rank - 0.5) / (count * n + 1)
    found = lac.get_conformity_score_quantiles(scores, np.array([alpha]), "prefit")
    return float(np.clip(found[0], 0, 1))


def _rank(n: int, level: float) -> int:
    """Return ceil((n + 1) level), the level taken as it is written: 0.9 is 9/10."""
    return math.ceil((n + 1) * Fraction(str(level)))


def labels_needed(level: float) -> int:
    """Return the fewest scores for which a threshold exists: ceil(1 / (1 - level)) - 1.

    9 at 90 %, 19 at 95 %, 99 at 99 %.
    """
    return math.ceil(1 / (1 - Fraction(str(level)))) - 1


def coverage_range(n: int, level: float) -> tuple[float, float]:
    """Return the central 95 % of Beta(k, n + 1 - k): the coverage that n scores may give."""
    k = _rank(n, level)
    tail = (1 - RANGE) / 2
    low, high = beta.ppf([tail, 1 - tail], k, n + 1 - k)
    return float(low), float(high)


def prediction_sets(
    probabilities: NDArray[np.floating], threshold: float | None
) -> NDArray[np.bool_]:
    """Return which classes are in the set of each row of `probabilities` [n, K]: bool [n, K]."""
    if threshold is None:
        return np.ones(probabilities.shape, np.bool_)
    inside: NDArray[np.bool_] = 1 - probabilities.astype(np.float64) <= threshold
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside
