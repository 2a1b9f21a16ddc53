"""BentoML as its guides have it: a batchable method on lists, base64 in JSON, a worker per core.

Followed, all on docs.bentoml.com: get-started/adaptive-batching (`batchable`, `max_batch_size`; the
window is chosen by BentoML itself below `max_latency_ms`), build-with-bentoml/parallelize-requests
(`workers`: one per CPU core), guides/concurrency (set it to the batch size) and
reference/bentoml/configurations (the access log is off; metrics stay on, as ours do).
"""

import base64
import os

import bentoml
from embedder import Embedder


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]),
    traffic={"timeout": 60, "concurrency": 32},
    logging={"access": {"enabled": False}},
)
class Images:
    """Embeds batches."""

    def __init__(self) -> None:
        self.embedder = Embedder()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def embed(self, images: list[str]) -> list[list[float]]:
        """Embed a batch of files in base64."""
        return self.embedder([base64.b64decode(image) for image in images])
