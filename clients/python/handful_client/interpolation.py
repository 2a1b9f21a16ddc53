"""From one image to another through the latents between them.

    path(t) = norm(t) * direction(t),  t = 0 ... 1

    direction(t)  on the great circle from a / |a| to b / |b|, at constant speed
    norm(t)       (1 - t) |a| + t |b|

Draws of N(0, I) in D dimensions lie near a sphere of radius sqrt(D). A straight line between two
of them cuts through its inside, where the decoder saw nothing in training and paints the average
image; the arc stays among typical latents (White 2016, "Sampling Generative Networks",
arXiv:1609.04468). The norm goes along linearly, so that two latents of unequal norm are both met.
Where directions say nothing (a norm of 0, one direction, or opposite ones) the line is straight.

Pure Python: latents travel as lists, and a path of a few steps needs no array library.
"""

import math
from collections.abc import Sequence
from typing import Any

from handful_client import images, rows
from handful_client.errors import InputError
from handful_client.images import Image, Vector
from handful_client.results import EmbedResult, ImagesResult
from handful_client.spaces import SpaceGuard

PARALLEL = 1e-3  # sine of the angle below which arc and line are one, or the arc is arbitrary


def ends(first: Any, second: Any, steps: int) -> list[Image]:
    """Return the two images to interpolate between.

    Raises:
        InputError: one of them is many images or none, or there are fewer than 2 steps.
    """
    if steps < 2:
        raise InputError(f"steps is {steps}; give 2 or more: both ends are among them")
    for image in (first, second):
        if not images.is_one(image):
            raise InputError(f"interpolate between two single images, not {type(image).__name__}")
    return [first, second]


def between(found: EmbedResult, steps: int) -> list[Vector]:
    """Return the latents on the way from the first to the second image, both included.

    Raises:
        PartialFailure: one of the two could not be encoded; its error says why.
    """
    first, second = rows.to_lists(found.raise_for_errors().embeddings)
    assert first is not None
    assert second is not None
    return [Vector(latent) for latent in path(first, second, steps)]


def of_one_model(made: ImagesResult, found: EmbedResult) -> ImagesResult:
    """Return the images, if they were decoded by the model that encoded their ends.

    Raises:
        SpaceMismatch: another encoder was put into service in between.
    """
    guard = SpaceGuard()
    guard.check(found.model.space, at=0)
    guard.check(made.model.space, at=0)
    return made


def path(first: Sequence[float], second: Sequence[float], steps: int) -> list[list[float]]:
    """Return `steps` >= 2 latents from `first` to `second`, both included: [steps][D]."""
    a, b = math.hypot(*first), math.hypot(*second)
    cosine = sum(x * y for x, y in zip(first, second, strict=True)) / (a * b) if a and b else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    sine = math.sin(angle)
    latents = [list(first)]
    for step in range(1, steps - 1):
        t = step / (steps - 1)
        if sine < PARALLEL:
            p, q = 1 - t, t
        else:
            norm = (1 - t) * a + t * b
            p = norm * math.sin((1 - t) * angle) / (sine * a)
            q = norm * math.sin(t * angle) / (sine * b)
        latents.append([p * x + q * y for x, y in zip(first, second, strict=True)])
    return [*latents, list(second)]
