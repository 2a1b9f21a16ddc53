"""Bytes → pixels, in a bounded pool of threads beside the event loop.

The codecs release the GIL. Work that nobody waits for any more is not begun.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from handful_bundle import pixels
from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec
from handful_service.errors import ServiceError

_log = logging.getLogger(__name__)
# What one thread takes at a time: single images wait for no more than this, and less than this is
# not worth handing over.
_PIECE_IMAGES, _PIECE_BYTES = 8, 2**15

Value = TypeVar("Value")


class EncodedImage(NamedTuple):
    """One image as it was sent."""

    data: bytes
    media_type: str | None  # as declared; None: told from the bytes


Upload = EncodedImage | ServiceError
"""One item of a request: an image, or why there is none."""

Decoded = NDArray[np.uint8] | ServiceError
"""One item decoded: pixels [H, W, C], or why there are none."""


class DecodePool:
    """Runs what would block the event loop.

    Args:
        threads: how many run at once.
        max_pixels: pixels of one image before resizing; a header that announces more is refused.
        dropped: is told how many images were not decoded because their request was abandoned.
    """

    def __init__(self, threads: int, max_pixels: int, dropped: Callable[[int], None]) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._threads = threads
        self._max_pixels = max_pixels
        self._dropped = dropped

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, function: Callable[[], Value]) -> Value:
        """Return `function()`, run in the pool; not begun once the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def decode(self, uploads: Sequence[Upload], spec: ImageSpec) -> list[Decoded]:
        """Return the pixels or the error of each upload, in their order."""
        abandoned = threading.Event()
        finished: list[None] = []  # one entry per upload; appending is atomic

        def piece(mine: Sequence[Upload]) -> list[Decoded]:
            out: list[Decoded] = []
            for upload in mine:
                if abandoned.is_set():
                    break
                out.append(self._decode(upload, spec, self._max_pixels))
                finished.append(None)
            return out

        pieces = list(_pieces(uploads))
        parts: list[list[Decoded]] = [[]] * len(pieces)
        numbered = iter(enumerate(pieces))

        async def in_turn() -> None:
            for number, mine in numbered:
                parts[number] = await self.run(functools.partial(piece, mine))

        # As many pieces as keep all threads busy, so that others' images come between.
        try:
            if len(pieces) == 1:  # most requests, spared the tasks
                return await self.run(functools.partial(piece, pieces[0]))
            await asyncio.gather(*(in_turn() for _ in range(min(len(pieces), self._threads + 1))))
            return [item for part in parts for item in part]
        except asyncio.CancelledError:
            abandoned.set()
            self._dropped(len(uploads) - len(finished))
            raise

    def begin(self, function: Callable[[], None]) -> None:
        """Run `function`, which raises nothing, in the pool.

        Raises:
            RuntimeError: the pool is closed.
        """
        self._pool.submit(function)

    def decode_now(
        self, upload: Upload, spec: ImageSpec, *, max_pixels: int | None
    ) -> Decoded | None:
        """Return the pixels or the error of one upload, in this thread.

        Returns:
            None where its header announces more than `max_pixels`, and the limit allows them.
        """
        most = self._max_pixels if max_pixels is None else min(max_pixels, self._max_pixels)
        found = self._decode(upload, spec, most)
        return None if most < self._max_pixels and _is_too_large(found) else found

    def _decode(self, upload: Upload, spec: ImageSpec, max_pixels: int) -> Decoded:
        if isinstance(upload, ServiceError):
            return upload
        try:
            return pixels.decode(
                upload.data, spec, media_type=upload.media_type, max_pixels=max_pixels
            )
        except ImageError as error:
            return ServiceError.of_image(error)
        except Exception:  # noqa: BLE001 - a codec's own failure concerns this image only
            _log.exception("a decoder failed in a way that pixels.py does not know")
            return ServiceError("image_unreadable", "The image cannot be decoded.")


def _pieces(uploads: Sequence[Upload]) -> Iterator[Sequence[Upload]]:
    """Cut into pieces of at least `_PIECE_IMAGES` and `_PIECE_BYTES`, but the last."""
    start = size = 0
    for end, upload in enumerate(uploads, 1):
        size += len(upload.data) if isinstance(upload, EncodedImage) else 0
        if end - start >= _PIECE_IMAGES and size >= _PIECE_BYTES:
            yield uploads[start:end]
            start, size = end, 0
    if start < len(uploads):
        yield uploads[start:]


def _is_too_large(found: Decoded) -> bool:
    return isinstance(found, ServiceError) and found.code == "image_too_large"
