"""Groups of rows around centres, and how many of them there are. Knows no images and no labels."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score

from handful_training.errors import InputError

MAX_FIT = 50_000  # rows that centres are fitted on; all others go to the nearest
STARTS = 10  # k-means keeps the best of so many
CANDIDATES = (*range(2, 16), 17, 20, 24, 30)  # numbers of clusters that are tried
MAX_TRIED = 5_000  # rows that they are tried on
TRIED_STARTS = 3
MAX_SILHOUETTE = 2_000  # rows that the silhouette is computed on: it compares all pairs
DECIMALS = 4  # to which rows that are one and the same agree
_ROWS = 8_192  # assigned at once


@dataclass(frozen=True, eq=False)
class Clustering:
    """Every row's cluster. Clusters are numbered by size, the largest is 0; none is empty.

    Attributes:
        cluster: of each row, int64 [N].
        distance: of each row from its cluster's centre, float32 [N].
        silhouette: how much nearer rows are to their own cluster than to the next, mean over a
            sample; at most 1, near 0 where clusters touch.
    """

    cluster: NDArray[np.int64]
    distance: NDArray[np.float32]
    silhouette: float

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows in each cluster, [k], descending."""
        return np.bincount(self.cluster)


def find_clusters(features: NDArray[np.float32], k: int, *, seed: int) -> Clustering:
    """Group rows into `k` clusters by k-means, the best of 10 starts (k-means++).

    The same arguments give the same clusters.

    Args:
        features: [N, p].
        k: 2 or more.
        seed: of the starts, and of the rows to fit on where there are more than 50,000.

    Raises:
        InputError: there are not `k` different rows.
    """
    rng = np.random.default_rng(seed)
    sample = _sample(features, MAX_FIT, rng)
    found = _distinct(sample)
    if k > len(features) or k > found:
        what = f"{len(features):,} images" + (
            f", {found:,} of them different to this model" if found < len(sample) else ""
        )
        raise InputError(f"{k} clusters of {what}: choose a smaller k")
    model = _fit(sample, k, STARTS, seed)
    if model is None:
        raise InputError(
            f"the images are too much alike to make {k} different clusters; choose a smaller k"
        )
    cluster, distance = _assign(features, model.cluster_centers_)
    sizes = np.bincount(cluster, minlength=k)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(k, np.int64)
    rank[order] = np.arange(k)
    cluster = rank[cluster]
    return Clustering(cluster, distance, _silhouette(features, cluster, rng))


def choose_k(
    features: NDArray[np.float32], *, seed: int, advance: Callable[[], None] = lambda: None
) -> tuple[int, dict[int, float]]:
    """Return the number of clusters with the largest silhouette, and the silhouette of each tried.

    Rousseeuw 1987, "Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis". Each candidate (2 to 30) is fitted on at most 5,000 rows, its silhouette computed
    on 2,000 of them.

    Args:
        features: [N, p].
        seed: of rows and starts.
        advance: called after each candidate.

    Raises:
        InputError: fewer than 3 different rows.
    """
    sample = _sample(features, MAX_TRIED, np.random.default_rng(seed))
    found = _distinct(sample)
    if found < 3:
        raise InputError(
            f"{len(features):,} images, {found} different to this model: too few to group"
        )
    scores: dict[int, float] = {}
    for k in CANDIDATES:
        model = _fit(sample, k, TRIED_STARTS, seed) if k < found else None
        if model is not None:
            rng = np.random.default_rng(seed)  # all candidates on the same rows
            scores[k] = _silhouette(sample, model.labels_, rng)
        advance()
    if not scores:
        raise InputError("the images are too much alike to group")
    return max(scores, key=scores.__getitem__), scores


def _fit(rows: NDArray[np.float32], k: int, starts: int, seed: int) -> KMeans | None:
    """Return k-means fitted on rows, None where it found fewer clusters than `k`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return KMeans(k, n_init=starts, random_state=seed).fit(rows)
        except ConvergenceWarning:
            return None


def _assign(
    features: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    cluster = np.empty(len(features), np.int64)
    distance = np.empty(len(features), np.float32)
    half = 0.5 * np.square(centres).sum(axis=1)
    for start in range(0, len(features), _ROWS):
        part = features[start : start + _ROWS]
        # argmin |a - b|^2 = argmax a.b - |b|^2 / 2
        nearest = (part @ centres.T - half).argmax(axis=1)
        cluster[start : start + _ROWS] = nearest
        distance[start : start + _ROWS] = np.linalg.norm(part - centres[nearest], axis=1)
    return cluster, distance


def _silhouette(
    features: NDArray[np.float32], cluster: NDArray[np.integer], rng: np.random.Generator
) -> float:
    rows = np.arange(len(features))
    if len(rows) > MAX_SILHOUETTE:
        rows = rng.choice(rows, MAX_SILHOUETTE, replace=False)
    if not 2 <= len(np.unique(cluster[rows])) < len(rows):
        return 0.0  # each row by itself, or all in one: by Rousseeuw's definition
    return float(silhouette_score(features[rows], cluster[rows]))


def _sample(
    features: NDArray[np.float32], limit: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    if len(features) <= limit:
        return features
    return features[np.sort(rng.choice(len(features), limit, replace=False))]


def _distinct(rows: NDArray[np.float32]) -> int:
    if not rows.shape[1]:
        return 1
    return len(np.unique(rows.round(DECIMALS), axis=0))
