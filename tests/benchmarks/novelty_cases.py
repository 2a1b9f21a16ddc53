"""Images unlike any pool of photographs or scans: noise, flat, turned, inverted, digits.

The witnesses of novelty were chosen by the drawn ones; scikit-learn's handwritten digits and crops
of its two photographs were first looked at when all was settled.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_images

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
        "handwritten digits": handwritten(shape),
        "crops of photographs": crops(NOISE, shape, rng),
    }


def handwritten(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return scikit-learn's 1,797 scans of digits, enlarged from 8 x 8, [1797, *shape]."""
    height, width, channels = shape
    scans = (load_digits().images * (255 / 16)).astype(np.uint8)
    bicubic = Image.Resampling.BICUBIC
    large = [np.asarray(Image.fromarray(scan).resize((width, height), bicubic)) for scan in scans]
    return np.repeat(np.stack(large)[..., None], channels, axis=-1)


def crops(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return squares of 64 to 256 px out of a photographed temple and a flower, [count, *shape]."""
    height, width, channels = shape
    mode = "L" if channels == 1 else "RGB"
    photographs = [Image.fromarray(image).convert(mode) for image in load_sample_images().images]
    cut = []
    for number in range(count):
        picture = photographs[number % len(photographs)]
        side = int(rng.integers(64, 257))
        left = int(rng.integers(0, picture.width - side + 1))
        top = int(rng.integers(0, picture.height - side + 1))
        box = (left, top, left + side, top + side)
        cut.append(np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box)))
    return np.stack(cut).reshape(count, *shape)


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
