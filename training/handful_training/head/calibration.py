"""One temperature for a classifier's logits: softmax(logits / T).

Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), section 4.2: T
minimises the log loss of predictions for rows that the classifier was not fitted on. It changes
how sure the classifier is, never which class it prefers. Knows no classifier.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, softmax

LOWEST, HIGHEST = 0.05, 20.0
_COMPARED = 5_000

# log T ~ N(0, 1), one prior for all rows together: its weight is that of about one label. With
# thousands of labels it is not felt; with a dozen, all predicted right, it is what keeps T from
# running to its bound and every answer to 100 %.
PRIOR_SD = 1.0


def row_losses(logits: NDArray[np.floating], target: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return -log p(right class) of each row in nats, the mean over repeats, [n].

    Args:
        logits: [R, n, K].
        target: [n].
    """
    right = log_softmax(logits, axis=-1)[:, np.arange(len(target)), target]
    losses: NDArray[np.float64] = -right.mean(axis=0)
    return losses


class Temperature(NamedTuple):
    """A fitted temperature."""

    value: float
    log_loss: float  # nats, mean over rows and repeats, of softmax(logits / value)
    objective: float  # log_loss plus the prior's share; compare classifiers by this


def fit_temperature(
    logits: NDArray[np.floating],
    target: NDArray[np.integer],
    weight: NDArray[np.floating] | None = None,
) -> Temperature:
    """Find the temperature that makes out-of-fold logits the most probable.

    Args:
        logits: one or more repeats of predictions for the same rows, [R, n, K].
        target: index of the right class, [n].
        weight: of each row, [n], 1 on average; None: all the same.
    """
    weight = np.ones(len(target)) if weight is None else weight

    def log_loss(temperature: float) -> float:
        return float((row_losses(logits / temperature, target) * weight).mean())

    def objective(log_temperature: float) -> float:
        prior = 0.5 * (log_temperature / PRIOR_SD) ** 2 / len(target)
        return log_loss(float(np.exp(log_temperature))) + prior

    found = minimize_scalar(
        objective, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded",
        options={"xatol": 1e-4},
    )  # fmt: skip
    value = float(np.exp(found.x))
    return Temperature(value, log_loss(value), float(found.fun))


def as_sure_as(probabilities: NDArray[np.floating], logits: NDArray[np.floating]) -> float:
    """Return the factor that makes softmax(factor x logits) as sure as `probabilities`.

    How sure is the mean over rows of the largest probability; it grows with the factor, which stays
    within the bounds of a temperature. Where the classes of both are right equally often, one is
    then as well calibrated as the other on average. No label is asked.

    Args:
        probabilities: of N rows, [N, K].
        logits: of the same rows, [N, K]. At most `_COMPARED` of them, evenly spread, are looked at.
    """
    step = -(-len(logits) // _COMPARED)
    wanted = float(probabilities[::step].max(axis=1).mean())
    compared = logits[::step].astype(np.float64)

    def too_sure(log_factor: float) -> float:
        return float(softmax(np.exp(log_factor) * compared, axis=1).max(axis=1).mean()) - wanted

    low, high = -np.log(HIGHEST), -np.log(LOWEST)
    if too_sure(low) >= 0:
        return 1 / HIGHEST
    if too_sure(high) <= 0:
        return 1 / LOWEST
    return float(np.exp(brentq(too_sure, low, high, xtol=1e-3)))
