"""Decoded samples of any kind → 8-bit grey or RGB. Knows no file format.

One rule each, so that the same picture gives the same pixels however it was saved:

- 16-bit samples keep their high byte: 0…65535 becomes 0…255, never clipped. (The PNG standard,
  13.12, allows it; it inverts the usual widening by 257 exactly.) A model with a *window* [low,
  high] takes them by (value - low) * 255 / (high - low), rounded and clipped to 0…255: 12 bits of
  a microscope or a scanner then fill the range. The window belongs to the model, never to an
  image, so intensities stay comparable. It is no matter of 8-bit samples, nor of alpha.
- The window comes before any resampling: what lies outside cannot bleed into its surroundings, as
  one hot pixel among 12-bit values otherwise would.
- Transparency is composited over white: (colour * alpha + 255 * (255 - alpha)) / 255, rounded.
- Colour becomes grey by the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, the one that JPEG
  stores. Grey becomes colour by repeating it. Colour profiles and gamma are ignored.
- CMYK becomes RGB by (255 - ink) * (255 - black) / 255, rounded, without a profile.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MODES = {1: "L", 3: "RGB"}
_AT_ONCE = 1 << 18  # samples; to look one up numpy makes eight bytes of it


def high_byte(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return 16-bit samples as 8-bit ones, of the same shape."""
    return (samples >> 8).astype(np.uint8)


def narrow(samples: NDArray[np.uint16], window: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return 16-bit samples [h, ...] as 8-bit ones, through `window` if there is one."""
    if window is None:
        return high_byte(samples)
    table, pixels = _table(*window), np.empty(samples.shape, np.uint8)
    rows = max(1, _AT_ONCE * len(samples) // max(1, samples.size))
    for row in range(0, len(samples), rows):
        pixels[row : row + rows] = table[samples[row : row + rows]]
    return pixels


@lru_cache(maxsize=8)
def _table(low: int, high: int) -> NDArray[np.uint8]:
    """Return what each of the 65,536 values becomes."""
    above = np.arange(65_536).clip(low, high) - low
    return ((above * 510 + (high - low)) // (2 * (high - low))).astype(np.uint8)


def over_white(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Composite an `L` or `RGB` image over white; `alpha` is an `L` image of the same size."""
    background = Image.new(image.mode, image.size, "white")
    background.paste(image, mask=alpha)
    return background


def to_pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """Return an image of mode 1, L, LA, P, PA, RGB, RGBA or CMYK as uint8 [h, w, channels]."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode in ("LA", "RGBA"):
        opaque = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
        image = over_white(opaque, image.getchannel("A"))
    return as_array(image.convert(_MODES[channels]))


def to_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return uint8 [h, w, 1 or 3] pixels as [h, w, channels]."""
    if pixels.shape[2] == channels:
        return pixels
    return as_array(as_image(pixels).convert(_MODES[channels]))


def cmyk_to_pixels(inverted: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return CMYK samples [h, w, 4], 255 meaning no ink, as uint8 [h, w, channels]."""
    height, width = inverted.shape[:2]
    image = Image.frombytes("CMYK", (width, height), np.invert(inverted).tobytes())
    return to_pixels(image.convert("RGB"), channels)


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return uint8 [h, w, 1 or 3] as a Pillow image."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image of mode L or RGB as uint8 [h, w, 1 or 3], writable."""
    pixels: NDArray[Any] = np.array(image)
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
