"""Every setting of a training run, with its default, its meaning and its bounds.

Read from a TOML file (`--config`) and from `--set block.key=value`; later ones win.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handful_bundle.manifest import Likelihood, Resize, Window
from handful_training.errors import InputError

EncoderFamily = Literal["convolutional", "residual"]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageConfig(_Block):
    """The size that images are brought to; what is left out is derived from the images."""

    height: int | None = Field(default=None, ge=16, le=256)
    width: int | None = Field(default=None, ge=16, le=256)
    channels: Literal[1, 3] | None = None
    resize: Resize = "fit"
    max_side: int = Field(default=64, ge=16, le=256)  # bound on derived sizes only
    window: Window | None = None  # 16-bit values that become 0 and 255


class ModelConfig(_Block):
    """The network; what is left out is derived from the images, the budget and the device."""

    family: EncoderFamily | None = None
    width: int | None = Field(default=None, ge=4, le=512)  # channels of the first convolution
    embedding_dim: int | None = Field(default=None, ge=2, le=4096)
    latent_dim: int | None = Field(default=None, ge=1, le=1024)
    likelihood: Likelihood | None = (
        None  # None: bernoulli for grey, discretised_logistic for colour
    )


class ObjectiveConfig(_Block):
    """elbo_weight x negative ELBO per dimension + invariance_weight x InfoNCE."""

    elbo_weight: float = Field(default=1.0, ge=0)  # 0: invariance alone, the decoder learns nothing
    beta: float = Field(default=1.0, ge=0)  # weight of the rate (Higgins et al. 2017)
    kl_warm_up: float = Field(default=0.2, ge=0, le=1)  # share of the training, linear
    elbo_every: int = Field(default=3, ge=1)  # beside InfoNCE: of every n-th image, to save time
    free_bits: float = Field(default=0.0, ge=0)  # nats of each latent dimension that cost nothing
    binarise: bool = False  # draw each pixel from Bernoulli(x/255) anew each time; grey images only
    invariance_weight: float = Field(default=1.0, ge=0)  # 0: a plain VAE
    temperature: float = Field(default=0.15, gt=0)
    projection_dim: int = Field(default=64, ge=2)
    neighbours: int = Field(default=5, ge=0)  # nearest in pixel PCA; 0: own views only
    neighbour_probability: float = Field(default=0.5, ge=0, le=1)
    neighbour_reach: float = Field(default=0.35, gt=0)  # at most this share of an ordinary distance


class AugmentConfig(_Block):
    """What a picture may undergo and still show the same thing. Domain knowledge: check it.

    A key that is left out has the preset's value (see `presets`), and `safe` mirrors and turns
    images only as far as the pool looks the same for it (see `symmetry`). Ranges are half-widths:
    `rotation = 10` draws uniformly from -10 to 10.
    """

    preset: Literal["safe", "digits", "natural", "texture", "none"] = "safe"
    shift: float | None = Field(default=None, ge=0, le=0.5)  # of the side
    zoom: float | None = Field(default=None, ge=0, lt=1)  # 1/(1+zoom) to 1+zoom, log-uniform
    crop: float | None = Field(default=None, ge=0, lt=1)  # cut-outs with sides from 1-crop to 1
    stretch: float | None = Field(default=None, ge=0, lt=1)  # aspect ratio, as zoom
    shear: float | None = Field(default=None, ge=0, le=1)  # slant: columns per row
    rotation: float | None = Field(default=None, ge=0, le=180)  # degrees
    flip: bool | None = None  # left and right; off where writing or handedness matters
    flip_vertical: bool | None = None  # upside down
    quarter_turns: bool | None = None  # by 0, 90, 180 or 270 degrees
    padding: Literal["border", "reflection"] | None = None  # what is seen beyond the border
    brightness: float | None = Field(default=None, ge=0, lt=1)  # factor, of full intensity
    contrast: float | None = Field(default=None, ge=0, lt=1)
    saturation: float | None = Field(default=None, ge=0, lt=1)  # colour images only
    hue: float | None = Field(default=None, ge=0, le=0.5)  # turns; colour images only
    grey: float | None = Field(default=None, ge=0, le=1)  # share of views without colour
    erase: float | None = Field(default=None, ge=0, lt=1)  # largest side of one grey rectangle


class OptimiserConfig(_Block):
    """How the network is fitted."""

    batch_size: int | None = Field(default=None, ge=2)  # None: 256, fewer for small sets
    learning_rate: float = Field(default=2e-3, gt=0)  # peak of the one-cycle schedule
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    held_out: int = Field(default=1000, ge=1)  # images kept for the test ELBO, at most 10 %


LearnerName = Literal["spreading", "poisson"]


class HeadConfig(_Block):
    """How the classifier head is chosen."""

    family: Literal["auto", "logistic", "lda", "nearest_mean", "graph", "combined"] = "auto"
    class_prior: Literal["estimated", "uniform"] = "estimated"  # uniform: equally frequent classes
    graph: LearnerName = "spreading"  # how labels reach the unlabelled pool
    folds: int = Field(default=5, ge=2)
    repeats: int = Field(default=5, ge=1)
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0), min_length=1
    )  # candidates for the inverse regularisation strength
    novelty_false_alarm_rate: float = Field(
        default=0.01, gt=0, lt=1
    )  # share of images like the pool's that /classify may abstain on


class AdaptConfig(_Block):
    """Training the encoder on for the classes of the labels: rounds of graph and network."""

    rounds: int = Field(default=3, ge=1)  # how often the graph is built anew
    labelled: int = Field(default=64, ge=1)  # labelled images beside each batch
    held_out: float = Field(default=0.25, gt=0, lt=1)  # share of each class's labels that judges
    learning_rate: float = Field(default=2e-3, gt=0)  # peak of the one-cycle schedule
    strength: float = Field(default=1.5, ge=1)  # of strong views: ranges of `augment` times this
    erase: float = Field(default=0.4, ge=0, lt=1)  # of strong views: side of one grey rectangle


class Config(_Block):
    """A whole training run."""

    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    augment: AugmentConfig = AugmentConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    adapt: AdaptConfig = AdaptConfig()
    head: HeadConfig = HeadConfig()


def load_config(file: Path | None = None, settings: Sequence[str] = ()) -> Config:
    """Build the configuration from a TOML file and `block.key=value` settings.

    Raises:
        InputError: an unknown key or an impossible value; the message names it.
    """
    raw: dict[str, Any] = {}
    if file is not None:
        try:
            raw = tomllib.loads(file.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"--config {file}: {error}") from error
    for setting in settings:
        path, separator, text = setting.partition("=")
        block, dot, key = path.strip().partition(".")
        if not (separator and dot and key):
            raise InputError(f"--set {setting}: write block.key=value, as in model.latent_dim=32")
        inner = raw.setdefault(block, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {setting}: `{block}` is not a block of settings")
        inner[key] = _value(text.strip())
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"setting {place}: {first['msg']}") from error


def _value(text: str) -> Any:
    """Read a TOML value; what is none is a string, so that quotes may be left out."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
