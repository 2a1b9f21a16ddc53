"""Pure functions of progress in [0, 1], so that a schedule can follow steps or a clock alike."""

import math

WARM_UP = 0.25
START, END = 1 / 25, 1e-3


def one_cycle(progress: float) -> float:
    """Return the learning rate as a share of its peak: up for a quarter, then down by cosine.

    Smith & Topin 2018, "Super-Convergence", arXiv:1708.07120.
    """
    if progress < WARM_UP:
        return _cosine(START, 1.0, progress / WARM_UP)
    return _cosine(1.0, END, min(1.0, (progress - WARM_UP) / (1 - WARM_UP)))


def kl_weight(progress: float, warm_up: float) -> float:
    """Return the weight of the rate, rising linearly from 0 to 1 over the first `warm_up`.

    Bowman et al. 2016, arXiv:1511.06349, section 3.1: without it, latents collapse early.
    """
    return 1.0 if progress >= warm_up else progress / warm_up


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
