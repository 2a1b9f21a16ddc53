"""Novelty of an embedding: how far out it lies in any of three ways, as a share of the pool.

1. D of the L2-normalised embedding: an unusual mixture of features.
2. D of the embedding itself: features unusually strong or weak. Noise differs from the pool by
   its strength alone, clothes of another kind by their mixture.
3. The distortion, -log p(x|z), that the decoder would leave, either way: flat images are rebuilt
   too well, busy ones too badly (Serrà et al. 2020, arXiv:1909.11480, on how likelihood follows
   complexity). It is read off the embedding by a linear fit, so no decoder runs to answer.

D is the shrunk Mahalanobis distance of `gaussian`. Each becomes a surprise in nats, -log(share of
the pool that lies farther out); the largest counts, and its place among the pool's own is the
novelty, 0 ... 1. Knows no threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.linalg import norm
from numpy.typing import NDArray
from scipy.linalg import solve

from handful_training.novelty.curve import Curve, surprise
from handful_training.novelty.gaussian import ShrunkGaussian

TINY = 1e-12  # the least norm that is divided by

# Distortion is the weaker witness, and each further way to be unusual hides the others a little:
# to count, it must be twice as unusual as a distance.
DISTORTION_WEIGHT = 0.5


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear fit of the log distortion, standardised over the pool."""

    weight: NDArray[np.float64]  # of both views' coordinates, [2E]
    bias: float


@dataclass(frozen=True, eq=False)
class Witnesses:
    """What looks at an embedding: both distances, and where it was fitted the distortion."""

    unit: ShrunkGaussian  # of the L2-normalised embedding
    plain: ShrunkGaussian  # of the embedding
    distortion: Linear | None

    def __call__(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return what they say of embeddings [n, E]: [n, 2], or [n, 4] with +- distortion."""
        unit, plain = self._views(embedding)
        said = [norm(unit, axis=1), norm(plain, axis=1)]
        if self.distortion is not None:
            both = np.concatenate([unit, plain], axis=1)
            predicted = both @ self.distortion.weight + self.distortion.bias
            said += [predicted, -predicted]
        return np.stack(said, axis=1)

    def coordinates(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return embeddings [n, E] in units of the pool's spread, both views: [n, 2E]."""
        return np.concatenate(self._views(embedding), axis=1)

    def _views(
        self, embedding: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows = embedding.astype(np.float64)
        return self.unit.coordinates(normalised(rows)), self.plain.coordinates(rows)

    def with_distortion(
        self, embedding: NDArray[np.floating], log_distortion: NDArray[np.float64], ridge: float
    ) -> "Witnesses":
        """Return the same with a ridge regression of the log distortion [n] on coordinates."""
        features = self.coordinates(embedding)
        centre, scale = log_distortion.mean(), log_distortion.std()
        target = (log_distortion - centre) / (scale or 1.0)
        middle = features.mean(axis=0)
        centred = features - middle
        gram = centred.T @ centred + ridge * len(features) * np.eye(features.shape[1])
        weight = solve(gram, centred.T @ target, assume_a="pos")
        return Witnesses(self.unit, self.plain, Linear(weight, -float(middle @ weight)))


def witnesses(embedding: NDArray[np.floating]) -> Witnesses:
    """Fit both distances on the pool's embeddings [n, E]."""
    rows = embedding.astype(np.float64)
    return Witnesses(ShrunkGaussian.fit(normalised(rows)), ShrunkGaussian.fit(rows), None)


@dataclass(frozen=True, eq=False)
class Surprises:
    """One curve per witness, from what it says to nats; the largest counts."""

    curves: tuple[Curve, ...]

    @classmethod
    def fit(cls, said: NDArray[np.float64]) -> "Surprises":
        """Fit the curves on what the witnesses say of the pool, [n, 2 or 4]."""
        curves = []
        for way, values in enumerate(said.T):
            curve = surprise(values)
            discount = np.log(DISTORTION_WEIGHT) if way >= 2 else 0.0  # after the two distances
            curves.append(Curve(curve.start + discount, curve.knots, curve.widths, curve.slopes))
        return cls(tuple(curves))

    def __call__(self, said: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the surprise of each row, in nats, [n]."""
        each = [curve(values) for curve, values in zip(self.curves, said.T, strict=True)]
        largest: NDArray[np.float64] = np.max(each, axis=0)
        return largest


@dataclass(frozen=True, eq=False)
class Detector:
    """Embedding → novelty."""

    witnesses: Witnesses
    surprises: Surprises
    share: Curve  # nats → novelty

    def surprise(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how unusual embeddings [n, E] are, in nats, [n]."""
        return self.surprises(self.witnesses(embedding))

    def __call__(self, embedding: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the novelty of embeddings [n, E]: [n], 0 ... 1."""
        return self.share(self.surprise(embedding))


def normalised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows [n, E] of norm 1; a row of zeros stays one."""
    scaled: NDArray[np.float64] = rows / np.maximum(norm(rows, axis=1, keepdims=True), TINY)
    return scaled
