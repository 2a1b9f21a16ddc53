"""What goes over the wire as JSON. The one source of the OpenAPI document's schemas."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat
from pydantic.config import JsonDict

SPACE_EXAMPLE = "sha256:" + "4f" * 32
MODEL_EXAMPLE = {"name": "fashion", "version": "3", "space": SPACE_EXAMPLE}
# A whole PNG: 8 x 8 grey pixels.
PNG_EXAMPLE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR4nGM8"
    "wQABTAwUMQA6AADYhMgK6QAAAABJRU5ErkJggg=="
)
ERROR_EXAMPLE = {
    "index": 1,
    "type": "urn:handful:problem:image_unreadable",
    "code": "image_unreadable",
    "detail": "The file ends before its last row; send it whole.",
}
PREDICTION_EXAMPLE: JsonDict = {
    "label": "Bag",
    "confidence": 0.9,
    "probabilities": {"Bag": 0.9, "Sandal": 0.1},
    "prediction_set": ["Bag"],
    "novelty": 0.41,
    "abstained": False,
    "reason": None,
}
ABSTAINED_EXAMPLE: JsonDict = {
    "label": "Sandal",
    "confidence": 0.7,
    "probabilities": {"Bag": 0.3, "Sandal": 0.7},
    "prediction_set": ["Sandal", "Bag"],
    "novelty": 0.9987,
    "abstained": True,
    "reason": "novelty 0.9987 is above the threshold 0.99: the image is unlike those that the "
    "model was trained on",
}

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Base64Png = Annotated[
    str,
    Field(
        description="a PNG file in base64",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
    ),
]
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
# What follows is refused by codes of its own, which tell more than a schema's violation.
Float32 = Annotated[
    FiniteFloat, Field(json_schema_extra={"minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX})
]
_SOME: JsonDict = {"minItems": 1}


def _whole(value: object) -> object:
    """Take 4.0 for 4, as JSON Schema does; some languages write no other way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class ImagesBody(BaseModel):
    """Images in JSON."""

    model_config = _example(images=[PNG_EXAMPLE])

    images: list[str] = Field(
        description="JPEG, PNG or WebP files in base64 (RFC 4648)", json_schema_extra=_SOME
    )


class EmbeddingsBody(BaseModel):
    """Embeddings that a client kept, to classify."""

    model_config = _example(embeddings=[[0.12, -0.7, 0.05]], space=SPACE_EXAMPLE)

    embeddings: list[list[Float32]] = Field(description="[N, E]", json_schema_extra=_SOME)
    space: str = Field(description="`model.space` of the answer that they came in")


class LatentsBody(BaseModel):
    """Latents to decode."""

    model_config = _example(latents=[[0.3, -1.1]])

    latents: list[list[Float32]] = Field(description="[N, D]", json_schema_extra=_SOME)


class SampleBody(BaseModel):
    """How many images to draw from the model."""

    model_config = _example(count=4, label="Bag", seed=7)

    count: Annotated[int, _WHOLE] = Field(ge=1, description="images to draw")
    label: str | None = Field(None, description="draw from this class instead of from the prior")
    seed: Annotated[int, Field(ge=0, le=2**63 - 1), _WHOLE] | None = Field(
        None, description="the same seed draws the same images"
    )


class ModelRef(BaseModel):
    """Which model answered."""

    model_config = _example(**MODEL_EXAMPLE)

    name: str
    version: str = Field(
        description="the registry's version, or 12 digits of the manifest's digest"
    )
    space: str = Field(description="embeddings may be compared only when this is equal")


class ItemError(BaseModel):
    """Why one item of a batch has no result."""

    model_config = _example(**ERROR_EXAMPLE)

    index: int = Field(ge=0, description="the item's place in the request")
    type: str
    code: str
    detail: str


class EmbedResponse(BaseModel):
    """Embeddings in the order of the images."""

    model_config = _example(
        model=MODEL_EXAMPLE, dim=3, embeddings=[[0.12, -0.7, 0.05], None], errors=[ERROR_EXAMPLE]
    )

    model: ModelRef
    dim: int = Field(description="numbers in an embedding")
    embeddings: list[list[float] | None] = Field(description="null where the item failed")
    log_variance: list[list[float] | None] | None = Field(
        None, description="only with `space=latent`: of q(z|x), whose mean is in `embeddings`"
    )
    errors: list[ItemError]


class Prediction(BaseModel):
    """What the head says of one image."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [PREDICTION_EXAMPLE, ABSTAINED_EXAMPLE]}
    )

    label: str = Field(description="the most probable label")
    confidence: Probability = Field(description="its calibrated probability")
    probabilities: dict[str, Probability]
    prediction_set: list[str] | None = Field(
        description="holds the right label as often as the manifest's `head.conformal.level` says, "
        "the most probable first; null: the head has none"
    )
    novelty: Share | None = Field(
        description="share of the unlabelled images that are less novel; null: the head has none"
    )
    abstained: bool = Field(
        description="the novelty is above the manifest's `head.novelty.threshold`: what else is "
        "said of this image does not count"
    )
    reason: str | None = Field(description="why it abstained")


class ClassifyResponse(BaseModel):
    """Predictions in the order of the items."""

    model_config = _example(
        model=MODEL_EXAMPLE,
        predictions=[PREDICTION_EXAMPLE, None],
        errors=[ERROR_EXAMPLE],
    )

    model: ModelRef
    predictions: list[Prediction | None] = Field(description="null where the item failed")
    errors: list[ItemError]


class ImagesResponse(BaseModel):
    """Decoded images in the order of the latents."""

    model_config = _example(model=MODEL_EXAMPLE, images=[PNG_EXAMPLE], errors=[])

    model: ModelRef
    images: list[Base64Png | None] = Field(description="null where the item failed")
    errors: list[ItemError]


class ReconstructResponse(BaseModel):
    """Reconstructions in the order of the images, and the two terms of each one's ELBO."""

    model_config = _example(
        model=MODEL_EXAMPLE,
        images=[PNG_EXAMPLE, None],
        distortion=[231.5, None],
        rate=[18.2, None],
        errors=[ERROR_EXAMPLE],
    )

    model: ModelRef
    images: list[Base64Png | None] = Field(description="null where the item failed")
    distortion: list[float | None] = Field(description="-log p(x|z) at the mean, in nats")
    rate: list[float | None] = Field(description="KL(q(z|x) ‖ p(z)), in nats")
    errors: list[ItemError]


class Limits(BaseModel):
    """What a request may hold, and how the service runs."""

    model_config = ConfigDict(extra="forbid")

    max_images: int
    max_body_bytes: int
    max_pixels: int
    max_batch: int
    queue_rows: int
    queue_bytes: int
    timeout_seconds: float
    body_seconds: float
    poll_seconds: float
    device: Literal["auto", "cpu", "cuda"]
    workers: int


class ModelResponse(BaseModel):
    """The model that answers now."""

    model_config = ConfigDict(extra="forbid")

    model: ModelRef
    provider: Literal["cpu", "cuda"] = Field(description="where the encoder really runs")
    labels: list[str] | None = Field(description="null: there is no head")
    routes: list[str] = Field(description="the inference routes that this model can answer")
    manifest: dict[str, Any] = Field(description="manifest.json, bundle format 1")
    settings: Limits


class ProbeResponse(BaseModel):
    """The service is well."""

    model_config = _example(status="ready")

    status: Literal["alive", "ready"]


class Problem(BaseModel):
    """Why a request failed (RFC 9457)."""

    model_config = _example(
        type="urn:handful:problem:overloaded",
        title="The service is overloaded",
        status=503,
        detail="2048 images are waiting, at most 2048",
        code="overloaded",
        request_id="8f14e45fceea467a",
        retryable=True,
    )

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what was found, and the remedy")
    code: str = Field(description="stable; branch on this")
    request_id: str = Field(description="as in X-Request-ID; finds the request in the log")
    retryable: bool = Field(description="whether the same request may succeed later")
    errors: list[ItemError] | None = Field(None, description="the failed items, where they matter")
