"""Each row's nearest others, exactly, by matrix products.

    argmin_j |a_i - a_j|^2  =  argmax_j  a_i . a_j - |a_j|^2 / 2

One product is a block of rows against all; the best k of it lie in the k groups of columns with
the best maxima, so that only those are looked through. 60,000 rows of 64 take 8 seconds of one
core, once for an encoder, and the cost grows with the square: a pool is bounded, so that there is
no need of an index that may miss neighbours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handful_training.progress import progress

MAX_CANDIDATES = 131_072  # neighbours of larger sets come from a random part of this size
_GROUP = 32  # columns of which only the maximum is compared at first
_BLOCK_BYTES = 64 * 2**20  # of closeness at a time


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The rows nearest to each row, nearest first."""

    index: NDArray[np.int32]  # [N, k]
    distance: NDArray[np.float32]  # Euclidean, [N, k]


def nearest(features: NDArray[np.float32], k: int, *, seed: int = 0) -> Neighbours:
    """Return the `k` nearest others of each row, or all others where there are fewer.

    Equal rows are neighbours at distance 0; of those that are equally near any may be left out.
    Memory is bounded but for the result and a copy of the features.

    Args:
        features: finite, [N, d], N >= 1, d >= 0.
        k: neighbours of each, >= 1.
        seed: draws the candidates where there are more than `MAX_CANDIDATES` rows.
    """
    count = len(features)
    rows = torch.from_numpy(features - features.mean(axis=0, dtype=np.float64)).float()
    candidates = np.arange(count)
    if count > MAX_CANDIDATES:
        rng = np.random.default_rng(seed)
        candidates = np.sort(rng.choice(count, MAX_CANDIDATES, replace=False))
    k = min(k, len(candidates) - 1)
    column = np.full(count, -1)  # of each row among the candidates
    column[candidates] = np.arange(len(candidates))
    pool = rows if count == len(candidates) else rows[torch.from_numpy(candidates)]
    half_norms = 0.5 * pool.square().sum(1)
    padded = -(-len(pool) // _GROUP) * _GROUP
    size = max(1, min(count, _BLOCK_BYTES // (4 * padded)))
    closeness = torch.full((size, padded), -torch.inf)
    index = np.empty((count, k), np.int32)
    distance = np.empty((count, k), np.float32)
    with progress(count, desc="Finding neighbours", unit="image") as bar:
        for start in range(0, count if k else 0, size):
            block = slice(start, min(start + size, count))
            part = closeness[: block.stop - start]
            torch.addmm(-half_norms, rows[block], pool.T, out=part[:, : len(pool)])
            own = column[block]  # not itself, however many rows are equal to it
            part[np.flatnonzero(own >= 0), own[own >= 0]] = -torch.inf
            found = _best(part, k)
            # The products' rounding would show in small distances.
            away = torch.linalg.vector_norm(pool[found] - rows[block, None], dim=2)
            order = away.argsort(dim=1, stable=True)
            index[block] = candidates[found.gather(1, order).numpy()]
            distance[block] = away.gather(1, order).numpy()
            bar.update(len(part))
    return Neighbours(index, distance)


def _best(closeness: Tensor, k: int) -> Tensor:
    """Return the columns of the `k` largest values in each row, [n, k]."""
    groups = closeness.view(len(closeness), -1, _GROUP)
    first = groups.amax(2).topk(min(k, groups.shape[1]), dim=1, sorted=False).indices
    candidates = groups.gather(1, first[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    best = candidates.topk(k, dim=1).indices
    return first.gather(1, best // _GROUP) * _GROUP + best % _GROUP
