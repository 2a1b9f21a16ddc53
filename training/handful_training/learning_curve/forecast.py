"""What further labels are expected to bring: a power law's answer, and how sure it is.

The interval comes from laws fitted to resampled curves. It knows how few images and repeats there
were; it does not know whether the law holds, nor what labels chosen by a strategy would do: all
labels here are taken as random ones, and the next ten as ten more of the same kind.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from handful_training.learning_curve.curve import TAILS, Curve
from handful_training.learning_curve.power_law import PowerLaw, fit_power_law

NEXT = 10  # labels, all classes together
FEWEST_POINTS = 4  # a law has three numbers
FEWEST_IMAGES = 20  # asked about: below, one image is more than 5 points
FARTHEST = 2.0  # times the largest subset that a law is asked about


@dataclass(frozen=True)
class Gain:
    """Points of accuracy that `more` labels bring, as fractions."""

    more: int
    expected: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"labels": self.more, "gain": self.expected, "gain_ci": [self.low, self.high]}


@dataclass(frozen=True)
class Forecast:
    """What a curve lets one expect. `law` is None where `sentence` says why nothing."""

    labels: int  # that there are now
    sentence: str
    law: PowerLaw | None = None
    next: Gain | None = None  # of ten more
    doubled: Gain | None = None  # of as many again

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        law = None
        if self.law is not None:
            law = {name: float(value) for name, value in self.law._asdict().items()}
        return {
            "sentence": self.sentence,
            "labels": self.labels,
            "law": law,
            "accuracy": None if self.law is None else float(self.law(self.labels)),
            "next": None if self.next is None else self.next.to_json(),
            "doubled": None if self.doubled is None else self.doubled.to_json(),
        }


def forecast(curve: Curve, labels: int) -> Forecast:
    """Say what the next labels will bring to who has `labels` of them."""
    if (why := _too_little(curve, labels)) is not None:
        return Forecast(labels, f"What the next {NEXT} labels will bring cannot be said: {why}.")
    sizes = np.array(curve.sizes, np.float64)
    law, laws = fit_power_law(sizes, curve.accuracy), fit_power_law(sizes, curve.resampled)
    following, doubled = (_gain(law, laws, labels, more) for more in (NEXT, labels))
    now, then, twice = (100 * float(law(n)) for n in (labels, labels + NEXT, 2 * labels))
    sentence = (
        f"The next {NEXT} labels are expected to bring {_points(following.expected)} points "
        f"(95 % interval {_points(following.low)} to {_points(following.high)}): "
        f"{now:.1f} % with {labels:,} labels, {then:.1f} % with {labels + NEXT:,}, and "
        f"{twice:.1f} % with {2 * labels:,}."
    )
    return Forecast(labels, sentence, law, following, doubled)


def _points(share: float) -> str:
    """Return a difference of accuracies in points, small ones with a digit more."""
    return f"{100 * share:+.1f}" if abs(share) >= 0.001 else f"{100 * share:+.2f}"


def _gain(law: PowerLaw, laws: PowerLaw, labels: int, more: int) -> Gain:
    low, high = np.quantile(laws(labels + more) - laws(labels), TAILS).tolist()
    expected = float(law(labels + more) - law(labels))
    return Gain(more, expected, min(low, expected), max(high, expected))


def _too_little(curve: Curve, labels: int) -> str | None:
    """Return why a law would say nothing, or None."""
    if len(curve.sizes) < FEWEST_POINTS:
        return (
            f"{labels:,} labels make a curve of {len(curve.sizes)} points, and a law takes "
            f"{FEWEST_POINTS}; label more of each class"
        )
    if curve.images < FEWEST_IMAGES:
        return (
            f"accuracy is known on {curve.images} images only, and {FEWEST_IMAGES} are needed; "
            "label more"
        )
    if labels > FARTHEST * curve.sizes[-1]:
        return (
            f"the curve ends at {curve.sizes[-1]:,} labels, too far from the {labels:,} that "
            "there are"
        )
    return None
