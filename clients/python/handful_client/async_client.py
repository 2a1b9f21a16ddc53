"""The awaiting client. Holds no logic: plans are in `plans.py`, requests in `remote.py`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import httpx

from handful_client import batches, interpolation, ordered, plans, results
from handful_client.batches import Batch
from handful_client.client_base import ClientBase
from handful_client.flow import Flow, drive_async
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
from handful_client.transport import AsyncTransport
from handful_client.wire import ItemError, ModelInfo, Prediction

Part = TypeVar("Part")
Item = TypeVar("Item")


class AsyncHandful(ClientBase):
    """A client of a Handful service for asyncio: the methods of `Handful`, awaited.

    Files are read, and `local` bundles computed, in threads, so that the event loop goes on.
    Arguments, results and errors are those of `Handful`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        expect_space: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            expect_space=expect_space,
        )
        self._transport = AsyncTransport(self._options, transport)

    async def embed(self, images: Images, *, space: Literal["latent"] | None = None) -> EmbedResult:
        """Embed images; as `Handful.embed`."""
        latent = plans.is_latent(space)
        parts = await self._ask(images, lambda batch: self._backend.embed(batch, latent=latent))
        plans.check_one_space(parts)
        return results.join_embedded([part for _, part in parts])

    @overload
    async def classify(
        self,
        images: Images | None = None,
        *,
        embeddings: Any = None,
        space: str | None = None,
        errors: Literal["raise"] = "raise",
    ) -> list[Prediction]: ...
    @overload
    async def classify(
        self,
        images: Images | None = None,
        *,
        embeddings: Any = None,
        space: str | None = None,
        errors: Literal["return"],
    ) -> list[Prediction | ItemError]: ...
    async def classify(
        self,
        images: Images | None = None,
        *,
        embeddings: Any = None,
        space: str | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Classify images, or embeddings that were kept; as `Handful.classify`."""
        given = plans.classified(images, embeddings, space, errors)
        parts = await self._ask(given, self._backend.classify)
        return plans.predictions([part for _, part in parts], errors)

    def embed_stream(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        space: Literal["latent"] | None = None,
        batch_size: int = batches.BATCH_SIZE,
        in_flight: int | None = None,
        progress: Progress | None = None,
    ) -> AsyncIterator[EmbedItem]:
        """Embed any number of images; as `Handful.embed_stream`. `images` may be asynchronous."""
        stream = plans.embed_stream(self._backend, space)
        return self._stream(images, stream, batch_size, in_flight, progress)

    def classify_stream(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        batch_size: int = batches.BATCH_SIZE,
        in_flight: int | None = None,
        progress: Progress | None = None,
    ) -> AsyncIterator[ClassifyItem]:
        """Classify any number of images; as `Handful.classify_stream`."""
        stream = plans.classify_stream(self._backend)
        return self._stream(images, stream, batch_size, in_flight, progress)

    async def decode(self, latents: Latents) -> ImagesResult:
        """Decode latents; as `Handful.decode`."""
        parts = await self._ask(plans.latents(latents), self._backend.decode)
        return results.join_images([part for _, part in parts])

    async def reconstruct(self, images: Images) -> ReconstructResult:
        """Encode and decode images; as `Handful.reconstruct`."""
        parts = await self._ask(images, self._backend.reconstruct)
        return results.join_reconstructed([part for _, part in parts])

    async def interpolate(self, first: Image, second: Image, *, steps: int = 8) -> ImagesResult:
        """Go from one image to another through latent space; as `Handful.interpolate`."""
        found = await self.embed(interpolation.ends(first, second, steps), space="latent")
        parts = await self._ask(interpolation.between(found, steps), self._backend.decode)
        made = results.join_images([part for _, part in parts])
        return interpolation.of_one_model(made, found)

    async def sample(
        self, count: int = 1, *, label: str | None = None, seed: int | None = None
    ) -> ImagesResult:
        """Draw images from the model; as `Handful.sample`."""
        return await self._run(self._backend.sample(count, label, seed))

    async def model(self) -> ModelInfo:
        """Ask which model answers, and what the service takes."""
        return await self._run(self._backend.model())

    async def ready(self) -> bool:
        """Ask, once, whether requests are taken now. False too when nobody answers at the URL."""
        return await self._run(self._backend.ready())

    async def close(self) -> None:
        """Close all connections, also those of clients made by `with_options`."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[Part]) -> Part:
        return await drive_async(flow, self._transport)

    async def _ask(
        self, given: Any, call: Callable[[Batch], Flow[Part]]
    ) -> list[tuple[Batch, Part]]:
        if is_one(given):
            batch = await asyncio.to_thread(batches.one, given)
            return [(batch, await self._run(call(batch)))]
        jobs = batches.cut_async(given)
        parts = [pair async for pair in self._in_order(jobs, call, self._backend.in_flight)]
        if parts:
            return parts
        empty = Batch(0)
        return [(empty, await self._run(call(empty)))]

    def _in_order(
        self, jobs: AsyncIterator[Batch], call: Callable[[Batch], Flow[Part]], in_flight: int
    ) -> AsyncGenerator[tuple[Batch, Part], None]:
        return ordered.in_tasks(jobs, lambda batch: self._run(call(batch)), in_flight)

    def _stream(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        stream: plans.Stream[Part, Item],
        batch_size: int,
        in_flight: int | None,
        progress: Progress | None,
    ) -> AsyncIterator[Item]:
        in_flight = self._backend.in_flight if in_flight is None else in_flight
        plans.check_sizes(batch_size, in_flight)
        tally = plans.Tally(progress, plans.total(images))
        jobs = batches.cut_async(images, batch_size)

        async def items() -> AsyncIterator[Item]:
            async with contextlib.aclosing(self._in_order(jobs, stream.call, in_flight)) as parts:
                async for batch, part in parts:
                    for item in stream.unpack(batch, part):
                        yield item
                    tally.add(len(batch))

        return items()
