"""What is suggested, and why, in words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SURE = 0.9  # of the likeliest class: no second one is named


@dataclass(frozen=True)
class Suggestion:
    """One image to look at.

    Attributes:
        row: of the pack.
        reason: one short sentence.
        label: what it is labelled as, if it is.
        more: cells of further columns, by their name.
        alike: rows of images much like it.
    """

    row: int
    reason: str
    label: str = ""
    more: tuple[tuple[str, str], ...] = ()
    alike: tuple[int, ...] = ()


def covering_reason(images: float) -> str:
    """Say why an image is worth a label before any other is known."""
    if images < 2:
        return "unlike all others"
    return f"most typical of a group of {_about(images)} images without a label"


def uncertain_reason(
    probability: NDArray[np.floating], names: tuple[str, ...], images: float
) -> str:
    """Say why an image is worth a label besides those that are known.

    Args:
        probability: of each class, [K].
        names: of the classes.
        images: how many it stands for.
    """
    first, second = np.argsort(-probability, kind="stable")[:2].tolist()
    share = [f"{100 * probability[k]:.0f} %" for k in (first, second)]
    if probability[first] >= SURE:
        guess = f"probably {names[first]} ({share[0]})"
    else:
        guess = f"between {names[first]} ({share[0]}) and {names[second]} ({share[1]})"
    like = f"like {_about(images)} images without a label" if images >= 2 else "unlike all others"
    return f"{guess}, {like}"


def doubted_reason(given: str, given_share: float, proposed: str, share: float) -> str:
    """Say why a label is in doubt."""
    return (
        f"labelled {given} ({100 * given_share:.0f} %), looks like {proposed} ({100 * share:.0f} %)"
    )


def _about(images: float) -> str:
    return f"{max(2, round(images)):,}"
