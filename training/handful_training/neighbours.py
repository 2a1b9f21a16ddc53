"""Each image's nearest neighbours in pixel PCA: positives for the invariance term, no label used.

"With a Little Help from My Friends" (Dwibedi et al. 2021, arXiv:2104.14548) draws positives from
neighbours in the learnt space; neighbours in pixel space are there before anything is learnt.

How near they are says how far to trust them. Let the reach of a neighbour be its distance as a
share of the distance to an ordinary image of the set. Below 0.3, 85 % of Fashion-MNIST's show the
same class; from 0.4 to 0.5, 64 %. Most of CIFAR-10's lie beyond 0.4, where 27 % do, and as
positives they cost more than they bring. So one bound serves both.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

COMPONENTS = 50
MAX_SIDE = 32  # larger images are averaged down first: neighbours need no detail
MAX_CANDIDATES = 32_768  # neighbours of larger sets come from a random part of this size
FIT_ROWS = 10_000
_PART_BYTES = 16 * 2**20  # of float32 pixels at once
_ROWS = 512  # rows compared at once: 512 x 32,768 float32 = 67 MB
_ORDINARY = 256  # random images whose median distance is that of an ordinary one


def pixel_neighbours(
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    count: int,
    *,
    reach: float = math.inf,
    seed: int = 0,
) -> NDArray[np.int32]:
    """Return, for each of `rows`, which `count` others among `rows` are nearest, nearest first.

    In the place of one that is too far stands the image itself.

    Memory is bounded but for the features, R x 50 float32. Exact among at most `MAX_CANDIDATES`
    random rows.

    Args:
        images: [N, H, W, C]; may be a memory map.
        rows: which of them take part, [R], R > count.
        count: neighbours of each, >= 1.
        reach: how far they may be, as a share of the median distance to other images.
        seed: picks the rows that PCA is fitted on, and the candidates.

    Returns:
        Rows of `images`, [R, count].
    """
    rng = np.random.default_rng(seed)
    features = _features(images, rows, rng)
    candidates = np.arange(len(rows))
    if len(rows) > MAX_CANDIDATES:
        candidates = np.sort(rng.choice(len(rows), MAX_CANDIDATES, replace=False))
    pool = features[torch.from_numpy(candidates)]
    half_norms = 0.5 * pool.square().sum(1)
    ordinary_places = torch.from_numpy(rng.permutation(len(pool))[:_ORDINARY])
    nearest = np.empty((len(rows), count), np.int32)
    for start in range(0, len(rows), _ROWS):
        part = features[start : start + _ROWS]
        # argmin |a - b|^2 = argmax a.b - |b|^2 / 2
        closeness = torch.addmm(-half_norms, part, pool.T)
        near, places = closeness.topk(min(count + 1, len(pool)), dim=1)
        found = candidates[places.numpy()]
        own = np.arange(start, start + len(part))[:, None]
        itself = found == own
        itself[~itself.any(1), -1] = True  # not among the candidates, or beaten by duplicates
        norms = part.square().sum(1, keepdim=True)
        ordinary = (norms - 2 * closeness[:, ordinary_places]).median(1, keepdim=True).values
        far = (norms - 2 * near > reach**2 * ordinary).numpy()
        found = np.where(far, own, found)
        nearest[start : start + _ROWS] = rows[found[~itself].reshape(len(part), -1)]
    return nearest


def _features(
    images: NDArray[np.uint8], rows: NDArray[np.int64], rng: np.random.Generator
) -> Tensor:
    fit_rows = np.sort(rng.choice(rows, min(FIT_ROWS, len(rows)), replace=False))
    sample = torch.cat(list(_flat(images, fit_rows)))
    mean = sample.mean(0)
    components = min(COMPONENTS, *sample.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        _, _, axes = torch.svd_lowrank(sample - mean, q=components, niter=4)
    # One block from the start: small results kept between large temporaries would leave holes in
    # the heap, 700 MB of them for 240,000 images.
    features = torch.empty(len(rows), components)
    start = 0
    for part in _flat(images, rows):
        torch.matmul(part.sub_(mean), axes, out=features[start : start + len(part)])
        start += len(part)
    return features


def _flat(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Yield float32 [n, values] parts of bounded size, averaged down to at most `MAX_SIDE`."""
    size = max(1, _PART_BYTES // (4 * int(np.prod(images.shape[1:]))))
    for start in range(0, len(rows), size):
        part = torch.from_numpy(images[rows[start : start + size]])
        part = part.permute(0, 3, 1, 2).float().div_(255)
        height, width = part.shape[-2:]
        if max(height, width) > MAX_SIDE:
            part = F.adaptive_avg_pool2d(part, (min(height, MAX_SIDE), min(width, MAX_SIDE)))
        yield part.flatten(1)
