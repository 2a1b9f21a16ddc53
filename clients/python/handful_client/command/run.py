"""The work of `handful embed` and `handful classify`: files → client → output."""

import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from handful_client.async_client import AsyncHandful
from handful_client.command import files, outputs
from handful_client.command.json_output import JsonOutput
from handful_client.command.progress import ProgressDisplay
from handful_client.command.records import Record
from handful_client.results import ClassifyItem, EmbedItem
from handful_client.wire import ModelRef


@dataclass(frozen=True)
class Job:
    """What the user asked for.

    Attributes:
        verb: the command.
        named: files and folders.
        output: what stands after `-o`, if anything.
        as_json: whether standard output is to hold one JSON object.
        space: "latent" for the mean of q(z|x) instead of the embedding.
        batch_size: images a request.
    """

    verb: Literal["embed", "classify"]
    named: list[str]
    output: str | None
    as_json: bool
    space: Literal["latent"] | None
    batch_size: int


async def run(job: Job, client: AsyncHandful) -> int:
    """Do it; return the exit status: 0, or 1 where not a single file could be used.

    Raises:
        HandfulError: of the cause; no output has been written then.
    """
    classifies = job.verb == "classify"
    outputs.check(job.output, classifies=classifies, as_json=job.as_json)
    total = files.count(job.named)
    info = await client.model()  # before any file is read: says at once if nobody answers
    latent = job.space == "latent"
    dim = info.manifest.latent_dim if latent else info.manifest.embedding_dim
    display = ProgressDisplay(sys.stderr, total)
    done = failed = 0
    model = info.model
    with outputs.open_output(
        job.output, dim=None if classifies else dim, model=model, as_json=job.as_json
    ) as output:
        try:
            async for record, answered in _records(job, client):
                output.write(record)
                model = answered
                done += 1
                failed += record.error is not None
                display.update(done, failed)
        finally:
            display.clear()
        summary = _summary(job, model, done, failed, display.seconds)
        if isinstance(output, JsonOutput):
            output.print(summary, sys.stdout)
    if job.as_json and job.output is not None:
        print(json.dumps(summary))  # noqa: T201  # the command's answer
    if failed or job.output not in {None, "-"}:
        where = f"; reasons: the error column of {job.output}" if failed and job.output else ""
        sys.stderr.write(
            f"handful: {done:,} images, {failed:,} failed, {display.seconds:.1f} s{where}\n"
        )
    return 1 if failed == done else 0


async def _records(job: Job, client: AsyncHandful) -> AsyncIterator[tuple[Record, ModelRef]]:
    found = files.find(job.named)
    items: AsyncIterator[EmbedItem] | AsyncIterator[ClassifyItem]
    if job.verb == "embed":
        items = client.embed_stream(found, space=job.space, batch_size=job.batch_size)
    else:
        items = client.classify_stream(found, batch_size=job.batch_size)
    async for item in items:
        # A name that is no UTF-8 would stop the whole output at its row.
        path = os.fsencode(item.image).decode("utf-8", "backslashreplace")
        if isinstance(item, EmbedItem):
            yield Record(path, embedding=item.embedding, error=item.error), item.model
        else:
            yield Record(path, prediction=item.prediction, error=item.error), item.model


def _summary(job: Job, model: ModelRef, done: int, failed: int, seconds: float) -> dict[str, Any]:
    return {
        "command": job.verb,
        "images": done,
        "failed": failed,
        "seconds": round(seconds, 3),
        "images_per_second": round(done / max(seconds, 1e-9), 1),
        "output": job.output,
        "model": model.model_dump(),
    }
