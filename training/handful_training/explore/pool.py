"""The images that an exploration looks at, encoded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training.embedding import embed_rows

MAX_POOL = 2_000  # of the unlabelled images; a percent of a standard deviation needs no more


@dataclass(frozen=True, eq=False)
class Pool:
    """Images and what the encoder says of them.

    Attributes:
        images: uint8 [n, H, W, C], n >= 1.
        keys: their names, [n].
        mean: of q(z|x), [n, D].
        kl: mean KL(q(z|x) || N(0, I)) of each latent dimension, nats, [D].
        target: index of each image's class, -1 where it is not known, [n].
        known_by: "labels", "head", or None where there are no classes.
    """

    images: NDArray[np.uint8]
    keys: tuple[str, ...]
    mean: NDArray[np.float32]
    kl: NDArray[np.float64]
    target: NDArray[np.int64]
    known_by: str | None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def typical(self) -> int:
        """The image whose latent lies nearest to the average one."""
        return int(np.square(self.mean - self.mean.mean(axis=0)).sum(axis=1).argmin())


def encode_pool(
    bundle: Bundle,
    images: NDArray[np.uint8],
    keys: tuple[str, ...],
    target: NDArray[np.int64] | None = None,
) -> Pool:
    """Encode the images of a pool.

    Args:
        bundle: what encodes; its head names classes where no labels do.
        images: [n, H, W, C], n >= 1.
        keys: their names.
        target: index of each one's class among the head's labels, -1 where it has none, [n].
    """
    encoding = embed_rows(bundle.encoder, images)
    known_by: str | None = "labels"
    if target is None:
        target, known_by = np.full(len(keys), -1), None
        if bundle.head is not None:
            target, known_by = bundle.head(encoding.embedding).argmax(axis=1), "head"
    mean, log_variance = encoding.mean.astype(np.float64), encoding.log_variance.astype(np.float64)
    kl = 0.5 * (np.square(mean) + np.exp(log_variance) - log_variance - 1)
    return Pool(images, keys, encoding.mean, kl.mean(axis=0), target, known_by)


def choose_rows(
    count: int, labelled: NDArray[np.int64], wanted: list[int], seed: int
) -> NDArray[np.int64]:
    """Return which of `count` images to look at, sorted: at most `MAX_POOL` and those `wanted`.

    Labelled ones take up to half of the places, the rest is drawn by `seed`.
    """
    rng = np.random.default_rng(seed)
    half = MAX_POOL // 2
    some = labelled if len(labelled) <= half else rng.choice(labelled, half, replace=False)
    others = np.setdiff1d(np.arange(count), some)
    rest = rng.choice(others, min(len(others), MAX_POOL - len(some)), replace=False)
    return np.union1d(np.concatenate([some, rest]), np.array(wanted, np.int64))
