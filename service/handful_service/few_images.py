"""A few images that are decoded in one go, wherever that is.

Tiny ones are decoded where the model runs: it takes less than handing them to a thread.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_service.context import RequestContext
from handful_service.decoding import DecodePool, Upload
from handful_service.errors import ServiceError
from handful_service.results import FIRST, Results

TINY_BYTES = 2**13  # of all images of a request; decoding as much takes about 0.1 ms
_TINY_PIXELS = 2**16  # of one image; a few bytes may hold many pixels


class FewImages:
    """The images of one request, to be decoded by `tiny` or by `whole`.

    Args:
        context: of the request.
        pool: knows how to decode.
        uploads: the images.
        spec: what the encoder takes.
    """

    __slots__ = ("_context", "_pool", "_spec", "_uploads", "larger", "results")

    def __init__(
        self, context: RequestContext, pool: DecodePool, uploads: Sequence[Upload], spec: ImageSpec
    ) -> None:
        self._context = context
        self._pool = pool
        self._uploads = uploads
        self._spec = spec
        self.results = Results(len(uploads))
        self.larger = False  # an image turned out to be larger than its file; nothing was decoded

    def tiny(self) -> NDArray[Any]:
        """Return the pixels of those that can be decoded, [n, H, W, C]; none if one is larger."""
        return self._decode(_TINY_PIXELS)

    def whole(self) -> NDArray[Any]:
        """Return the pixels of those that can be decoded, [n, H, W, C]."""
        self.larger = False
        return self._decode(None)

    def _decode(self, max_pixels: int | None) -> NDArray[Any]:
        started = time.perf_counter()
        kept, pixels = [], []
        for index, upload in enumerate(self._uploads):
            item = self._pool.decode_now(upload, self._spec, max_pixels=max_pixels)
            if item is None:
                self.larger = True
                break
            if isinstance(item, ServiceError):
                self.results.errors[index] = item
            else:
                kept.append(index)
                pixels.append(item)
        self._context.spent("decode", time.perf_counter() - started)
        if self.larger or not pixels:
            return np.empty((0, *self._spec.shape), np.uint8)
        if len(self._uploads) == 1:
            self.results.index = FIRST
            return pixels[0][np.newaxis]
        self.results.index = np.array(kept, np.intp)
        return np.stack(pixels)
