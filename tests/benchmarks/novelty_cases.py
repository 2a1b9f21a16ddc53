"""Images unlike any pool of photographs or scans: noise, flat, turned, inverted, digits."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

NOISE = 2000


def cases(usual: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return unusual images of the size of `usual`, uint8 [n, H, W, C], by what to call them.

    A picture turned by 90 degrees is of another kind only where things have an upright: some
    clothes look the same, photographs of the ground from above all do.
    """
    rng = np.random.default_rng(0)
    shape = usual.shape[1:]
    gaussian = rng.normal(127, 64, (NOISE, *shape)).clip(0, 255)
    levels = np.arange(256, dtype=np.uint8)[:, None, None, None]
    turned = {}
    if shape[0] == shape[1]:
        turned = {
            f"turned by {90 * turns}°": np.rot90(usual, turns, (1, 2)).copy() for turns in (1, 2)
        }
    return {
        "uniform noise": rng.integers(0, 256, (NOISE, *shape), np.uint8),
        "Gaussian noise": gaussian.astype(np.uint8),
        "constant, every grey": np.broadcast_to(levels, (256, *shape)).copy(),
        **turned,
        "inverted": 255 - usual,
        "digits": digits(NOISE, shape, rng),
    }


def digits(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return white digits on black, tilted and shifted a little, [count, *shape]."""
    height, width, channels = shape
    drawn = []
    for number in range(count):
        canvas = Image.new("L", (width, height))
        font = ImageFont.load_default(size=float(height * rng.uniform(0.7, 1.0)))
        centre = (np.array([width, height]) / 2 + rng.uniform(-2, 2, 2)).tolist()
        weight = int(rng.integers(0, 2))
        pen = ImageDraw.Draw(canvas)
        pen.text(centre, str(number % 10), 255, font, anchor="mm", stroke_width=weight)
        tilted = canvas.rotate(float(rng.uniform(-15, 15)), Image.Resampling.BILINEAR)
        drawn.append(np.asarray(tilted))
    return np.repeat(np.stack(drawn)[..., None], channels, axis=-1)
