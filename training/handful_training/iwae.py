"""log p(x) of images, bounded ever more tightly from below, from the exported graphs alone.

For z_1 … z_k drawn independently from q(z|x),

    L_k = E[log (1/k) (w_1 + … + w_k)],    w_i = p(x|z_i) p(z_i) / q(z_i|x)

(Burda et al. 2016, "Importance Weighted Autoencoders", arXiv:1509.00519, eq. 8). L_1 is the ELBO,
L_k <= L_k+1 <= log p(x), and L_k meets log p(x) as k grows (theorem 1 there). How fast depends on
how far q(z|x) is from the true posterior, so say k with every figure.

It knows no torch and no training: whoever has a bundle can compute it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from handful_bundle.decoder import Decoder, distortion
from handful_bundle.encoder import Encoder

_IMAGES = 256  # encoded at once; their log weights are kept: 256 x 500 float64 are 1 MB
_VALUES = 2**20  # parameters of p(x|z) decoded at once: some float64 copies of 8 MB each


class Estimate(NamedTuple):
    """A mean over images."""

    mean: float
    standard_error: float  # over images; nan for a single one

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Return the mean of `values`, [N], N >= 1, and its standard error."""
        spread = values.std(ddof=1) if len(values) > 1 else math.nan
        return cls(float(values.mean()), float(spread / math.sqrt(len(values))))


def iwae_bounds(
    images: NDArray[np.uint8],
    encoder: Encoder,
    decoder: Decoder,
    samples: Sequence[int] = (1, 5, 50, 500),
    *,
    seed: int = 0,
) -> dict[int, NDArray[np.float64]]:
    """Estimate L_k of each image, for several k from one set of latents.

    max(samples) latents are drawn per image. For a smaller k they are cut into groups of k, whose
    estimates are averaged: less noise, no bias. Where each k divides the next, L_k therefore rises
    with k for every image, whatever the draw.

    A bound on the log probability of discrete images where the likelihood is the discretised
    logistic, or the images are binary (see `handful_training.binarise`). On grey images the
    Bernoulli likelihood is no probability, and L_k no likelihood of anything.

    Args:
        images: uint8 [N, H, W, C], N >= 1.
        encoder: exported.
        decoder: exported with it.
        samples: values of k, each >= 1.
        seed: of the latents.

    Returns:
        By k, in the order of `samples`: L_k in nats, [N].
    """
    rng = np.random.default_rng(seed)
    most = max(samples)
    parts: list[list[NDArray[np.float64]]] = []
    for start in range(0, len(images), _IMAGES):
        batch = np.asarray(images[start : start + _IMAGES])
        log_weights = _log_weights(batch, encoder, decoder, most, rng)
        parts.append([_bound(log_weights, k) for k in samples])
    columns = zip(*parts, strict=True)
    return {k: np.concatenate(column) for k, column in zip(samples, columns, strict=True)}


def bits_per_dimension(nats: float, shape: tuple[int, ...]) -> float:
    """Return nats per image of `shape` as bits per value: nats / (ln 2 x values)."""
    return nats / (math.log(2) * math.prod(shape))


def log_mean_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log of the mean of exp(values) over the last axis, without overflow."""
    total: NDArray[np.float64] = np.logaddexp.reduce(values, axis=-1)
    return total - math.log(values.shape[-1])


def _bound(log_weights: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the mean of L_k over groups of k, [N], from log weights [N, K], K >= k."""
    count, most = log_weights.shape
    groups = most // k
    bounds: NDArray[np.float64] = log_mean_exp(
        log_weights[:, : groups * k].reshape(count, groups, k)
    ).mean(axis=1)
    return bounds


def _log_weights(
    images: NDArray[np.uint8],
    encoder: Encoder,
    decoder: Decoder,
    samples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return log w of `samples` latents per image, [N, samples], in bounded memory.

    The draw is a stream over images and then samples, so it does not depend on the block's size.
    """
    _, mean, log_variance = encoder(images)
    deviation = np.exp(0.5 * log_variance)
    height, width, channels = images.shape[1:]
    step = max(1, _VALUES // (height * width * channels * 2))
    log_weights = np.empty(len(images) * samples)
    for start in range(0, len(log_weights), step):
        row = np.arange(start, min(start + step, len(log_weights))) // samples
        noise = rng.standard_normal((len(row), mean.shape[1]), np.float32)
        latent = mean[row] + deviation[row] * noise
        log_likelihood = -distortion(images[row], decoder(latent).likelihood, decoder.likelihood)
        # log p(z) - log q(z|x): the factors of 2 pi cancel.
        log_prior_ratio = 0.5 * (
            np.square(noise, dtype=np.float64)
            + log_variance[row].astype(np.float64)
            - np.square(latent, dtype=np.float64)
        ).sum(axis=1)
        log_weights[start : start + len(row)] = log_likelihood + log_prior_ratio
    return log_weights.reshape(len(images), samples)
