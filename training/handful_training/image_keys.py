"""What names an image across runs, packs and file names: its pixels."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray


def image_keys(images: NDArray[np.uint8], rows: NDArray[np.integer]) -> tuple[str, ...]:
    """Return the hex SHA-256 of the pixels of each of `rows` of `images` [N, H, W, C]."""
    return tuple(sha256(images[row].tobytes()).hexdigest() for row in rows.tolist())
