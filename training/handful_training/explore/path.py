"""From one latent to another.

    path(t) = norm(t) * direction(t),  t = 0 ... 1

    direction(t)  on the great circle from a / |a| to b / |b|, at constant speed
    norm(t)       (1 - t) |a| + t |b|

Draws of N(0, I) in D dimensions lie near a sphere of radius sqrt(D). A straight line between two
of them cuts through its inside, where the decoder saw nothing in training and paints the average
image; the arc stays among typical latents (White 2016, "Sampling Generative Networks",
arXiv:1609.04468). The norm goes along linearly, so that two latents of unequal norm are both met.
Where directions say nothing (a norm of 0, one direction, or opposite ones) the line is straight.
The SDK's `interpolate` goes the same way.
"""

import numpy as np
from numpy.typing import NDArray

PARALLEL = 1e-3  # sine of the angle below which arc and line are one, or the arc is arbitrary


def path(
    first: NDArray[np.float32], second: NDArray[np.float32], steps: int
) -> NDArray[np.float32]:
    """Return latents from `first` [D] to `second` [D], both included: [steps, D], steps >= 2."""
    ends = np.stack([first, second]).astype(np.float64)
    a, b = np.linalg.norm(ends, axis=1)
    cosine = float(ends[0] @ ends[1] / (a * b)) if a and b else 1.0
    angle = np.arccos(np.clip(cosine, -1, 1))
    t = np.linspace(0, 1, steps)
    weights = np.stack([1 - t, t], axis=1)
    if np.sin(angle) >= PARALLEL:
        norm = weights @ [a, b]
        weights = norm[:, None] * np.sin(weights * angle) / (np.sin(angle) * np.array([a, b]))
    found = (weights @ ends).astype(np.float32)
    found[0], found[-1] = first, second
    return found
