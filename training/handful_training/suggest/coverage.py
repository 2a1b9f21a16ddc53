"""Choose images so that as much as possible of the pool is like one that is labelled.

    maximise over S:   sum_i u_i max_{j in S or labelled} k(x_i, x_j),   k = exp(-|a - b|^2 / s^2)

Greedily, which comes within 1 - 1/e of the best (Nemhauser et al. 1978). With u = 1 this is
MaxHerding (Bae et al. 2024, "Generalized coverage for more robust low-budget active learning",
arXiv:2407.12212); with u_i how uncertain image i is, Uncertainty Herding (Bae et al. 2025,
arXiv:2412.20644). The order of the choice is one of worth: the first n of m are the choice of n.

Knows features and weights, no images and no labels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BANDWIDTH = 1.0  # s, where features have norm 1; 1.3 and 1.6 chose no better
MAX_REFERENCE = 20_000  # images whose coverage counts; with all 60,000 the choice is as good
MAX_CANDIDATES = 4_000  # images to choose from, or twice as many as are asked for
BLOCK_BYTES = 32 * 2**20
ALIKE = 0.05  # at a distance below this, where most are near 1.4, two images show the same


class Chosen(NamedTuple):
    """Images in the order of their worth, n of them or fewer where no others differ.

    Attributes:
        row: of the features, int64 [n].
        stands_for: share of the pool that is nearer to it than to any other chosen or labelled
            image, float64 [n].
    """

    row: NDArray[np.int64]
    stands_for: NDArray[np.float64]


def choose(
    features: NDArray[np.float32],
    count: int,
    *,
    labelled: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    weight: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> Chosen:
    """Choose up to `count` images. The same arguments give the same choice.

    Never chosen are excluded ones, nor any that shows the same as a labelled or a chosen one.

    Args:
        features: of the pool, norm 1, [N, p].
        count: how many, >= 1.
        labelled: features of images whose label is known, [m, p]; some or all may be in the pool.
        excluded: which images of the pool may not be chosen, [N].
        weight: how much each image's coverage is worth, >= 0, [N]; 1 by default.
        seed: draws the images that are compared where there are more than fit.
    """
    rng = np.random.default_rng(seed)
    reference = _some(np.arange(len(features)), MAX_REFERENCE, rng)
    drawn = _some(np.flatnonzero(~excluded), max(MAX_CANDIDATES, 2 * count), rng)
    candidates = _different(features, drawn, labelled)
    target = features[reference]
    worth = np.ones(len(reference)) if weight is None else weight[reference].astype(np.float64)
    covered = _covered(target, labelled)
    chosen: list[int] = []
    # A gain can only fall as more is covered, so a candidate whose last known gain is not the
    # largest need not be looked at again (Minoux 1978, lazy greedy).
    gain = _gains(features[candidates], target, covered, worth)
    open_ = np.ones(len(candidates), np.bool_)
    while len(chosen) < count and open_.any():
        fresh = np.zeros(len(candidates), np.bool_)
        while not fresh[best := int(np.where(open_, gain, -1.0).argmax())]:
            row = candidates[best : best + 1]
            gain[best] = _gains(features[row], target, covered, worth)[0]
            fresh[best] = True
        found = features[candidates[best]]
        chosen.append(int(candidates[best]))
        covered = np.maximum(covered, _kernel(target @ found))
        open_ &= _apart(features[candidates] @ found)
        open_[best] = False
    rows = np.array(chosen, np.int64)
    return Chosen(rows, _shares(target, features[rows], labelled))


def _different(
    features: NDArray[np.float32], rows: NDArray[np.int64], labelled: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return those of `rows` that show the same as no labelled image."""
    kept = np.ones(len(rows), np.bool_)
    for part in _parts(labelled, len(rows)):
        kept &= _apart((features[rows] @ part.T).max(axis=1, initial=-1.0))
    return rows[kept]


def _apart(cosine: NDArray[np.floating]) -> NDArray[np.bool_]:
    return cosine < 1 - ALIKE**2 / 2


def _kernel(cosine: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return k from a . b, for |a| = |b| = 1: |a - b|^2 = 2 - 2 a . b."""
    return np.exp((2 * cosine.astype(np.float64) - 2) / BANDWIDTH**2)


def _covered(target: NDArray[np.float32], labelled: NDArray[np.float32]) -> NDArray[np.float64]:
    covered = np.zeros(len(target))
    for part in _parts(labelled, len(target)):
        covered = np.maximum(covered, _kernel((target @ part.T).max(axis=1)))
    return covered


def _gains(
    candidates: NDArray[np.float32],
    target: NDArray[np.float32],
    covered: NDArray[np.float64],
    worth: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what each candidate adds to the coverage, [C]."""
    gains = [
        np.maximum(_kernel(part @ target.T) - covered, 0) @ worth
        for part in _parts(candidates, len(target))
    ]
    return np.concatenate([np.zeros(0), *gains])


def _shares(
    target: NDArray[np.float32], chosen: NDArray[np.float32], labelled: NDArray[np.float32]
) -> NDArray[np.float64]:
    nearest = np.full(len(target), -1)
    closeness = np.full(len(target), -np.inf)
    start = 0
    for part in _parts(chosen, len(target)):
        found = target @ part.T
        better = found.max(axis=1) > closeness
        nearest[better] = start + found.argmax(axis=1)[better]
        closeness = np.maximum(closeness, found.max(axis=1))
        start += len(part)
    for part in _parts(labelled, len(target)):
        nearest[(target @ part.T).max(axis=1) >= closeness] = -1
    return np.bincount(nearest[nearest >= 0], minlength=len(chosen)) / max(1, len(target))


def _some(rows: NDArray[np.int64], limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if len(rows) <= limit:
        return rows
    return np.sort(rng.choice(rows, limit, replace=False))


def _parts(rows: NDArray[np.float32], columns: int) -> list[NDArray[np.float32]]:
    """Divide rows so that a product of float64 with `columns` others is of bounded size."""
    size = max(1, BLOCK_BYTES // (8 * max(1, columns)))
    return [rows[start : start + size] for start in range(0, len(rows), size)]
