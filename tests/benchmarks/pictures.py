"""Pictures as cheap and as dear to decode as photographs, drawn instead of fetched."""

import io

import numpy as np
from PIL import Image


def detailed(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return a picture with as much detail as a photograph: a JPEG of about 50 kB."""
    smooth = np.asarray(photo(rng, height, width), np.float32)
    grain = np.asarray(_noise(rng, height, width, 4), np.float32) - 128
    return Image.fromarray(np.clip(smooth + grain * 0.2, 0, 255).astype(np.uint8))


def photo(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return a picture as smooth as a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _noise(rng: np.random.Generator, height: int, width: int, grain: int) -> Image.Image:
    """Return noise of `grain` pixels."""
    coarse = rng.integers(0, 256, (height // grain, width // grain, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(picture: Image.Image, kind: str) -> bytes:
    """Return the picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
