"""How much a graph and a linear classifier are each to be believed.

    log p = a log p_graph + b log p_linear + constant

the geometric mean of both, with a and b the most probable given what each says of rows that it has
not seen. a + b is how sure, a : b is how much of which; so the temperature is found along the way.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from handful_training.head.calibration import PRIOR_SD, row_losses

# log a and log b ~ N(log of this, 1), with the weight of about one label, as a temperature's. A
# graph's probabilities are flat, hence more than 1 where it stands alone.
GRAPH_ALONE = (1.5,)
GRAPH_AND_LINEAR = (1.0, 0.4)

FLOOR = 1e-6  # of a graph's probabilities, before the logarithm
_BOUND = 4.0  # of log a and log b


class Scales(NamedTuple):
    """Fitted factors."""

    values: tuple[float, ...]
    log_loss: float  # nats, on the rows that they were fitted on
    objective: float  # log_loss plus the prior's share


def graph_logits(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return log p of what a graph says."""
    found: NDArray[np.float64] = np.log(np.maximum(probabilities, FLOOR).astype(np.float64))
    return found


def fit_scales(
    experts: list[NDArray[np.float64]],
    target: NDArray[np.integer],
    weight: NDArray[np.floating],
    centre: tuple[float, ...],
) -> Scales:
    """Find the factors with which the experts' logits are added.

    Args:
        experts: logits for the same rows out of fold, [R, n, K] each.
        target: index of the right class, [n].
        weight: of each row, [n], 1 on average.
        centre: of the factors' prior.
    """

    def log_loss(factors: NDArray[np.float64]) -> float:
        return float((row_losses(combine(experts, factors), target) * weight).mean())

    def objective(logs: NDArray[np.float64]) -> float:
        away = (logs - np.log(centre)) / PRIOR_SD
        return log_loss(np.exp(logs)) + 0.5 * float(away @ away) / len(target)

    found = minimize(
        objective,
        np.log(centre),
        method="L-BFGS-B",
        bounds=[(-_BOUND, _BOUND)] * len(experts),
    )
    values = tuple(np.exp(found.x).tolist())
    return Scales(values, log_loss(np.array(values)), float(found.fun))


def combine(
    experts: list[NDArray[np.float64]], factors: NDArray[np.float64] | tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the sum of the experts' logits, each times its factor."""
    total: NDArray[np.float64] = np.sum(
        [factor * logits for factor, logits in zip(factors, experts, strict=True)], axis=0
    )
    return total
