"""What the configuration leaves open about sizes, from the images, their number and the budget.

Everything here is a function of its arguments: the same command gives the same sizes on the same
machine, so that finished stages are found again. It does *not* measure: a training that turns out
too slow says so itself (`Watcher.pace`).
"""

from typing import NamedTuple

from handful_bundle.manifest import ImageSpec
from handful_training.config import Config, EncoderFamily
from handful_training.model import default_embedding_dim, default_latent_dim, default_width

MAX_BATCH, MIN_BATCH = 256, 32
STEPS_PER_EPOCH = 8  # fewest that small sets are cut into
MAX_EPOCHS = 400  # more showings of the same images taught nothing
MIN_STEPS = 4000  # but this many steps are cheap and never too many
WANTED_EPOCHS = 3  # with fewer the network has hardly begun
MIN_WIDTH = 8
GPU_WIDTH = 2  # times the width of a CPU
# Images/s x values x width that one core trains: 28x28x1 at width 16 and 32x32x3 at 32, within 2.
_CORE_THROUGHPUT = 3.5e7
_TYPICAL_WIDTH = 32  # of colour images, at which sides are judged
SMALL_GREY = 32  # short side up to which grey images show too little for a deep network
SIDES = (256, 224, 192, 160, 128, 112, 96, 80, 64)


class Means(NamedTuple):
    """What a training has to do with."""

    gpu: bool
    cores: int
    seconds: float | None  # time budget; None: epochs are counted instead

    def epochs(self, count: int, values: int, width: int) -> float:
        """Return about how often `count` images of `values` can be shown; inf on a GPU."""
        if self.gpu or self.seconds is None:
            return float("inf")
        return self.cores * self.seconds * _CORE_THROUGHPUT / (count * values * width)


def default_batch_size(rows: int) -> int:
    """Return a power of two: 256, or for small sets what leaves some steps to an epoch."""
    size = MAX_BATCH
    while size > MIN_BATCH and size * STEPS_PER_EPOCH > rows:
        size //= 2
    return min(size, rows)


def default_epochs(rows: int, batch_size: int) -> int:
    """Return after how many epochs a training ends that was given a time budget alone."""
    steps = max(1, rows // batch_size)
    return max(MAX_EPOCHS, -(-MIN_STEPS // steps))


def default_family(spec: ImageSpec, means: Means) -> EncoderFamily:
    """Return the family for images of `spec`.

    A residual network learns more from each image and needs several times longer for it: on a GPU
    that is there for colour and for large images, in minutes of a CPU it loses (docs/benchmarks.md,
    "Experiments").
    """
    large = spec.channels == 3 or min(spec.height, spec.width) > SMALL_GREY
    return "residual" if means.gpu and large else "convolutional"


def side_limit(count: int, means: Means) -> int:
    """Return the longest side of derived sizes: the largest that can be shown a few times.

    Args:
        count: number of images.
        means: what there is to train with.
    """
    for side in SIDES:
        if means.epochs(count, 3 * side * side, _TYPICAL_WIDTH) >= WANTED_EPOCHS:
            return side
    return SIDES[-1]


def sized(config: Config, spec: ImageSpec, count: int, means: Means) -> Config:
    """Return `config` with every size set; what is set already stays.

    Args:
        config: what the user asked for.
        spec: size of the images.
        count: how many train the network.
        means: what there is to train with.
    """
    model, optimiser = config.model, config.optimiser
    width = model.width
    if width is None:
        width = default_width(spec) * (GPU_WIDTH if means.gpu else 1)
        values = spec.height * spec.width * spec.channels
        while width > MIN_WIDTH and means.epochs(count, values, width) < WANTED_EPOCHS:
            width //= 2
    sizes = {
        "family": model.family or default_family(spec, means),
        "width": width,
        "embedding_dim": model.embedding_dim or default_embedding_dim(spec),
        "latent_dim": model.latent_dim or default_latent_dim(spec),
    }
    batch = optimiser.batch_size or default_batch_size(count)
    return config.model_copy(
        update={
            "model": model.model_copy(update=sizes),
            "optimiser": optimiser.model_copy(update={"batch_size": batch}),
        }
    )
