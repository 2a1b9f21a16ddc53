"""Samples → a PNG file, losslessly, also of 16-bit colour, which Pillow cannot write.

The package for training and the one for clients both hold this file; the tests compare the two.
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_NONE, _SUB = 0, 1  # filters


def write_png(samples: NDArray[Any], level: int = 1) -> bytes:
    """Return a PNG file (W3C PNG, third edition) of these very samples.

    Args:
        samples: uint8 or uint16 [h, w, c]; c is 1: grey, 2: grey and alpha, 3: RGB, 4: RGB and
            alpha.
        level: of compression, 0 to 9; 0 is fastest.
    """
    height, width, channels = samples.shape
    size = samples.dtype.itemsize
    rows = samples.astype(f">u{size}", copy=False).reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _SUB if level else _NONE
    filtered[:, 1:] = rows
    if level:  # differences from the pixel to the left pack better
        step = size * channels
        filtered[:, 1 + step :] -= rows[:, :-step]
    header = struct.pack(">IIBBBBB", width, height, 8 * size, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = (
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(filtered.data, level)),
        _chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
