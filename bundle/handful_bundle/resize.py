"""Pixels of any size → pixels of the encoder's size. Knows no files.

Three policies, all centred:

- `stretch`: each axis by its own factor.
- `fit`: the whole picture, its aspect kept, on black; an odd row or column of padding goes to the
  bottom or the right.
- `crop`: the largest part with the aspect of the target.

Resampling is Pillow's bilinear filter, which is antialiased (its support grows with the factor)
and never overshoots: no value leaves the range of its surroundings. Pixels that already have the
right size are not touched. Whoever changes a pixel here raises `PIXELS_VERSION` in `pixels.py`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handful_bundle.colour import as_array, as_image
from handful_bundle.manifest import ImageSpec
from handful_bundle.orientation import Extent


class Placement(NamedTuple):
    """Which part of a picture becomes which part of the target."""

    part: Extent  # of the picture, in its pixels
    width: int  # of that part in the target, in pixels
    height: int


def place(width: int, height: int, spec: ImageSpec) -> Placement:
    """Say how a picture of `width` x `height` pixels is placed by the policy of `spec`."""
    W, H = spec.width, spec.height
    whole = Extent(0, 0, width, height)
    if spec.resize == "stretch" or width * H == height * W:
        return Placement(whole, W, H)
    wider = width * H > height * W  # than the target
    if spec.resize == "fit":
        if wider:
            return Placement(whole, W, max(1, _divide(height * W, width)))
        return Placement(whole, max(1, _divide(width * H, height)), H)
    if wider:
        kept = height * W / H
        left = (width - kept) / 2
        if height == H:  # no scaling: half a pixel's shift would only blur
            left = float(int(left))
        return Placement(Extent(left, 0, kept, height), W, H)
    kept = width * H / W
    top = (height - kept) / 2
    if width == W:
        top = float(int(top))
    return Placement(Extent(0, top, width, kept), W, H)


def resample(
    pixels: NDArray[np.uint8], spec: ImageSpec, placement: Placement, scale: float, extent: Extent
) -> NDArray[np.uint8]:
    """Return uint8 [h, w, C] pixels as uint8 [H, W, C].

    Args:
        pixels: perhaps decoded at a fraction of the picture's size.
        spec: the target.
        placement: of the picture at its full size.
        scale: that fraction, at most 1.
        extent: the part of `pixels` that the picture covers.
    """
    part = placement.part
    # never past the last row and column: the decoder's may be partial, and numbers are rounded
    left = max(0.0, extent.left + part.left * scale)
    top = max(0.0, extent.top + part.top * scale)
    right = min(pixels.shape[1], left + part.width * scale)
    bottom = min(pixels.shape[0], top + part.height * scale)
    # The filter looks beyond its box: what lies outside must not be there.
    first_column, first_row = int(left), int(top)
    pixels = pixels[first_row : math.ceil(bottom), first_column : math.ceil(right)]
    box = left - first_column, top - first_row, right - first_column, bottom - first_row
    height, width = pixels.shape[:2]
    if (width, height) != (placement.width, placement.height) or box != (0, 0, width, height):
        image = as_image(pixels).resize(
            (placement.width, placement.height), Image.Resampling.BILINEAR, box
        )
        pixels = as_array(image)
    return _pad(pixels, spec)


def _pad(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    if pixels.shape == spec.shape:
        return np.ascontiguousarray(pixels)  # after turning or cutting, a view
    height, width = pixels.shape[:2]
    canvas = np.zeros(spec.shape, np.uint8)
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def _divide(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)  # rounded, halves up
