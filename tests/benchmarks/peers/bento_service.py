"""BentoML as its guide on batching has it: a batchable method on lists, base64 in JSON."""

import base64

import bentoml
from embedder import Embedder


@bentoml.service(workers=1, traffic={"timeout": 60, "concurrency": 64})
class Images:
    """Embeds batches."""

    def __init__(self) -> None:
        self.embedder = Embedder()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def embed(self, images: list[str]) -> list[list[float]]:
        """Embed a batch of files in base64."""
        return self.embedder([base64.b64decode(image) for image in images])
