"""Linear classifiers on few rows behind one protocol.

Each is fitted on rows of any scale and gives logits that are affine in a row. Rows are standardised
inside: centred, and divided by one scale for all features, their RMS deviation. A scale per
feature gives a nearly dead feature as much say as any other, which few labels cannot take back: on
Fashion-MNIST it costs 1.7 points with one label per class, 1.6 with two, 0.2 with ten and 0.4 with
a hundred; on the latents, where most dimensions are inactive, 5. With one scale the moments of the
labelled rows do as well as those of the whole pool.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from handful_training.head.lda import lda
from handful_training.head.logistic import fit, logistic, per_class
from handful_training.head.nearest_mean import nearest_mean
from handful_training.head.onnx_graph import Layer

Prior = Literal["estimated", "uniform"]


class Linear(NamedTuple):
    """A fitted linear classifier: `rows @ coefficients.T + intercept` are its logits."""

    coefficients: NDArray[np.float64]  # [K, d]
    intercept: NDArray[np.float64]  # [K]

    def logits(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return one logit per class, [n, K]."""
        found: NDArray[np.float64] = rows @ self.coefficients.T + self.intercept
        return found

    def layer(self) -> Layer:
        """Return it as a layer of head.onnx."""
        return Layer(self.coefficients.T, self.intercept)


class Family(Protocol):
    """A way to fit a linear classifier."""

    @property
    def name(self) -> str:
        """As in `head.family` and in the manifest's `head.kind`."""

    def __call__(
        self, rows: NDArray[np.float64], target: NDArray[np.int64], classes: int, prior: Prior
    ) -> Linear:
        """Fit on standardised rows [n, d] of classes 0 ... K - 1, each with at least one row."""


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression with inverse regularisation strength C, as in sklearn."""

    C: float
    tol: float = 1e-8
    name: str = "logistic"

    def __call__(
        self, rows: NDArray[np.float64], target: NDArray[np.int64], classes: int, prior: Prior
    ) -> Linear:
        """Fit."""
        model = logistic(tol=self.tol)
        fit(model, self.C, rows, target)
        found = Linear(per_class(model.coef_), per_class(model.intercept_))
        counts = np.bincount(target, minlength=classes)
        # The intercepts of a logistic regression carry the labels' own frequencies.
        return _shift(found, -np.log(counts)) if prior == "uniform" else found


@dataclass(frozen=True)
class Lda:
    """Linear discriminant analysis with a shrunken covariance."""

    name: str = "lda"

    def __call__(
        self, rows: NDArray[np.float64], target: NDArray[np.int64], classes: int, prior: Prior
    ) -> Linear:
        """Fit."""
        return _shift(Linear(*lda(rows, target, classes)), _log_prior(target, classes, prior))


@dataclass(frozen=True)
class NearestMean:
    """The class whose mean is nearest."""

    name: str = "nearest_mean"

    def __call__(
        self, rows: NDArray[np.float64], target: NDArray[np.int64], classes: int, prior: Prior
    ) -> Linear:
        """Fit."""
        found = Linear(*nearest_mean(rows, target, classes))
        return _shift(found, _log_prior(target, classes, prior))


@dataclass(frozen=True, eq=False)
class Standardised:
    """Rows that were centred and scaled, in coordinates that span them."""

    rows: NDArray[np.float64]  # [n, r], r <= min(n, d)
    mean: NDArray[np.float64]  # [d]
    basis: NDArray[np.float64]  # rows @ basis are the standardised ones, [r, d]
    scale: float

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Self:
        """Standardise rows [n, d].

        Classifiers that only know rows by their scalar products, as all here do, lie in the span
        of the rows, so that fitting there gives the same ones; with 20 rows of 256 numbers it is
        many times faster.
        """
        wide = rows.astype(np.float64)
        mean = wide.mean(axis=0)
        scale = float(np.sqrt(wide.var(axis=0).mean())) or 1.0  # all equal: nothing to scale
        wide = (wide - mean) / scale
        n, width = wide.shape
        if n >= width:
            return cls(wide, mean, np.eye(width), scale)
        basis = np.linalg.svd(wide, full_matrices=False).Vh
        return cls(wide @ basis.T, mean, basis, scale)

    def unfold(self, fitted: Linear) -> Linear:
        """Turn a classifier of the standardised rows into one of the rows as they came."""
        coefficients = fitted.coefficients @ self.basis / self.scale
        return Linear(coefficients, fitted.intercept - coefficients @ self.mean)


def _log_prior(target: NDArray[np.int64], classes: int, prior: Prior) -> NDArray[np.float64]:
    counts = np.bincount(target, minlength=classes)
    return np.zeros(classes) if prior == "uniform" else np.log(counts / len(target))


def _shift(fitted: Linear, by: NDArray[np.float64]) -> Linear:
    return Linear(fitted.coefficients, fitted.intercept + by)
