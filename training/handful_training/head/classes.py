"""Where each class lies in latent space, from a handful of labelled images."""

import numpy as np
from numpy.typing import NDArray

from handful_bundle.classes import Classes


def class_statistics(
    mean: NDArray[np.floating],
    target: NDArray[np.integer],
    classes: int,
    *,
    pool_variance: NDArray[np.floating] | None = None,
) -> bytes:
    """Return classes.npz: `count` int64 [K], `mean` and `variance` float32 [K, D].

    A class with one label has no variance of its own: it gets the mean variance within the
    classes that have more, weighted by their degrees of freedom. Where there is none, it gets
    `pool_variance`, too wide but never empty, or else 1, the prior's.

    Args:
        mean: posterior means of the labelled images, [n, D].
        target: index of each one's class, [n].
        classes: K. A class without a row gets the pool's mean of what there is, and count 0.
        pool_variance: variance of the unlabelled images' posterior means, [D].
    """
    latents = mean.astype(np.float64)
    count = np.bincount(target, minlength=classes)
    centre = np.tile(latents.mean(axis=0), (classes, 1))
    squares = np.zeros_like(centre)
    for k in np.flatnonzero(count):
        rows = latents[target == k]
        centre[k] = rows.mean(axis=0)
        squares[k] = np.square(rows - centre[k]).sum(axis=0)
    freedom = np.maximum(count - 1, 0)
    if freedom.any():
        fallback = squares.sum(axis=0) / freedom.sum()
    elif pool_variance is not None:
        fallback = pool_variance.astype(np.float64)
    else:
        fallback = np.ones(latents.shape[1])
    own = squares / np.maximum(freedom, 1)[:, None]  # unbiased
    variance = np.where(freedom[:, None] > 0, own, fallback)
    return Classes(count, centre.astype(np.float32), variance.astype(np.float32)).pack()
