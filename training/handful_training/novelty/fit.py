"""Fit novelty on the pool, and set the threshold by a stated rate of false alarms.

What the pool's own images score must be what they would score if they were new, or their false
alarms would be counted too low. So each is scored by a detector that did not see it (five folds),
and the one that is served is fitted on all. The threshold follows split conformal prediction (Vovk
et al. 2005): with the ceil((1 - rate)(n + 1))-th smallest of n scores, an image exchangeable with
the pool is above it with probability at most `rate`, whatever the distribution.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from handful_bundle.manifest import NoveltyInfo
from handful_training.novelty.curve import CLOSEST, distribution
from handful_training.novelty.detector import (
    Detector,
    Surprises,
    Witnesses,
    witnesses,
)

FALSE_ALARM_RATE = 0.01
MIN_POOL = 100  # images; fewer say too little about what is usual
MAX_POOL = 20_000  # images; more change nothing that can be measured
MAX_NUMBERS = 10_000_000  # of their embeddings: several copies are held, 80 MB each
FOLDS = 5
LEAST_EXPLAINED = 0.5  # share of distortion's variance; a worse fit is one more source of noise
RIDGES = 10.0 ** np.arange(-5, 2)  # per row; coordinates and target have unit variance


class Distortions(NamedTuple):
    """-log p(x|z) of some rows of the pool, at the mean of q(z|x)."""

    rows: NDArray[np.int64]  # [m], which rows of the embeddings
    nats: NDArray[np.float64]  # [m]


class Novelty(NamedTuple):
    """What was fitted, and the manifest's block about it."""

    detector: Detector | None  # None: too few images
    info: NoveltyInfo


def fit_novelty(
    embeddings: NDArray[np.float32],
    distortions: Distortions | None = None,
    *,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    seed: int = 0,
) -> Novelty:
    """Fit novelty on the pool. The same arguments give the same detector.

    Args:
        embeddings: of unlabelled images, [M, E]; of many, `spread_rows` are looked at.
        distortions: how well some of them are rebuilt; None: there is no decoder.
        false_alarm_rate: share of images like the pool's that may be called novel.
        seed: decides the folds.
    """
    rows = spread_rows(*embeddings.shape)
    pool = np.array(embeddings[rows])
    count = len(pool)
    if count < MIN_POOL:
        info = NoveltyInfo(
            method=None, threshold=None, false_alarm_rate=false_alarm_rate, count=count,
            needed=MIN_POOL,
        )  # fmt: skip
        return Novelty(None, info)
    known = _among(rows, distortions)
    whole = witnesses(pool)
    ridge = _ridge(whole, pool, known)
    fold = np.random.default_rng(seed).permutation(count) % FOLDS
    said = np.empty((count, 2 if known is None else 4))
    for held_out in range(FOLDS):
        seen, unseen = fold != held_out, fold == held_out
        said[unseen] = _fitted(pool, known, ridge, seen)(pool[unseen])
    if known is not None and _explained(said[known.rows, 2], known) < LEAST_EXPLAINED:
        known, said = None, said[:, :2]
    surprises = Surprises.fit(said)
    scores = surprises(said)
    share = distribution(scores)
    detector = Detector(_fitted(pool, known, ridge, np.ones(count, bool)), surprises, share)
    # The rate as it was written: 0.01 in binary is a little more than a hundredth.
    place = math.ceil((1 - Fraction(str(false_alarm_rate))) * (count + 1))
    threshold = None
    if place <= count:
        # A hair above, so that rounding does not make many equal images novel.
        threshold = float(np.float32(share(np.sort(scores)[place - 1] + CLOSEST)))
    info = NoveltyInfo(
        method="mahalanobis" if known is None else "mahalanobis+distortion",
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        count=count,
        needed=max(MIN_POOL, math.ceil(1 / Fraction(str(false_alarm_rate))) - 1),
    )
    return Novelty(detector, info)


def spread_rows(count: int, width: int) -> NDArray[np.int64]:
    """Return which of `count` embeddings of `width` numbers are looked at, evenly spread."""
    most = min(count, MAX_POOL, max(MIN_POOL, MAX_NUMBERS // width))
    return np.linspace(0, count - 1, most).astype(np.int64)


def _among(rows: NDArray[np.int64], distortions: Distortions | None) -> Distortions | None:
    """Return the distortions of those `rows` that have one, by their place among `rows`."""
    if distortions is None:
        return None
    place = np.searchsorted(rows, distortions.rows).clip(max=len(rows) - 1)
    there = (rows[place] == distortions.rows) & np.isfinite(distortions.nats)
    nats = np.maximum(distortions.nats[there], 1e-6)  # its log is taken; rounding may give 0
    # Folds must have enough of them left to fit a line through.
    return Distortions(place[there], nats) if there.sum() >= MIN_POOL else None


def _explained(predicted: NDArray[np.float64], known: Distortions) -> float:
    """Return the share of the log distortion's variance that held-out predictions explain."""
    logs = np.log(known.nats)
    if not (logs.std() > 0 and predicted.std() > 0):  # nothing to explain, or nothing said
        return 0.0
    return float(np.corrcoef(predicted, logs)[0, 1] ** 2)


def _ridge(whole: Witnesses, pool: NDArray[np.float32], known: Distortions | None) -> float:
    """Return the ridge per row that predicts distortion best, leaving out one row at a time."""
    if known is None:
        return 0.0
    features = whole.coordinates(pool[known.rows])
    logs = np.log(known.nats)
    target = (logs - logs.mean()) / (logs.std() or 1.0)
    return float(RidgeCV(RIDGES * len(target)).fit(features, target).alpha_) / len(target)


def _fitted(
    pool: NDArray[np.float32],
    known: Distortions | None,
    ridge: float,
    seen: NDArray[np.bool_],
) -> Witnesses:
    """Return the witnesses fitted on the rows that are `seen`, [n]."""
    fitted = witnesses(pool[seen])
    if known is None:
        return fitted
    use = seen[known.rows]
    return fitted.with_distortion(pool[known.rows[use]], np.log(known.nats[use]), ridge)
