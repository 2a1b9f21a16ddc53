"""What the numbers in a bundle mean: `manifest.json`, format 1.

Changing the format: raise `FORMAT`, keep a reader for the old one, and say in docs/decisions.md
what changed. Adding an optional field with a default needs no new number; removing, renaming or
giving a field another meaning does.
"""

import hashlib
import json
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

FORMAT = 1

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Resize = Literal["stretch", "fit", "crop"]
Likelihood = Literal["bernoulli", "discretised_logistic"]
Share = Annotated[float, Field(ge=0, le=1)]


def _rising(window: tuple[int, int]) -> tuple[int, int]:
    if window[0] >= window[1]:
        raise ValueError("the first value of a window must be below the second")
    return window


_Wide = Annotated[int, Field(ge=0, le=65_535)]
Window = Annotated[tuple[_Wide, _Wide], AfterValidator(_rising)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageSpec(_Block):
    """The pixels that the encoder takes: uint8 [height, width, channels].

    `window` says which 16-bit values become 0 and 255; None: 16-bit samples keep their high byte.
    It is left out where it is None, as in bundles that were written before it existed: the same
    image block, hence the same `space`.
    """

    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: Literal[1, 3]
    resize: Resize = "fit"
    window: Window | None = Field(default=None, exclude_if=lambda window: window is None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image: (height, width, channels)."""
        return self.height, self.width, self.channels


class _Fit(_Block):
    """What a fitted part says of itself. Further facts may stand beside those that are declared."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, str | bool | int | float | None]


class ConformalInfo(_Fit):
    """How prediction sets are made: a set holds each class with 1 - p <= `threshold`.

    The most probable class is always in it. Without a threshold, because there were too few labels
    to set one, the set is every class.
    """

    method: str
    level: float = Field(gt=0, lt=1)  # share of sets that hold the right class
    threshold: Share | None
    count: int = Field(ge=0)  # labels that the threshold was set on


class NoveltyInfo(_Fit):
    """How novelty is measured: the share of pool images that are less novel.

    An image of novelty above `threshold` gets no answer that counts: the service abstains. Without
    a threshold, because there were too few images to set one, it never does.
    """

    method: str | None  # None: head.onnx tells no novelty
    threshold: Share | None
    false_alarm_rate: float = Field(gt=0, lt=1)  # share of pool-like images above the threshold
    count: int = Field(ge=0)  # pool images that it was fitted on

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method is None and self.threshold is not None:
            raise ValueError("`threshold` needs a `method`")
        return self


class HeadInfo(_Block):
    """How the classifier head came to be."""

    kind: str
    digest: Digest
    labels_digest: Digest | None = None
    label_count: int = Field(ge=0)
    temperature: float = Field(gt=0)
    conformal: ConformalInfo | None = None  # None: written before there were prediction sets
    novelty: NoveltyInfo | None = None  # None: written before novelty was measured


class Provenance(_Block):
    """Where the bundle comes from. Informative: nothing is decided by it."""

    run_id: str | None = None
    git: str | None = None
    data: str | None = None
    seed: int | None = None
    versions: dict[str, str] = {}


class Manifest(_Block):
    """What the numbers in a bundle mean. Written once, never edited."""

    format: Literal[1] = 1
    name: str = Field(min_length=1, max_length=200)
    created: datetime
    space: Digest
    image: ImageSpec
    pixels_version: int
    embedding_dim: int = Field(ge=1, le=65_536)
    latent_dim: int = Field(ge=1, le=65_536)
    likelihood: Likelihood | None = None  # None: no decoder
    labels: tuple[str, ...] | None = None  # order of the head's outputs; None before any head
    files: dict[str, Digest]  # plain file name -> digest
    head: HeadInfo | None = None
    metrics: dict[str, float] = {}
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.head is None) != (self.labels is None):
            raise ValueError("`head` and `labels` must both be null or both be given")
        if (self.head is None) != ("head.onnx" not in self.files):
            raise ValueError("`head` must be given exactly when `files` names head.onnx")
        if (self.likelihood is None) != ("decoder.onnx" not in self.files):
            raise ValueError("`likelihood` must be given exactly when `files` names decoder.onnx")
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` names a class twice")
        return self


def digest(data: bytes) -> str:
    """Return the digest of `data` as the manifest writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def space_digest(encoder_digest: str, image: ImageSpec, pixels_version: int) -> str:
    """Return the digest of an embedding space.

    Two embeddings may be compared only when it is equal: same encoder, same image block, same
    code from bytes to pixels.
    """
    block = {
        "encoder": encoder_digest,
        "image": image.model_dump(),
        "pixels_version": pixels_version,
    }
    return digest(json.dumps(block, sort_keys=True, separators=(",", ":")).encode())
