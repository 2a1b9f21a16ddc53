"""Inputs of our own that every model must survive, whatever golden examples it brings along.

Golden examples come with the bundle, so a bundle that means harm brings ones that it passes. These
are black, white and noise: outputs must be finite, probabilities must be probabilities, and a row
must come out as it does alone. Rows that see each other would let one sender read another's.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle import decoder, encoder, head
from handful_bundle.decoder import Decoder
from handful_bundle.encoder import Encoder
from handful_bundle.errors import BundleCorrupt
from handful_bundle.golden import TOLERANCE, difference
from handful_bundle.head import Head
from handful_bundle.manifest import ImageSpec

ROWS = 8
_SUM_TOLERANCE = 1e-3  # of probabilities: float32 over thousands of classes
_LEVEL = 1.01 / 255  # rounding to whole levels may fall to either side


def canary_images(spec: ImageSpec) -> NDArray[np.uint8]:
    """Return uint8 [ROWS, H, W, C]: black, white, and the same noise each time."""
    noise = np.random.default_rng(0).integers(0, 256, (ROWS, *spec.shape), np.uint8)
    noise[0], noise[1] = 0, 255
    return noise


def check_canary(opened: Encoder, opened_head: Head | None, opened_decoder: Decoder | None) -> None:
    """Run every part on inputs that the bundle did not choose.

    Raises:
        BundleCorrupt: an output is not finite, is no probability, or depends on other rows.
    """
    tolerance = TOLERANCE[opened.provider]
    encoding = _check(
        encoder.FILE, lambda rows: opened(rows)._asdict(), canary_images(opened.spec), tolerance
    )
    if opened_head is not None:
        judge = opened_head.judge
        judgement = _check(
            head.FILE, lambda rows: judge(rows)._asdict(), encoding["embedding"], tolerance
        )
        _check_probabilities(judgement["probabilities"])
    if opened_decoder is not None:
        decode = opened_decoder
        _check(decoder.FILE, lambda rows: decode(rows)._asdict(), encoding["mean"], tolerance)


def _check(
    file: str,
    run: Callable[[NDArray[Any]], Mapping[str, NDArray[Any] | None]],
    rows: NDArray[Any],
    tolerance: float,
) -> Mapping[str, NDArray[Any]]:
    found = {name: values for name, values in run(rows).items() if values is not None}
    last = run(rows[-1:])
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise BundleCorrupt(
                f"{file}: `{name}` is not finite for a black, a white or a noisy image; train or "
                "fit again"
            )
        alone = last[name]
        assert alone is not None
        if values.dtype == np.uint8:  # as shares of 255, so that the largest level counts as 1
            apart, allowed = difference(_shares(values[-1:]), _shares(alone)), _LEVEL
        else:
            apart, allowed = difference(values[-1:], alone), tolerance
        if not apart <= allowed:
            raise BundleCorrupt(
                f"{file}: `{name}` of a row differs by {apart:.2g} with the rows beside it; export "
                "a model whose rows do not see each other (batch normalisation in evaluation mode)"
            )
    return found


def _shares(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return levels.astype(np.float32) / np.float32(255)


def _check_probabilities(probabilities: NDArray[np.float32]) -> None:
    sums = probabilities.sum(axis=1, dtype=np.float64)
    if probabilities.min() < 0 or np.abs(sums - 1).max() > _SUM_TOLERANCE:
        raise BundleCorrupt(
            f"{head.FILE}: `probabilities` are from {probabilities.min():.3g} on and add up to "
            f"{sums.min():.4g} ... {sums.max():.4g}, not to 1; fit the head again"
        )
