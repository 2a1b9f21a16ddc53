"""Planes through latent space, as grids of latents."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REACH = 2.5  # standard deviations to each side of the mean


class Plane(NamedTuple):
    """A grid of latents on a plane.

    `grid[i, j] = origin + v_i * down + u_j * across`.
    """

    grid: NDArray[np.float32]  # [S, S, D]
    across: NDArray[np.float64]  # u, one per column, [S]
    down: NDArray[np.float64]  # v, one per row, [S]
    share: tuple[float, float] | None  # of the variance that the two axes hold; None: not PCA


def principal_plane(mean: NDArray[np.float32], steps: int) -> Plane | None:
    """Return the plane of the two directions in which posterior means vary most.

    Coordinates are standard deviations of the means along each axis.

    Args:
        mean: of q(z|x), [n, D].
        steps: grid points to a side.

    Returns:
        None where the means do not span a plane.
    """
    centre = mean.astype(np.float64).mean(axis=0)
    _, singular, axes = np.linalg.svd(mean - centre, full_matrices=False)
    if len(singular) < 2 or singular[1] <= 1e-6 * max(1.0, singular[0]):
        return None
    # An axis and its opposite are one: fixed by its largest part, so that pages can be compared.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes = axes[:2] * np.sign(largest[:2])
    deviation = singular[:2] / np.sqrt(len(mean) - 1)
    at = np.linspace(-REACH, REACH, steps)
    across, down = axes * deviation[:, None]
    # Up is positive, as on a chart; rows are drawn from the top.
    grid = centre + at[None, :, None] * across + at[::-1, None, None] * down
    share = np.square(singular[:2]) / np.square(singular).sum()
    return Plane(grid.astype(np.float32), at, at[::-1], (float(share[0]), float(share[1])))


def plane_of_three(corners: NDArray[np.float32], margin: int = 2, inside: int = 9) -> Plane:
    """Return the plane through three latents a, b, c: a + u (b - a) + v (c - a).

    The three lie on the grid itself: u and v run beyond 0 and 1 by `margin` steps.

    Args:
        corners: a, b, c: [3, D].
        margin: steps beyond the corners.
        inside: grid points from a corner to the next, both included; 2 or more.
    """
    a, b, c = corners.astype(np.float64)
    at = np.arange(-margin, inside + margin) / (inside - 1)
    grid = a + at[None, :, None] * (b - a) + at[:, None, None] * (c - a)
    return Plane(grid.astype(np.float32), at, at, None)
