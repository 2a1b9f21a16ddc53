"""What images are compared by when they are grouped: embeddings, half whitened.

    W: L2-normalise, centre, project on the first 64 principal components, divide each by the
       square root of its standard deviation, L2-normalise again

Half whitening keeps a few strong directions, such as brightness, from deciding everything, and
weak ones, which are mostly noise, from deciding as much; the last step makes Euclidean distance
one of angles, which k-means can then work with.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from handful_bundle.encoder import Encoder
from handful_training.baseline import pixel_components, project_pixels
from handful_training.embedding import embed_parts

COMPONENTS = 64
MAX_FIT = 20_000  # rows that W is fitted on
NEGLIGIBLE = 1e-5  # a standard deviation below this share of the largest is rounding


@dataclass(frozen=True, eq=False)
class Whitening:
    """W, fitted on a sample."""

    mean: NDArray[np.float32]  # of the normalised rows, [E]
    axes: NDArray[np.float32]  # scaled principal axes, [E, p]

    @classmethod
    def fit(cls, rows: NDArray[np.float32]) -> Self:
        """Fit W on rows [m, E]; rows that are all alike give no axes, p = 0."""
        unit = _normalise(rows).astype(np.float64)
        mean = unit.mean(axis=0)
        centred = unit - mean
        variance, axes = np.linalg.eigh(centred.T @ centred / max(1, len(rows) - 1))
        deviation = np.sqrt(np.maximum(variance[::-1], 0))[:COMPONENTS]
        kept = deviation > max(NEGLIGIBLE * deviation[0], 1e-7)
        scaled = axes[:, ::-1][:, :COMPONENTS][:, kept] / np.sqrt(deviation[kept])
        return cls(mean.astype(np.float32), scaled.astype(np.float32))

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return W of rows [n, E]: float32 [n, p], each of norm 1."""
        return _normalise((_normalise(rows) - self.mean) @ self.axes)


def embedding_features(
    encoder: Encoder, images: NDArray[np.uint8], *, seed: int
) -> NDArray[np.float32]:
    """Return W of all images' embeddings, float32 [N, p <= 64].

    Memory is bounded but for the result, 256 bytes an image; embeddings are kept of 20,000 only.

    Args:
        encoder: the exported one.
        images: [N, H, W, C], N >= 1; a memory map will do.
        seed: draws the images that W is fitted on, where there are more than 20,000.
    """
    sampled = np.arange(len(images))
    if len(images) > MAX_FIT:
        sampled = np.sort(np.random.default_rng(seed).choice(sampled, MAX_FIT, replace=False))
    rows = np.concatenate([part.embedding for part in embed_parts(encoder, images, sampled)])
    whiten = Whitening.fit(rows)
    features = np.empty((len(images), whiten.axes.shape[1]), np.float32)
    features[sampled] = whiten(rows)
    others = np.setdiff1d(np.arange(len(images)), sampled)
    start = 0
    for part in embed_parts(encoder, images, others):
        features[others[start : start + len(part.embedding)]] = whiten(part.embedding)
        start += len(part.embedding)
    return features


def pixel_features(
    images: NDArray[np.uint8], *, seed: int, whitened: bool = False
) -> NDArray[np.float32]:
    """Return the control's features: PCA(50) of the pixels, float32 [N, <= 50].

    Args:
        images: [N, H, W, C], N >= 1.
        seed: draws the images that PCA is fitted on, where there are many.
        whitened: put them through W as well, so that the encoder alone makes the difference.
    """
    mean, components = pixel_components(images, seed)
    features = project_pixels(images, np.arange(len(images)), mean, components)
    found = features.astype(np.float32)
    return Whitening.fit(found[:: 1 + len(found) // MAX_FIT])(found) if whitened else found


def _normalise(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(norm, 1e-12)).astype(np.float32)
    return scaled
