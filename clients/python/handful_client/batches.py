"""Cut a stream of images into batches that fit one request. Knows no network.

Images are pushed in and whole batches come out, so that a blocking and an awaiting stream share
this code.
"""

import itertools
from asyncio import to_thread
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from handful_client import images
from handful_client.errors import ImageUnreadable
from handful_client.images import Image, Images, Loaded, Vector
from handful_client.wire import ItemError

BATCH_SIZE = 64
BATCH_BYTES = 8 * 1024 * 1024
_CHUNK = 8


@dataclass
class Batch:
    """Consecutive images, loaded or found unreadable.

    Attributes:
        start: index of the first image in the whole stream.
        given: the images as the user gave them.
        entries: for each what to send, or why it cannot be sent.
        alone: the user gave this one image by itself: its failure is an exception.
    """

    start: int
    given: list[Any] = field(default_factory=list, repr=False)
    entries: list[Loaded | ItemError] = field(default_factory=list)
    alone: bool = False

    def __len__(self) -> int:
        return len(self.entries)

    def sendable(self) -> list[tuple[int, Loaded]]:
        """Return the images that can be sent, each with its index in the whole stream."""
        numbered = enumerate(self.entries, self.start)
        return [(index, entry) for index, entry in numbered if not isinstance(entry, ItemError)]

    def unreadable(self) -> list[ItemError]:
        """Return why the others cannot be sent."""
        return [entry for entry in self.entries if isinstance(entry, ItemError)]

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return two batches of the same images. Needs two images or more."""
        half = len(self) // 2
        return (
            Batch(self.start, self.given[:half], self.entries[:half]),
            Batch(self.start + half, self.given[half:], self.entries[half:]),
        )


def one(image: Image) -> Batch:
    """Return a batch of the one image that the user gave by itself.

    Raises:
        ImageUnreadable: it cannot be sent.
    """
    return Batch(0, [image], [images.load(image)], alone=True)


class Batcher:
    """Collect images until a batch is full by number or by bytes."""

    def __init__(self, *, size: int = BATCH_SIZE, max_bytes: int = BATCH_BYTES) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._batch = Batch(0)
        self._bytes = 0

    def load(self, image: Image | Vector | ItemError) -> Loaded | ItemError:
        """Read an image; the slow part of `add`, apart so that it can run in a thread."""
        if isinstance(image, Vector | ItemError):
            return image
        try:
            return images.load(image)
        except ImageUnreadable as error:
            return ItemError.of(0, error.code, error.message)

    def load_all(self, given: Iterable[Image | Vector | ItemError]) -> list[Loaded | ItemError]:
        """Read several images."""
        return [self.load(image) for image in given]

    def add(self, image: Any, entry: Loaded | ItemError) -> list[Batch]:
        """Take one more image; return the batch that it completed, if any."""
        full = []
        weight = 0
        if isinstance(entry, ItemError):
            index = self._batch.start + len(self._batch)
            entry = entry.model_copy(update={"index": index})
        else:
            weight = images.weight(entry)
            if self._bytes + weight > self._max_bytes:
                full += self.rest()
        self._batch.given.append(image)
        self._batch.entries.append(entry)
        self._bytes += weight
        if len(self._batch) >= self._size:
            full += self.rest()
        return full

    def rest(self) -> list[Batch]:
        """Return what is left as a batch, if anything is."""
        batch = self._batch
        if not batch.entries:
            return []
        self._batch = Batch(batch.start + len(batch))
        self._bytes = 0
        return [batch]


def cut(given: Images, size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Cut images into batches, reading only as far as asked for.

    Raises:
        InputError: neither one image nor many.
    """
    return _cut(images.each(given), Batcher(size=size))


def _cut(given: Iterable[Image], batcher: Batcher) -> Iterator[Batch]:
    for image in given:
        yield from batcher.add(image, batcher.load(image))
    yield from batcher.rest()


def cut_async(given: Images | AsyncIterable[Image], size: int = BATCH_SIZE) -> AsyncIterator[Batch]:
    """Cut images into batches; files are read, and pixels packed, in a thread.

    Raises:
        InputError: neither one image nor many.
    """
    chunks = _one_by_one(given) if isinstance(given, AsyncIterable) else _some(images.each(given))
    return _cut_async(chunks, Batcher(size=size))


async def _cut_async(chunks: AsyncIterable[list[Image]], batcher: Batcher) -> AsyncIterator[Batch]:
    async for chunk in chunks:
        at_hand = all(isinstance(image, bytes | Vector | ItemError) for image in chunk)
        entries = batcher.load_all(chunk) if at_hand else await to_thread(batcher.load_all, chunk)
        for image, entry in zip(chunk, entries, strict=True):
            for batch in batcher.add(image, entry):
                yield batch
    for batch in batcher.rest():
        yield batch


async def _one_by_one(given: AsyncIterable[Image]) -> AsyncIterator[list[Image]]:
    async for image in given:
        yield [image]


async def _some(given: Iterable[Image]) -> AsyncIterator[list[Image]]:
    """Yield a few at a time: handing one file to a thread takes as long as reading it."""
    iterator = iter(given)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk
