"""What a client needs of the thing that answers, be it a service or a bundle in this process."""

from typing import Protocol

from handful_client.batches import Batch
from handful_client.flow import Flow
from handful_client.options import Options
from handful_client.results import Classified, EmbedResult, ImagesResult, ReconstructResult
from handful_client.wire import ModelInfo


class Backend(Protocol):
    """Answers one batch at a time, as flows.

    Attributes:
        in_flight: how many batches are best asked for at once.
    """

    in_flight: int

    def with_options(self, options: Options) -> "Backend":
        """Return the same under other options."""

    def ready(self) -> Flow[bool]:
        """Tell whether requests are taken now."""

    def model(self) -> Flow[ModelInfo]:
        """Tell which model answers."""

    def embed(self, batch: Batch, *, latent: bool) -> Flow[EmbedResult]:
        """Embed images."""

    def classify(self, batch: Batch) -> Flow[Classified]:
        """Classify images or embeddings."""

    def decode(self, batch: Batch) -> Flow[ImagesResult]:
        """Decode latents."""

    def reconstruct(self, batch: Batch) -> Flow[ReconstructResult]:
        """Encode and decode images."""

    def sample(self, count: int, label: str | None, seed: int | None) -> Flow[ImagesResult]:
        """Draw images."""
