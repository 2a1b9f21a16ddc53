"""What the graph over the pool says of every image, by the features that there are now."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handful_training.adapt.pseudo_labels import PseudoLabels, pseudo_labels
from handful_training.baseline import pixel_components, project_pixels
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import spread, spread_out_of_fold
from handful_training.head.logistic import stratified_folds
from handful_training.whitening import MAX_FIT, Whitening

FOLDS, REPEATS = 5, 3
CHUNK_BYTES = 32 * 2**20  # of uint8 pixels read at once

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Teaching:
    """Some images of an array, and what is known of them.

    Attributes:
        images: uint8 [N, H, W, C]; may be a memory map.
        pool: rows of `images` that take part, ascending, [M].
        labelled: places in `pool` of the labelled images, [n].
        target: their classes, [n]; each of 0 ... K-1 occurs.
        classes: K.
    """

    images: NDArray[np.uint8]
    pool: NDArray[np.int64]
    labelled: NDArray[np.int64]
    target: NDArray[np.int64]
    classes: int


def graph_labels(teaching: Teaching, features: NDArray[np.float32], *, seed: int) -> PseudoLabels:
    """Build the graph of `features` [M, p], spread the labels, and return calibrated targets."""
    graph = PoolGraph.build(features, seed=seed)
    found = spread(graph, teaching.labelled, teaching.target, teaching.classes)
    held_out = None
    smallest = int(np.bincount(teaching.target, minlength=teaching.classes).min())
    if smallest > 1:
        rng = np.random.default_rng(seed)
        fold = np.stack(
            [stratified_folds(teaching.target, min(FOLDS, smallest), rng) for _ in range(REPEATS)]
        )
        held_out = spread_out_of_fold(
            graph, teaching.labelled, teaching.target, teaching.classes, fold
        )
    return pseudo_labels(found, held_out, teaching.target)


def learnt_features(teaching: Teaching, embed: Embed, *, seed: int) -> NDArray[np.float32]:
    """Return W of the pool's embeddings, [M, p]; embeddings are kept of 20,000 images only."""
    count = len(teaching.pool)
    fitted = np.arange(count)
    if count > MAX_FIT:
        fitted = np.sort(np.random.default_rng(seed).choice(fitted, MAX_FIT, replace=False))
    rows = np.concatenate([embed(part) for part in _parts(teaching, fitted)])
    whiten = Whitening.fit(rows)
    features = np.empty((count, whiten.axes.shape[1]), np.float32)
    features[fitted] = whiten(rows)
    others = np.setdiff1d(np.arange(count), fitted)
    start = 0
    for part in _parts(teaching, others):
        features[others[start : start + len(part)]] = whiten(embed(part))
        start += len(part)
    return features


def pixel_features(teaching: Teaching, *, seed: int) -> NDArray[np.float32]:
    """Return W of PCA(50) of the pool's pixels: what there is before anything is learnt."""
    mean, components = pixel_components(teaching.images, seed)
    found = project_pixels(teaching.images, teaching.pool, mean, components).astype(np.float32)
    return Whitening.fit(found[:: 1 + len(found) // MAX_FIT])(found)


def _parts(teaching: Teaching, places: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pixels of the pool's images at `places`, a bounded part at a time."""
    size = max(1, CHUNK_BYTES // int(np.prod(teaching.images.shape[1:])))
    for start in range(0, len(places), size):
        yield teaching.images[teaching.pool[places[start : start + size]]]
