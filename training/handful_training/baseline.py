"""The control that a learnt encoder must beat: PCA of the pixels, logistic regression on top.

It sees exactly what the encoder sees: the unlabelled pool, and the same few labels. Its memory
does not grow with the pool.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.decomposition import PCA

from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_training.head.logistic import fit, logistic, logits, per_class, stratified_folds

COMPONENTS = 50
C = 1.0
REPEATS = 5  # of cross-validation, as the head has by default
MAX_SIDE = 32  # larger images are averaged down: PCA of more pixels costs time and gains nothing
MAX_POOL = 20_000  # images that PCA is fitted on; with 60,000 the accuracy is the same
MAX_POOL_BYTES = 64 * 2**20  # of their float32 pixels: 5,461 images of 32 x 32 in colour
CHUNK_BYTES = 8 * 2**20  # of full-size uint8 pixels at a time


@dataclass(frozen=True, eq=False)
class PixelBaseline:
    """PCA(50) of pixels / 255 fitted on the pool, logistic regression (C = 1) on the labels.

    Nothing is standardised, because that makes it worse: on Fashion-MNIST with 100 labels by 7
    points. So the control is as strong as its kind gets.
    """

    mean: NDArray[np.float32]  # of the pixels, [d]
    components: NDArray[np.float32]  # [p, d]
    coefficients: NDArray[np.float64]  # of the components, [K, p]
    intercept: NDArray[np.float64]  # [K]
    labels: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        pool: NDArray[np.uint8],
        index: NDArray[np.integer],
        target: NDArray[np.integer],
        labels: tuple[str, ...],
        *,
        seed: int = 0,
    ) -> Self:
        """Fit on the pool and the labelled rows of it. The same arguments give the same baseline.

        Args:
            pool: all unlabelled images, [N, H, W, C]; a memory map will do.
            index: rows of the pool that are labelled, [n].
            target: index of their labels, [n]; each of 0 ... K-1 occurs.
            labels: names of the K classes.
            seed: draws the images that PCA sees, when the pool has more than 20,000 or 64 MiB.
        """
        mean, components = pixel_components(pool, seed)
        features = project_pixels(pool, index, mean, components)
        classifier = logistic(tol=1e-4)
        fit(classifier, C, features, target.astype(np.int64))
        return cls(
            mean,
            components,
            per_class(classifier.coef_),
            per_class(classifier.intercept_),
            labels,
        )

    def probabilities(
        self, images: NDArray[np.uint8], index: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Return p(class) of `images` [N, H, W, C], or of those at `index`: [n, K]."""
        rows = np.arange(len(images)) if index is None else index
        features = project_pixels(images, rows, self.mean, self.components)
        return _softmax(features @ self.coefficients.T + self.intercept).astype(np.float32)

    def out_of_fold(
        self,
        pool: NDArray[np.uint8],
        index: NDArray[np.integer],
        target: NDArray[np.integer],
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Return p(class) [n, K] of the labelled rows by classifiers that did not see the row.

        PCA saw them without their labels, as the encoder did. At most as many folds as the
        smallest class has rows, averaged over 5 repeats.

        Raises:
            ValueError: a class has a single row, which cannot be held out.
        """
        classes = target.astype(np.int64)
        smallest = int(np.bincount(classes, minlength=len(self.labels)).min())
        if smallest < 2:
            raise ValueError(f"a class has {smallest} labels; two are needed to hold one out")
        features = project_pixels(pool, index, self.mean, self.components)
        rng = np.random.default_rng(seed)
        total = np.zeros((len(index), len(self.labels)))
        for _ in range(REPEATS):
            count = min(folds, smallest)
            fold = stratified_folds(classes, count, rng)
            for held_out in (fold == f for f in range(count)):
                classifier = logistic(tol=1e-4)
                fit(classifier, C, features[~held_out], classes[~held_out])
                total[held_out] += _softmax(logits(classifier, features[held_out]))
        return (total / REPEATS).astype(np.float32)

    def pack(self) -> bytes:
        """Return the baseline as a plain .npz."""
        names = np.frombuffer(json.dumps(self.labels).encode(), np.uint8)
        return pack_arrays({**vars(self), "labels": names})

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read what `pack` wrote.

        Raises:
            BundleCorrupt: it is no plain .npz.
        """
        arrays = unpack_arrays(data, "baseline.npz")
        labels = tuple(json.loads(arrays.pop("labels").tobytes()))
        return cls(**arrays, labels=labels)


def pixel_components(
    pool: NDArray[np.uint8], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean [d] and up to 50 principal components [p, d] of the pool's pixels.

    Args:
        pool: all unlabelled images, [N, H, W, C]; a memory map will do.
        seed: draws the images that PCA sees, when the pool has more than 20,000 or 64 MiB.
    """
    sample = _sample(pool, np.random.default_rng(seed))
    pca = PCA(
        min(COMPONENTS, *sample.shape), svd_solver="randomized", copy=False, random_state=seed
    ).fit(sample)
    return pca.mean_, pca.components_


def _sample(pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the pixels of as many images as PCA may see, [m, d]."""
    width = shrink(pool[:1]).size
    m = min(len(pool), MAX_POOL, max(1, MAX_POOL_BYTES // (4 * width)))
    rows = np.arange(len(pool))
    if m < len(pool):  # in ascending order, as a memory map is read fastest
        rows = np.sort(rng.choice(len(pool), m, replace=False))
    sample = np.empty((m, width), np.float32)
    start = 0
    for part in _pixels(pool, rows):
        sample[start : start + len(part)] = part
        start += len(part)
    return sample


def project_pixels(
    images: NDArray[np.uint8],
    rows: NDArray[np.integer],
    mean: NDArray[np.float32],
    components: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the principal components of the images at `rows`, [n, p]."""
    parts = [(pixels - mean) @ components.T for pixels in _pixels(images, rows)]
    return np.concatenate([np.zeros((0, len(components))), *parts], dtype=np.float64)


def _pixels(images: NDArray[np.uint8], rows: NDArray[np.integer]) -> Iterator[NDArray[np.float32]]:
    """Yield the images at `rows` in order as float32 [m, d] in [0, 1], a bounded chunk each."""
    size = max(1, CHUNK_BYTES // math.prod(images.shape[1:]))
    for start in range(0, len(rows), size):
        chunk = shrink(images[rows[start : start + size]])
        yield chunk.reshape(len(chunk), -1)


def shrink(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average blocks of pixels so that no side exceeds 32: float32 [n, h, w, C] in [0, 1].

    Blocks are of equal size; rows and columns left over at the far edges are dropped.
    """
    n, height, width, channels = images.shape
    factor = -(-max(height, width) // MAX_SIDE)
    down, across = min(factor, height), min(factor, width)
    h, w = height // down, width // across
    blocks = images[:, : h * down, : w * across].reshape(n, h, down, w, across, channels)
    averaged: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return averaged / np.float32(255)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = softmax(values, axis=1)
    return probabilities
