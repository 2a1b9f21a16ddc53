"""Choose the window: which 16-bit values become 0 and 255. Knows no files.

Microscopes, scanners and cameras store 12 bits or fewer in files of 16, of which the high bytes
alone would be nearly black. A window belongs to a model, not to an image: the same value means
the same everywhere. Images of 8 bits need none.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handful_bundle.manifest import Window

VALUES = 10_000  # taken of one image
TAILS = 0.1, 99.9  # percentiles that become 0 and 255: a few hot or dead pixels decide nothing
ENOUGH = 32_768  # values that span half of the 16 bits lose little by keeping their high byte


def take_values(samples: NDArray[np.uint16] | None) -> NDArray[np.uint16]:
    """Return at most `VALUES` of an image's samples, evenly spread: uint16 [n]."""
    if samples is None:
        return np.empty(0, np.uint16)
    flat = samples.reshape(-1)
    return flat[:: -(-len(flat) // VALUES)].copy()  # the image itself is not kept


def choose_window(values: Sequence[NDArray[np.uint16]]) -> tuple[Window | None, str]:
    """Return the window of the images that these values are of, and the reason in words.

    None, that is the high byte of each value, if they span half of the 16 bits already.
    """
    pooled = np.concatenate(values) if values else np.empty(0, np.uint16)
    if not len(pooled) or pooled.min() == pooled.max():
        return None, "16 bits, all values alike"
    low, high = (int(found) for found in np.percentile(pooled, TAILS, method="nearest"))
    if low == high:  # a few bright points on a dark ground
        low, high = int(pooled.min()), int(pooled.max())
    if high - low >= ENOUGH:
        return None, f"16-bit values {low} to {high} fill their range: no window"
    reason = (
        f"16-bit values {low} to {high} ({TAILS[0]} % to {TAILS[1]} % of those of {len(values)} "
        "images) become 0 to 255; image.window=[low,high] sets others"
    )
    return (low, high), reason
