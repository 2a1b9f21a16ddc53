"""Choose the size, the channels and the window of the pixels from the images themselves."""

import logging
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handful_bundle import pixels
from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec, Window
from handful_training.errors import InputError
from handful_training.sources.source import PixelSource, Source, parts, read_each
from handful_training.sources.window import choose_window, take_values

SAMPLE = 256
MIN_SIDE, MAX_SIDE = 16, 256
SAME_ASPECT = 1.1  # widest over narrowest aspect ratio that still counts as one
WIDE_SAMPLE = 64  # of them are decoded, if they have 16 bits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sample:
    """What some images are like.

    Attributes:
        shapes: sizes as displayed: (height, width, channels) each.
        wide: how many of them have 16 bits.
        values: values of some of these.
    """

    shapes: list[tuple[int, int, int]]
    wide: int
    values: list[NDArray[np.uint16]]

    def side(self, axis: Literal[0, 1]) -> float:
        return float(median(shape[axis] for shape in self.shapes))

    def one_aspect(self) -> bool:
        ratios = [width / height for height, width, _ in self.shapes]
        return max(ratios) <= SAME_ASPECT * min(ratios)


def derive_spec(
    source: Source,
    *,
    resize: Literal["stretch", "fit", "crop"] = "fit",
    height: int | None = None,
    width: int | None = None,
    channels: Literal[1, 3] | None = None,
    max_side: int = 64,
    keep_side: int = MAX_SIDE,
    window: Window | None = None,
) -> ImageSpec:
    """Return the pixels to train on; log why these. What is given explicitly wins.

    Args:
        source: at most 256 images of it, evenly spread, are looked at: at their headers, and for
            the window at the values of those of 16 bits.
        resize: how an image of another shape is made to fit.
        height: 16 to 256.
        width: 16 to 256. If only one side is given, the other follows from the images' aspect.
        channels: 1 (grey) or 3 (colour).
        max_side: the longer side where images have different sizes, and nothing else is given.
        keep_side: the longer side up to which images of one size keep it; larger ones become
            this large.
        window: 16-bit values that become 0 and 255.

    Raises:
        InputError: a side out of bounds, or no image that could tell.
    """
    spec, reason = choose_spec(
        source,
        resize=resize,
        height=height,
        width=width,
        channels=channels,
        max_side=max_side,
        keep_side=keep_side,
        window=window,
    )
    logger.info("%dx%dx%d pixels: %s", *spec.shape, reason)
    return spec


def choose_spec(
    source: Source,
    *,
    resize: Literal["stretch", "fit", "crop"],
    height: int | None,
    width: int | None,
    channels: Literal[1, 3] | None,
    max_side: int,
    keep_side: int = MAX_SIDE,
    window: Window | None = None,
) -> tuple[ImageSpec, str]:
    """Return what `derive_spec` returns, and the reason in words for the user."""
    for name, side in (("height", height), ("width", width), ("max_side", max_side)):
        if side is not None and not MIN_SIDE <= side <= MAX_SIDE:
            raise InputError(f"{name} {side}: choose {MIN_SIDE} to {MAX_SIDE} pixels")
    if height and width and channels and window:
        return ImageSpec(
            height=height, width=width, channels=channels, resize=resize, window=window
        ), "as set"

    sample = _look(source)
    grey = all(shape[2] == 1 for shape in sample.shapes)
    if height is not None or width is not None:
        (height, width), reason = _given(sample, height, width), "size as set"
    else:
        (height, width), reason = _size(sample, max_side, keep_side)
    if channels is None:
        channels = 1 if grey else 3
        reason += ", all grey" if grey else ", colour"
    if sample.wide:
        if window is None:
            window, why = choose_window(sample.values)
        else:
            why = "window as set"
        reason += f", {why}"
        if narrow := len(sample.shapes) - sample.wide:
            reason += f" ({narrow} of {len(sample.shapes)} images have 8 bits and are taken as is)"
    spec = ImageSpec(height=height, width=width, channels=channels, resize=resize, window=window)
    return spec, reason


def _look(source: Source) -> _Sample:
    shapes: list[tuple[int, int, int]] = []
    values: list[NDArray[np.uint16]] = []
    wide = 0
    reasons: Counter[str] = Counter()
    rows = np.unique(np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).round().astype(int))
    step = -(-len(rows) // WIDE_SAMPLE)
    start = 0
    for part in parts(source):
        inside = rows[(rows >= start) & (rows < start + len(part))] - start
        start += len(part)
        if isinstance(part, PixelSource):
            height, width, *rest = part.shape
            shapes += [(height, width, rest[0] if rest else 1)] * len(inside)
            continue
        for data in read_each(part, inside.tolist()):
            try:
                if isinstance(data, ImageError):
                    raise data
                found = pixels.header(data)
                shapes.append((found.height, found.width, found.channels))
                if found.bits == 16:
                    wide += 1
                    if wide % step == 1 % step:  # evenly spread over all that there are
                        values.append(take_values(pixels.wide_samples(data)))
            except ImageError as error:
                reasons[f"{error.code} ({error})"] += 1
    if not shapes:
        listed = "; ".join(f"{n} times {reason}" for reason, n in reasons.most_common(3))
        raise InputError(f"none of {len(rows)} images looked at can be read: {listed}")
    return _Sample(shapes, wide, values)


def _given(sample: _Sample, height: int | None, width: int | None) -> tuple[int, int]:
    if height is not None and width is not None:
        return height, width
    aspect = sample.side(1) / sample.side(0) if sample.one_aspect() else 1.0
    if height is not None:
        return height, _clip(round(height * aspect), MAX_SIDE)
    assert width is not None
    return _clip(round(width / aspect), MAX_SIDE), width


def _size(sample: _Sample, max_side: int, keep_side: int) -> tuple[tuple[int, int], str]:
    sizes = {shape[:2] for shape in sample.shapes}
    looked = f"of {len(sample.shapes)} images looked at"
    if len(sizes) == 1:
        ((height, width),) = sizes
        if MIN_SIDE <= min(height, width) <= max(height, width) <= keep_side:
            return (height, width), f"the size {looked}"
        if MIN_SIDE <= min(height, width) <= max(height, width) <= MAX_SIDE:
            max_side = max(max_side, keep_side)
    sides = sample.side(0), sample.side(1)
    kind = "at their aspect"
    if not sample.one_aspect():
        sides = ((sides[0] * sides[1]) ** 0.5,) * 2
        kind = "a square, for their aspect varies"
    scale = min(1.0, max_side / max(sides))
    size = _round(sides[0] * scale, max_side), _round(sides[1] * scale, max_side)
    limit = f", at most {max_side}" if scale < 1 else ""
    return size, f"median size {looked}, {kind}{limit}"


def _round(side: float, limit: int) -> int:
    """Round to a multiple of 8, so that halving it three times leaves whole pixels."""
    return _clip(8 * int(side / 8 + 0.5), limit)


def _clip(side: int, limit: int) -> int:
    return min(max(side, MIN_SIDE), limit)
