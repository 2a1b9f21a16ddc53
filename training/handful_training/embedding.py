"""Embed rows of a pack with an exported encoder, a bounded part at a time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handful_bundle.encoder import Encoder, Encoding

CHUNK_BYTES = 32 * 2**20


def embed_rows(
    encoder: Encoder, images: NDArray[np.uint8], rows: NDArray[np.int64] | None = None
) -> Encoding:
    """Return the encodings of `images` [N, H, W, C], or of those at `rows`, in order."""
    parts = list(embed_parts(encoder, images, rows))
    if not parts:
        return encoder(np.zeros((0, *encoder.spec.shape), np.uint8))
    return Encoding(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def embed_parts(
    encoder: Encoder, images: NDArray[np.uint8], rows: NDArray[np.int64] | None = None
) -> Iterator[Encoding]:
    """Yield the same, part by part; the pixels of one part only are in memory."""
    size = max(1, CHUNK_BYTES // int(np.prod(images.shape[1:])))
    size = max(1, size // encoder.max_batch) * encoder.max_batch
    count = len(images) if rows is None else len(rows)
    for start in range(0, count, size):
        part = slice(start, start + size)
        yield encoder(np.array(images[part] if rows is None else images[rows[part]]))
