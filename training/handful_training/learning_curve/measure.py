"""Fit methods on nested subsets of labels, and see what they get right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_training.learning_curve.curve import Curve
from handful_training.learning_curve.forecast import Forecast, forecast
from handful_training.learning_curve.methods import Method, predict
from handful_training.learning_curve.subsets import Subsets


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Curves on the same subsets and images; the first is of the head that is served.

    Attributes:
        on: "unused labels", or "labels not in the subset".
        classes: K.
        labels: how many there are.
        repeats: R.
        curves: in the order of the methods.
        forecast: what further labels are expected to bring to the first.
    """

    on: str
    classes: int
    labels: int
    repeats: int
    curves: tuple[Curve, ...]
    forecast: Forecast

    def to_json(self) -> dict[str, Any]:
        """Return the content of `learning_curve.json`."""
        return {
            "evaluated_on": self.on,
            "classes": self.classes,
            "labels": self.labels,
            "images": self.curves[0].images,
            "repeats": self.repeats,
            "curves": [curve.to_json() for curve in self.curves],
            "forecast": self.forecast.to_json(),
        }


def learning_curve(
    methods: Mapping[str, tuple[str, Method]],
    subsets: Subsets,
    target: NDArray[np.int64],
    *,
    unused: int = 0,
) -> LearningCurve:
    """Measure every method on every subset.

    Args:
        methods: title and method by key; each knows the features of q = n + `unused` images.
        subsets: of the n labels.
        target: classes of the q images, labels first, [q]; each of 0 ... K - 1 is among the labels.
        unused: images after the labels whose classes are known but never given. Where there are
            any, these alone are asked about.
    """
    repeats, sizes, n = subsets.inside.shape
    hidden = np.zeros((repeats, sizes, unused), np.bool_)
    inside = np.concatenate([subsets.inside, hidden], axis=2)
    if unused:
        asked = np.zeros_like(inside)
        asked[..., n:] = True
    else:
        asked = subsets.asked
    flat = (repeats * sizes, n + unused)
    curves = []
    for key, (title, method) in methods.items():
        found = predict(method, inside.reshape(flat), asked.reshape(flat), target)
        right = (found == target).reshape(asked.shape) & asked
        curves.append(Curve(key, title, subsets.sizes, right, asked))
    return LearningCurve(
        on="unused labels" if unused else "labels not in the subset",
        classes=int(target[:n].max()) + 1,
        labels=n,
        repeats=repeats,
        curves=tuple(curves),
        forecast=forecast(curves[0], n),
    )
