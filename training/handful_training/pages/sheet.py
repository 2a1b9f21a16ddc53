"""Images made smaller, and many as one picture."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def reduced(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image [H, W, C] averaged down by a whole factor until no side exceeds `side`."""
    factor = -(-max(image.shape[:2]) // side)
    if factor <= 1:
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).reduce(factor)
    return np.asarray(picture).reshape(*picture.size[::-1], image.shape[-1])


def tile(images: NDArray[np.uint8], gap: int) -> tuple[bytes, int, int]:
    """Return images [R, S, H, W, C] in R rows as a PNG file, its height and its width.

    Gaps of `gap` pixels between them are transparent, so that they suit any background.
    """
    rows, columns, height, width, channels = images.shape
    opaque = np.full((*images.shape[:-1], 1), 255, np.uint8)
    pad = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    padded = np.pad(np.concatenate([images, opaque], axis=-1), pad)
    picture = padded.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), columns * (width + gap), channels + 1
    )[: rows * (height + gap) - gap, : columns * (width + gap) - gap]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue(), *picture.shape[:2]
