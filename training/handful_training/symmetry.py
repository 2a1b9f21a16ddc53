"""Does a pool of images look the same mirrored, upside down, or turned? No label is asked.

A classifier two-sample test (Lopez-Paz & Oquab 2017, "Revisiting Classifier Two-Sample Tests",
arXiv:1610.06545) with the nearest neighbour as classifier. With T the change, P the pool without
an image x, and T(P) what P becomes,

    x counts as told apart if it is nearer to P than to T(P)

Where the pool is closed under T, both are equally near and half of the images are told apart; the
more there are, the more T shows. Distances are taken twice: between normalised brightness, which
sees the arrangement, and between amplitude spectra, which see the direction of fine structure
wherever it lies.

What it does *not* know: labels. A pool of b and d alone is closed under mirroring, and mirroring
would make them one. Nor does a change that shows always matter: mirrored shoes are shoes.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SAMPLE = 2000
FEWEST = 50  # images below which nothing is decided
MAX_SIDE = 32  # larger images are averaged down first
LIMIT = 0.58  # share told apart, up to which a pool passes for closed
CONFIDENCE = 2.0  # standard errors that the measured share must stay below the limit
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in handful_bundle.pixels
_TIE = 1e-5

_log = logging.getLogger(__name__)


class Symmetry(NamedTuple):
    """Whether a pool looks the same after each of three changes."""

    left_right: bool = False
    upside_down: bool = False
    quarter_turn: bool = False


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {  # of images [n, H, W]
    "left_right": lambda images: images.flip(2),
    "upside_down": lambda images: images.flip(1),
    "quarter_turn": lambda images: images.rot90(1, (1, 2)),
}


class Finding(NamedTuple):
    """What the test says of one change."""

    told_apart: float  # share of images, about 0.5 where the pool is closed; the worse of two
    limit: float  # up to which it passes
    closed: bool


def pool_symmetry(images: NDArray[np.uint8], *, seed: int = 0) -> Symmetry:
    """Return under which changes the pool is closed, and log the numbers.

    Args:
        images: [N, H, W, C]; may be a memory map, of which at most `SAMPLE` rows are read.
        seed: picks these rows.
    """
    if len(images) < FEWEST:
        _log.info("views are not mirrored: %d images are too few to tell", len(images))
        return Symmetry()
    found = examine(images, seed=seed)
    symmetry = Symmetry(**{name: finding.closed for name, finding in found.items()})
    _log.info(
        "views: %s (share of images that the change gives away, 50%% if none: %s)",
        ", ".join(
            f"{'' if finding.closed else 'no '}{name.replace('_', ' ')}"
            for name, finding in found.items()
        ),
        ", ".join(
            f"{100 * finding.told_apart:.0f}%, limit {100 * finding.limit:.0f}%"
            for finding in found.values()
        ),
    )
    return symmetry


def examine(images: NDArray[np.uint8], *, seed: int = 0) -> dict[str, Finding]:
    """Return what the test says of each change that keeps the images' shape.

    Args:
        images: [N, H, W, C], N >= 2.
        seed: picks at most `SAMPLE` of them.
    """
    count = min(SAMPLE, len(images))
    rows = np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))
    pool = _brightness(images, rows)
    # A pool so small that chance could hide the change passes only if it must be closed.
    limit = LIMIT - CONFIDENCE * 0.5 / count**0.5
    found = {}
    for name, change in CHANGES.items():
        if name == "quarter_turn" and pool.shape[1] != pool.shape[2]:
            continue
        share = max(_told_apart(features, pool, change) for features in (_pixels, _spectrum))
        found[name] = Finding(share, limit, closed=share <= limit)
    return found


def _told_apart(
    features: Callable[[Tensor], Tensor], pool: Tensor, change: Callable[[Tensor], Tensor]
) -> float:
    """Return the share of images nearer to the pool than to the changed pool; ties are halves."""
    here = features(pool)
    there = features(change(pool))
    same, other = _nearest(here, here), _nearest(here, there)
    tie = (same - other).abs() <= _TIE
    return float(((same < other) & ~tie).double().mean() + 0.5 * tie.double().mean())


def _nearest(rows: Tensor, others: Tensor) -> Tensor:
    """Return each row's squared distance to the nearest of the others but its counterpart, [n]."""
    squares = rows.square().sum(1)[:, None] + others.square().sum(1)
    distances = torch.addmm(squares, rows, others.T, alpha=-2)
    return distances.fill_diagonal_(float("inf")).amin(1)


def _pixels(images: Tensor) -> Tensor:
    """Return brightness without mean and contrast, [n, H W]: these vary more than all else."""
    flat = images.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True), dim=1, eps=1e-6)


def _spectrum(images: Tensor) -> Tensor:
    """Return log amplitudes, [n, frequencies]: where a structure lies leaves no trace in them."""
    centred = images - images.mean((1, 2), keepdim=True)
    amplitude = torch.fft.fft2(centred).abs() / images.shape[-1]
    return torch.log1p(amplitude).flatten(1)


def _brightness(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Tensor:
    """Return float32 [n, h, w] in [0, 1], averaged down to at most `MAX_SIDE`."""
    parts = []
    for start in range(0, len(rows), 100):  # images may be large
        part = torch.from_numpy(images[rows[start : start + 100]]).permute(0, 3, 1, 2).float()
        if part.shape[1] == 3:
            part = (part * part.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        height, width = part.shape[-2:]
        size = min(height, MAX_SIDE), min(width, MAX_SIDE)
        parts.append(F.adaptive_avg_pool2d(part, size)[:, 0] / 255)
    return torch.cat(parts)
