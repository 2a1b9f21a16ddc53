"""The answers of the service as they come over the wire (JSON).

Unknown fields are let through, so that a newer service does not break an older client.
"""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class _Wire(BaseModel):
    # `model` is the contract's word, `model_` pydantic's own prefix.
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class ModelRef(_Wire):
    """Which model answered. Embeddings may be compared only where `space` is equal."""

    name: str
    version: str
    space: str


class ItemError(_Wire):
    """Why one image of many has no result. `index` counts the images as they were given."""

    index: int
    type: str
    code: str
    detail: str

    @classmethod
    def of(cls, index: int, code: str, detail: str) -> Self:
        """Return an item's error that this side found, typed as the service types its own."""
        return cls(index=index, type=f"urn:handful:problem:{code}", code=code, detail=detail)

    def __str__(self) -> str:
        return f"image {self.index}: {self.detail} ({self.code})"


class Prediction(_Wire):
    """What the head says about one image. Fractions lie in [0, 1]."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    prediction_set: list[str] | None = None
    novelty: float | None = None
    abstained: bool
    reason: str | None = None


class EmbedAnswer(_Wire):
    """`POST /embed`."""

    model: ModelRef
    dim: int
    embeddings: list[list[float] | None]
    log_variance: list[list[float] | None] | None = None
    errors: list[ItemError]


class ClassifyAnswer(_Wire):
    """`POST /classify`."""

    model: ModelRef
    predictions: list[Prediction | None]
    errors: list[ItemError]


class ImageBlock(_Wire):
    """The pixels that the encoder takes: uint8 [height, width, channels]."""

    height: int
    width: int
    channels: int
    resize: str
    window: tuple[int, int] | None = None  # 16-bit values that become 0 and 255

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: (height, width, channels)."""
        return self.height, self.width, self.channels


class Manifest(_Wire):
    """What the numbers of the served bundle mean: its manifest.json."""

    format: int
    name: str
    created: datetime
    space: str
    image: ImageBlock
    pixels_version: int
    embedding_dim: int
    latent_dim: int
    likelihood: str | None = None
    labels: list[str] | None = None
    files: dict[str, str]
    head: dict[str, Any] | None = None
    metrics: dict[str, float] = {}
    provenance: dict[str, Any] = {}


class Limits(_Wire):
    """What a request may hold, and how the service runs."""

    max_images: int
    max_body_bytes: int
    max_pixels: int
    max_batch: int
    queue_rows: int
    queue_bytes: int
    timeout_seconds: float
    body_seconds: float
    poll_seconds: float
    device: str
    workers: int


class ModelInfo(_Wire):
    """`GET /model`: what is served, where it runs, and what the service takes.

    `settings` is None for a bundle that is open in this process.
    """

    model: ModelRef
    provider: str
    labels: list[str] | None
    routes: list[str]
    manifest: Manifest
    settings: Limits | None


class ImagesAnswer(_Wire):
    """`POST /decode`, `/sample`: PNG files in base64."""

    model: ModelRef
    images: list[str | None]
    errors: list[ItemError]


class ReconstructAnswer(_Wire):
    """`POST /reconstruct`: PNG files in base64; nats per image."""

    model: ModelRef
    images: list[str | None]
    distortion: list[float | None]
    rate: list[float | None]
    errors: list[ItemError]


class Problem(_Wire):
    """Why a request failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retryable: bool
    errors: list[ItemError] | None = None
