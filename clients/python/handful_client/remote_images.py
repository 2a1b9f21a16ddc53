"""The routes that make images: /decode, /reconstruct and /sample, as flows."""

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from handful_client import answers, bodies
from handful_client.batches import Batch
from handful_client.channel import Channel, Sent, placed
from handful_client.flow import Flow, Reply, Request
from handful_client.results import ImagesResult, ReconstructResult
from handful_client.wire import ImagesAnswer, ReconstructAnswer

Value = TypeVar("Value")


def decode(channel: Channel, batch: Batch) -> Flow[ImagesResult]:
    """Decode one batch of latents."""
    sent = batch.sendable()
    if not sent:
        info = yield from channel.known_model()
        return ImagesResult([None] * len(batch), batch.unreadable(), info.model)
    reply = yield from channel.exchange(bodies.latents("/decode", [entry for _, entry in sent]))
    answers.space_of(reply, channel.options)
    answer = answers.parse(reply, ImagesAnswer)
    errors = placed(reply, batch, sent, answer.errors)
    png = _scattered(_files(reply, answer.images), batch, sent, reply)
    return ImagesResult(png, errors, answer.model)


def reconstruct(channel: Channel, batch: Batch) -> Flow[ReconstructResult]:
    """Encode and decode one batch of images."""
    sent = batch.sendable()
    if not sent:
        info = yield from channel.known_model()
        blank: list[None] = [None] * len(batch)
        return ReconstructResult(
            list(blank), batch.unreadable(), info.model, list(blank), list(blank)
        )
    reply = yield from channel.send_images("/reconstruct", sent, alone=batch.alone)
    answers.space_of(reply, channel.options)
    answer = answers.parse(reply, ReconstructAnswer)
    errors = placed(reply, batch, sent, answer.errors)
    return ReconstructResult(
        _scattered(_files(reply, answer.images), batch, sent, reply),
        errors,
        answer.model,
        _scattered(answer.distortion, batch, sent, reply),
        _scattered(answer.rate, batch, sent, reply),
    )


def sample(channel: Channel, count: int, label: str | None, seed: int | None) -> Flow[ImagesResult]:
    """Draw images from the model."""
    wanted = {"count": count, "label": label, "seed": seed}
    body = answers.dump({name: value for name, value in wanted.items() if value is not None})
    reply = yield from channel.exchange(Request("POST", "/sample", body, "application/json"))
    answers.space_of(reply, channel.options)
    answer = answers.parse(reply, ImagesAnswer)
    answers.check_count(reply, len(answer.images), count)
    return ImagesResult(_files(reply, answer.images), answer.errors, answer.model)


def _files(reply: Reply, images: Sequence[str | None]) -> list[bytes | None]:
    try:
        return [None if text is None else base64.b64decode(text, validate=True) for text in images]
    except binascii.Error as error:
        raise answers.unexpected(reply, "an image that is no base64") from error


def _scattered(
    values: Sequence[Value | None], batch: Batch, sent: Sent, reply: Reply
) -> list[Value | None]:
    """Return one value per image of the batch, None for those that were not sent."""
    answers.check_count(reply, len(values), len(sent))
    wide: list[Value | None] = [None] * len(batch)
    for (index, _), value in zip(sent, values, strict=True):
        wide[index - batch.start] = value
    return wide
