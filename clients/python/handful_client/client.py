"""The blocking client. Holds no logic: plans are in `plans.py`, requests in `remote.py`."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import httpx

from handful_client import batches, interpolation, ordered, plans, results
from handful_client.batches import Batch
from handful_client.client_base import ClientBase
from handful_client.flow import Flow, drive
from handful_client.images import Image, Images, is_one
from handful_client.results import (
    ClassifyItem,
    EmbedItem,
    EmbedResult,
    ImagesResult,
    Latents,
    Progress,
    ReconstructResult,
)
from handful_client.transport import Stoppable, SyncTransport
from handful_client.wire import ItemError, ModelInfo, Prediction

Part = TypeVar("Part")
Item = TypeVar("Item")


class Handful(ClientBase):
    """A client of a Handful service. Thread-safe; keeps connections open between calls.

    Every method takes one image or many, of any mix of kinds: a path, bytes, an open file, a PIL
    image, an array [H,W] or [H,W,C] (an array [N,H,W,C] is many). Many are sent in batches, some
    of them at once. A method raises an error of `handful_client.errors` with the cause's own type.

    Args:
        url: where the service answers; None: `HANDFUL_URL`, else http://127.0.0.1:8000.
        api_key: None: `HANDFUL_API_KEY`, else none.
        timeout: seconds for one attempt, from connecting to the last byte.
        max_retries: attempts after the first, on 408, 429, 503 and lost connections.
        expect_space: refuse answers from any other embedding space; None: take any.
        transport: the way to the service, for tests and proxies; see httpx.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        expect_space: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            expect_space=expect_space,
        )
        self._transport = SyncTransport(self._options, transport)

    def embed(self, images: Images, *, space: Literal["latent"] | None = None) -> EmbedResult:
        """Embed images. Returns when all are done; for more than fits memory see `embed_stream`.

        Of many images, those that fail are in `.errors`, and their rows are NaN.

        Args:
            images: one or many.
            space: "latent" for the mean of q(z|x), and its log variance, instead.

        Raises:
            ImageRejected: one image was given by itself, and it is unusable.
            SpaceMismatch: another encoder was put into service between two batches.
        """
        latent = plans.is_latent(space)
        parts = self._ask(images, lambda batch: self._backend.embed(batch, latent=latent))
        plans.check_one_space(parts)
        return results.join_embedded([part for _, part in parts])

    @overload
    def classify(
        self,
        images: Images | None = None,
        *,
        embeddings: Any = None,
        space: str | None = None,
        errors: Literal["raise"] = "raise",
    ) -> list[Prediction]: ...
    @overload
    def classify(
        self,
        images: Images | None = None,
        *,
        embeddings: Any = None,
        space: str | None = None,
        errors: Literal["return"],
    ) -> list[Prediction | ItemError]: ...
    def classify(
        self,
        images: Images | None = None,
        *,
        embeddings: Any = None,
        space: str | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Classify images, or embeddings that were kept.

        Args:
            images: one or many.
            embeddings: instead of images: an `EmbedResult`, or rows [N, E] with their `space`.
            space: the embedding space of such rows.
            errors: what to do when some of many images fail. "raise": raise `PartialFailure`,
                which holds all results; "return": put an `ItemError` in the failed image's place.

        Returns:
            One `Prediction` per image, in order.

        Raises:
            PartialFailure: some images failed, and `errors` is "raise".
            ImageRejected: one image was given by itself, and it is unusable.
            NoHead: the model has no classifier head yet.
            SpaceMismatch: the embeddings are of another space than the head's.
        """
        given = plans.classified(images, embeddings, space, errors)
        parts = self._ask(given, self._backend.classify)
        return plans.predictions([part for _, part in parts], errors)

    def embed_stream(
        self,
        images: Iterable[Image],
        *,
        space: Literal["latent"] | None = None,
        batch_size: int = batches.BATCH_SIZE,
        in_flight: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[EmbedItem]:
        """Embed any number of images in bounded memory, in order.

        Reads `images` only as far as is asked for, and holds at most `in_flight` batches. An image
        that fails becomes an item with an `error`; the stream goes on. Closing the iterator ends
        it: requests in flight are waited for, no more are made.

        Args:
            images: any iterable, also a generator.
            space: "latent" for the mean of q(z|x), and its log variance, instead.
            batch_size: images a request; fewer where they are large.
            in_flight: requests at once.
            progress: called after each batch with the images done, and in all where known.

        Raises:
            SpaceMismatch: another encoder was put into service meanwhile; items before it stand.
        """
        stream = plans.embed_stream(self._backend, space)
        return self._stream(images, stream, batch_size, in_flight, progress)

    def classify_stream(
        self,
        images: Iterable[Image],
        *,
        batch_size: int = batches.BATCH_SIZE,
        in_flight: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[ClassifyItem]:
        """Classify any number of images in bounded memory, in order; as `embed_stream`.

        The model may be swapped meanwhile: each item says which one answered.
        """
        stream = plans.classify_stream(self._backend)
        return self._stream(images, stream, batch_size, in_flight, progress)

    def decode(self, latents: Latents) -> ImagesResult:
        """Decode latents: rows of numbers [N, D], or the result of `embed(…, space="latent")`.

        Raises:
            NoDecoder: the model cannot decode.
        """
        parts = self._ask(plans.latents(latents), self._backend.decode)
        return results.join_images([part for _, part in parts])

    def reconstruct(self, images: Images) -> ReconstructResult:
        """Encode and decode images; also gives each one's distortion and rate, in nats.

        Raises:
            NoDecoder: the model cannot decode.
        """
        parts = self._ask(images, self._backend.reconstruct)
        return results.join_reconstructed([part for _, part in parts])

    def interpolate(self, first: Image, second: Image, *, steps: int = 8) -> ImagesResult:
        """Go from one image to another through latent space: the images on the way.

        The first and the last are the reconstructions of the two. Between them the latent turns
        from one mean of q(z|x) to the other along an arc; see `handful_client.interpolation`.

        Args:
            first: one image.
            second: another.
            steps: images in all, 2 or more.

        Raises:
            PartialFailure: one of the two is unusable; its error, with index 0 or 1, says why.
            NoDecoder: the model cannot decode.
            SpaceMismatch: another encoder was put into service between the two requests.
        """
        found = self.embed(interpolation.ends(first, second, steps), space="latent")
        parts = self._ask(interpolation.between(found, steps), self._backend.decode)
        made = results.join_images([part for _, part in parts])
        return interpolation.of_one_model(made, found)

    def sample(
        self, count: int = 1, *, label: str | None = None, seed: int | None = None
    ) -> ImagesResult:
        """Draw images from the model: from the prior, or from one label's latents.

        Raises:
            NoDecoder: the model cannot decode.
            Unprocessable: no such label.
        """
        return self._run(self._backend.sample(count, label, seed))

    def model(self) -> ModelInfo:
        """Ask which model answers, and what the service takes."""
        return self._run(self._backend.model())

    def ready(self) -> bool:
        """Ask, once, whether requests are taken now. False too when nobody answers at the URL."""
        return self._run(self._backend.ready())

    def close(self) -> None:
        """Close all connections, also those of clients made by `with_options`."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, flow: Flow[Part]) -> Part:
        return drive(flow, self._transport)

    def _ask(self, given: Any, call: Callable[[Batch], Flow[Part]]) -> list[tuple[Batch, Part]]:
        if is_one(given):
            batch = batches.one(given)
            return [(batch, self._run(call(batch)))]
        parts = list(self._in_order(batches.cut(given), call, self._backend.in_flight))
        if parts:
            return parts
        empty = Batch(0)
        return [(empty, self._run(call(empty)))]

    def _in_order(
        self, jobs: Iterator[Batch], call: Callable[[Batch], Flow[Part]], in_flight: int
    ) -> Generator[tuple[Batch, Part], None, None]:
        io = Stoppable(self._transport)
        return ordered.in_threads(jobs, lambda batch: drive(call(batch), io), in_flight, io.stop)

    def _stream(
        self,
        images: Iterable[Image],
        stream: plans.Stream[Part, Item],
        batch_size: int,
        in_flight: int | None,
        progress: Progress | None,
    ) -> Iterator[Item]:
        in_flight = self._backend.in_flight if in_flight is None else in_flight
        plans.check_sizes(batch_size, in_flight)
        tally = plans.Tally(progress, plans.total(images))
        jobs = batches.cut(images, batch_size)

        def items() -> Iterator[Item]:
            # Closed at once when the consumer stops, not when the garbage is collected.
            with contextlib.closing(self._in_order(jobs, stream.call, in_flight)) as parts:
                for batch, part in parts:
                    yield from stream.unpack(batch, part)
                    tally.add(len(batch))

        return items()
