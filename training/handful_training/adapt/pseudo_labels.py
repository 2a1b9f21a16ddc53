"""From what the graph says of every image to targets that a network can be trained on.

Calibrated: one temperature, fitted on labelled images that were predicted without their own
label. Weighted, as in "SoftMatch" (Chen et al. 2023, arXiv:2301.10921, section 3.1): an image
counts fully when it is as sure as its class is on average, and by a Gaussian less below that. Mean
and spread belong to the class, as the thresholds of "FreeMatch" do (Wang et al. 2023,
arXiv:2205.07246): a class that is hard for the graph is not starved by easy ones. Knows no images.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from handful_training.head.calibration import fit_temperature

TINY = 1e-12  # the graph gives probability 0 where no label can be reached
WIDTH = 2.0  # standard deviations that the Gaussian's variance is divided by, as in the paper


class PseudoLabels(NamedTuple):
    """What M images are trained to be, and how much each counts."""

    target: NDArray[np.float32]  # probabilities, [M, K]
    weight: NDArray[np.float32]  # in [0, 1], [M]
    temperature: float


def pseudo_labels(
    probabilities: NDArray[np.float32],
    out_of_fold: NDArray[np.float32] | None,
    labels: NDArray[np.int64],
    *,
    default_temperature: float = 1.0,
) -> PseudoLabels:
    """Return targets and weights.

    Args:
        probabilities: the graph's, of every image, [M, K].
        out_of_fold: the graph's of the labelled images, each without its own label, [R, n, K];
            None where a class has too few labels for that.
        labels: classes of the labelled images, [n].
        default_temperature: where nothing can be held out.
    """
    temperature = default_temperature
    if out_of_fold is not None:
        logits = np.log(np.maximum(out_of_fold, TINY))
        temperature = fit_temperature(logits, labels).value
    target = softmax(np.log(np.maximum(probabilities, TINY)) / temperature, axis=1)
    return PseudoLabels(target.astype(np.float32), _weights(target), temperature)


def _weights(target: NDArray[np.floating]) -> NDArray[np.float32]:
    said, sure = target.argmax(1), target.max(1)
    count = np.maximum(np.bincount(said, minlength=target.shape[1]), 1)
    mean = np.bincount(said, sure, target.shape[1]) / count
    variance = np.bincount(said, (sure - mean[said]) ** 2, target.shape[1]) / count
    below = np.minimum(sure - mean[said], 0)
    weight: NDArray[np.floating] = np.exp(
        -(below**2) / np.maximum(2 * variance[said] / WIDTH**2, TINY)
    )
    return weight.astype(np.float32)
