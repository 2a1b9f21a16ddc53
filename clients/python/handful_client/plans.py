"""What a client's method asks of its backend, and how the batches' answers become its result.

Everything that the blocking and the awaiting client have in common, but the running of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from handful_client import images, rows
from handful_client.backend import Backend
from handful_client.batches import Batch
from handful_client.errors import InputError
from handful_client.flow import Flow
from handful_client.images import Vector
from handful_client.results import (
    Classified,
    ClassifyItem,
    EmbedItem,
    EmbedResult,
    Latents,
    Progress,
    partial_failure,
)
from handful_client.spaces import SpaceGuard
from handful_client.wire import ItemError

Part = TypeVar("Part")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Stream(Generic[Part, Item]):
    """How a stream of images is answered.

    Attributes:
        call: asks for one batch.
        unpack: makes a batch's answer into one item per image, in order.
    """

    call: Callable[[Batch], Flow[Part]]
    unpack: Callable[[Batch, Part], list[Item]]


def embed_stream(backend: Backend, space: str | None) -> Stream[EmbedResult, EmbedItem]:
    """Return how to embed a stream; all of it in one embedding space."""
    latent = is_latent(space)
    guard = SpaceGuard()

    def unpack(batch: Batch, part: EmbedResult) -> list[EmbedItem]:
        guard.check(part.model.space, at=batch.start)
        failed = {error.index: error for error in part.errors}
        items = []
        for place, (image, row) in enumerate(zip(batch.given, part.embeddings, strict=True)):
            error = failed.get(batch.start + place)
            variance = None if part.log_variance is None or error else part.log_variance[place]
            vector = None if error else row
            items.append(EmbedItem(batch.start + place, image, vector, error, part.model, variance))
        return items

    return Stream(lambda batch: backend.embed(batch, latent=latent), unpack)


def classify_stream(backend: Backend) -> Stream[Classified, ClassifyItem]:
    """Return how to classify a stream."""

    def unpack(batch: Batch, part: Classified) -> list[ClassifyItem]:
        items = []
        for index, (image, result) in enumerate(
            zip(batch.given, part.results, strict=True), batch.start
        ):
            if isinstance(result, ItemError):
                items.append(ClassifyItem(index, image, None, result, part.model))
            else:
                items.append(ClassifyItem(index, image, result, None, part.model))
        return items

    return Stream(backend.classify, unpack)


def is_latent(space: str | None) -> bool:
    """Return whether the mean of q(z|x) is wanted instead of the embedding.

    Raises:
        InputError: neither of the two names.
    """
    if space not in {None, "latent"}:
        raise InputError(f"space is {space!r}; give 'latent', or None for the embedding")
    return space == "latent"


def check_one_space(parts: Sequence[tuple[Batch, EmbedResult]]) -> None:
    """Refuse to join embeddings of two spaces.

    Raises:
        SpaceMismatch: the service swapped to another encoder in between.
    """
    guard = SpaceGuard()
    for batch, part in parts:
        guard.check(part.model.space, at=batch.start)


def classified(given: Any, embeddings: Any, space: str | None, errors: str) -> Any:
    """Return what `classify` is to classify: images as given, or embeddings as vectors.

    Raises:
        InputError: both are given, or neither, or `errors` is unknown.
    """
    if errors not in {"raise", "return"}:
        raise InputError(f"errors is {errors!r}; give 'raise' or 'return'")
    if (given is None) == (embeddings is None):
        raise InputError("give either images or embeddings")
    if embeddings is not None:
        return vectors(embeddings, space)
    if space is not None:
        raise InputError("`space` belongs to embeddings; the service knows its images' space")
    return given


def predictions(parts: Sequence[Classified], errors: str) -> list[Any]:
    """Return the predictions; with `errors="return"`, errors in the places of what failed.

    Raises:
        PartialFailure: some failed, and `errors` is "raise".
    """
    found = [result for part in parts for result in part.results]
    failed = [result for result in found if isinstance(result, ItemError)]
    if failed and errors == "raise":
        raise partial_failure(found, failed)
    return found


def vectors(given: Any, space: str | None) -> list[Vector | ItemError]:
    """Return embeddings as a stream's input: of an `EmbedResult`, or rows and their space.

    Raises:
        InputError: no space is given, or another than that of the `EmbedResult`.
    """
    failed: dict[int, ItemError] = {}
    if isinstance(given, EmbedResult):
        if given.log_variance is not None:
            raise InputError("these are latents; heads take embeddings: embed without `space`")
        if space not in {None, given.model.space}:
            raise InputError(f"these embeddings are of {given.model.space}, not of {space}")
        failed = {error.index: error for error in given.errors}
        given, space = given.embeddings, given.model.space
    if not space:
        raise InputError("give the embeddings' `space` (`result.model.space`), or the EmbedResult")
    return [
        failed.get(index)
        or (
            ItemError.of(index, "embedding_missing", "the row is empty or not finite")
            if row is None
            else Vector(row, space)
        )
        for index, row in enumerate(rows.to_lists(given))
    ]


def latents(given: Latents) -> list[Vector]:
    """Return latents as a stream's input.

    Raises:
        InputError: they are no rows of finite numbers.
    """
    if isinstance(given, EmbedResult):
        given = given.raise_for_errors().embeddings
    table = [row for row in rows.to_lists(given) if row is not None]
    if len(table) != len(given) or not table:
        raise InputError("give latents as rows of finite numbers [N, D]; at least one")
    return [Vector(row) for row in table]


def total(given: Any) -> int | None:
    """Return how many images there are, where that is known without reading them."""
    if images.is_one(given):
        return 1
    try:
        return len(given)
    except TypeError:  # a generator
        return None


def check_sizes(batch_size: int, in_flight: int) -> None:
    """Refuse sizes that make no sense.

    Raises:
        InputError: one of them is not positive.
    """
    if batch_size < 1 or in_flight < 1:
        raise InputError(f"batch_size {batch_size}, in_flight {in_flight}: give 1 or more")


class Tally:
    """Counts images done, and tells who wants to know."""

    def __init__(self, progress: Progress | None, in_all: int | None) -> None:
        self._progress = progress
        self._total = in_all
        self._done = 0

    def add(self, images: int) -> None:
        """Note that so many more are done."""
        self._done += images
        if self._progress is not None:
            self._progress(self._done, self._total)
