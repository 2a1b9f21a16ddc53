"""How requests of one client reach a service: which form a body takes, what is known of the model.

Flows only; knows no sockets. What the routes mean is in `remote.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from handful_client import answers, bodies
from handful_client.batches import Batch
from handful_client.errors import ImageRejected, TooLarge, Unprocessable
from handful_client.exchange import exchange
from handful_client.flow import Flow, Reply, Request
from handful_client.images import Encoded, Loaded, Pixels
from handful_client.options import Options
from handful_client.retry import RetryBudget
from handful_client.spaces import check_space
from handful_client.wire import ItemError, ModelInfo

Part = TypeVar("Part")
Sent = Sequence[tuple[int, Loaded]]  # images, each with its index among all that the user gave


class Shared:
    """What all copies of one client share: the retry budget, and what is known of the model."""

    def __init__(self) -> None:
        self.budget = RetryBudget()
        self.model: ModelInfo | None = None


class Channel:
    """One client's way to its service."""

    def __init__(self, options: Options, shared: Shared) -> None:
        self.options = options
        self.shared = shared

    def exchange(self, request: Request, *, max_retries: int | None = None) -> Flow[Reply]:
        """Send a request until it has an answer; see `exchange.exchange`."""
        options = self.options
        if max_retries is not None:
            options = dataclasses.replace(options, max_retries=max_retries)
        return exchange(request, options, self.shared.budget)

    def ask_model(self) -> Flow[ModelInfo]:
        """Ask what is served."""
        reply = yield from self.exchange(Request("GET", "/model"))
        info = answers.parse(reply, ModelInfo)
        check_space(info.model.space, self.options.expect_space)
        self.shared.model = info
        return info

    def known_model(self) -> Flow[ModelInfo]:
        """Return what is served, as far as known; ask if nothing is."""
        return self.shared.model or (yield from self.ask_model())

    def forget_model(self, *, unless_space: str | None = None) -> None:
        """Drop what is known of the model, unless it is of this embedding space."""
        known = self.shared.model
        if known is not None and known.model.space != unless_space:
            self.shared.model = None

    def send_images(
        self,
        path: str,
        sent: Sent,
        *,
        alone: bool = False,
        query: Mapping[str, str] = MappingProxyType({}),
        accept: str = "application/json",
    ) -> Flow[Reply]:
        """Send images in the form that costs least.

        Arrays of the model's own shape go as one npy array, an image that the user gave by
        itself as a raw body, everything else as multipart.
        """
        loaded = [entry for _, entry in sent]

        def ask(request: Request) -> Flow[Reply]:
            return self.exchange(dataclasses.replace(request, query=query, accept=accept))

        if all(isinstance(entry, Pixels) for entry in loaded):
            info = yield from self.known_model()
            if bodies.is_stack(loaded, info.manifest.image.shape):
                try:
                    return (yield from ask(bodies.npy(path, loaded)))
                except Unprocessable as error:
                    if error.code != "npy_invalid":
                        raise
                    self.forget_model()  # another size is served by now; as files then
        first = loaded[0]
        if alone and isinstance(first, Encoded) and first.media_type is not None:
            return (yield from ask(bodies.raw(path, first)))
        return (yield from ask(bodies.multipart(path, loaded)))


def in_halves(
    batch: Batch, ask: Callable[[Batch], Flow[Part]], join: Callable[[Sequence[Part]], Part]
) -> Flow[Part]:
    """Ask for a batch; when the service finds it too large, for its halves.

    A single image that is too large fails alone.
    """
    try:
        return (yield from ask(batch))
    except (TooLarge, Unprocessable) as error:
        if batch.alone or (isinstance(error, Unprocessable) and error.code != "too_many_items"):
            raise
        if len(batch) == 1:
            failed = ItemError.of(batch.start, error.code, error.message)
            return (yield from ask(Batch(batch.start, batch.given, [failed])))
    first, second = batch.halves()
    one = yield from in_halves(first, ask, join)
    other = yield from in_halves(second, ask, join)
    return join([one, other])


def placed(reply: Reply, batch: Batch, sent: Sent, errors: Sequence[ItemError]) -> list[ItemError]:
    """Return all errors of a batch, numbered as the user's images are.

    Raises:
        ImageRejected: the user gave this one image by itself.
    """
    if any(not 0 <= error.index < len(sent) for error in errors):
        raise answers.unexpected(reply, "an error of an image that was not sent")
    if batch.alone and errors:
        raise ImageRejected(
            f"{errors[0].detail} ({errors[0].code})",
            status=reply.status,
            code=errors[0].code,
            request_id=answers.request_id(reply),
        )
    numbered = [error.model_copy(update={"index": sent[error.index][0]}) for error in errors]
    return sorted([*numbered, *batch.unreadable()], key=lambda error: error.index)
