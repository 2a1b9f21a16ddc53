"""What images are compared by to be grouped: embeddings, half whitened, and the controls."""

import numpy as np
from numpy.typing import NDArray

from handful_bundle.encoder import Encoder
from handful_training.baseline import pixel_components, project_pixels
from handful_training.embedding import embed_parts
from handful_training.whitening import MAX_FIT, Whitening


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
