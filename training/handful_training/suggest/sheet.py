"""The contact sheet of suggestions: each image beside its reason, and beside images like it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handful_training.pages.view import Page, Strip, View
from handful_training.suggest.suggestion import Suggestion

SHOWN = 500  # images with a line of their own; the table names all
LEADS = {
    "coverage": "No label is known yet. These images stand for as much of the pool as so few can: "
    "each is typical of many others that no other stands for.",
    "uncertainty": "Chosen for what their labels would settle: images that the labels so far leave "
    "open, each standing for many like it.",
    "audit": "Drawn at random, each image equally likely: accuracy on them is that on the pool. "
    "The column `chosen_by` tells them from images that were chosen to learn from.",
    "doubts": "Labels that a head which did not see them disputes, the most disputed first. Some "
    "are mistakes, some are rare images of their class: look, and correct what is wrong.",
}


def suggestion_page(
    name: str,
    strategy: str,
    suggestions: Sequence[Suggestion],
    images: NDArray[np.uint8],
    keys: Sequence[str],
    *,
    facts: tuple[tuple[str, str], ...],
) -> Page:
    """Return the page.

    Args:
        name: the model's.
        strategy: a key of `LEADS`.
        suggestions: in order; at least one.
        images: of the pack, [M, H, W, C]; only what is shown is read.
        keys: their names.
        facts: what stands at the page's head.
    """
    strips = []
    for rank, one in enumerate(suggestions[:SHOWN], 1):
        rows = (one.row, *one.alike)
        strips.append(
            Strip(
                f"{rank}. {keys[one.row]}",
                np.stack([images[row] for row in rows]),
                one.reason,
                [keys[row] for row in rows],
            )
        )
    hidden = len(suggestions) - len(strips)
    text = f"{hidden:,} more stand in the table." if hidden else "In the order of the table."
    longest = max(len(strip.images) for strip in strips)
    columns = ("", *("alike", *[""] * (longest - 2))) if longest > 1 else ()
    view = View("suggestions", "Images to label", "", text, tuple(strips), columns)
    return Page(f"Suggestions by “{name}”", LEADS[strategy], facts, (view,))
