"""The page of an exploration: every view that a bundle can give."""

import numpy as np

from handful_bundle.bundle import Bundle
from handful_training.errors import InputError
from handful_training.explore import words
from handful_training.explore.plane import Plane, plane_of_three, principal_plane
from handful_training.explore.pool import Pool
from handful_training.explore.views import (
    End,
    chain,
    class_samples,
    interpolations,
    pairs,
    plane_view,
    prior_samples,
    reconstructions,
    traversals,
)
from handful_training.pages.view import Page, View

GRID = 15  # thumbnails to a side of the plane


def explore_page(
    name: str,
    bundle: Bundle,
    pool: Pool,
    chosen: list[End],
    *,
    facts: tuple[tuple[str, str], ...],
    seed: int,
) -> Page:
    """Return what the bundle's decoder makes of the pool.

    Args:
        name: the model's, for the headline.
        bundle: with a decoder.
        pool: images to look at.
        chosen: two or three images to interpolate between; none: pairs of the pool.
        facts: what stands at the page's head.
        seed: of everything that is drawn.

    Raises:
        InputError: the bundle has no decoder.
    """
    decoder = bundle.decoder
    if decoder is None:
        raise InputError(
            "this version has no decoder, so there is nothing to show; train one by "
            "`handful-train run` (its export writes decoder.onnx)"
        )
    ways = chain(chosen) if chosen else pairs(pool, seed)
    plane: Plane | None
    corners: tuple[str, ...] = ()
    if len(chosen) == 3:
        plane = plane_of_three(np.stack([end.mean for end in chosen]))
        corners = tuple(end.name for end in chosen)
    else:
        plane = principal_plane(pool.mean, GRID)
    views: list[View | None] = [
        reconstructions(pool, decoder, seed),
        traversals(pool, decoder),
        class_samples(pool, bundle, decoder, seed),
        interpolations(ways, decoder) if ways else None,
        plane_view(plane, decoder, corners) if plane is not None else None,
        prior_samples(decoder, seed),
    ]
    return Page(
        f"What “{name}” has learnt",
        words.LEAD,
        facts,
        tuple(view for view in views if view is not None),
    )
