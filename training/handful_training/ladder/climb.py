"""Try rungs on the same labels and the same images, and score what they say."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from handful_training.head.calibration import fit_temperature
from handful_training.ladder.known import Known
from handful_training.ladder.rungs import Probabilities, Rung
from handful_training.metrics import expected_calibration_error, log_loss, wilson_interval


@dataclass(frozen=True, eq=False)
class Standing:
    """What a rung reached.

    Attributes:
        probabilities: float32 [m, K] of the images that all rungs were tried on.
        target: their right classes, int64 [m].
        seconds: fitting and predicting took, features and graph at hand.
    """

    probabilities: Probabilities
    target: NDArray[np.int64]
    seconds: float

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where it is right, [m]."""
        found: NDArray[np.bool_] = self.probabilities.argmax(1) == self.target
        return found

    def scores(self) -> dict[str, Any]:
        """Return accuracy with its Wilson interval, log loss (nats), ECE, images, seconds."""
        right, n = int(self.right.sum()), len(self.target)
        return {
            "accuracy": right / n,
            "accuracy_ci": list(wilson_interval(right, n)),
            "log_loss": log_loss(self.probabilities, self.target),
            "ece": expected_calibration_error(self.probabilities, self.target),
            "n": n,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Both:
    """The normalised geometric mean of two rungs before it, named by key: sure where both are."""

    first: str
    second: str


Rungs = Mapping[str, Rung | Both]


def climb(
    rungs: Rungs,
    known: Known,
    rows: NDArray[np.int64],
    truth: NDArray[np.int64],
    *,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Standing]:
    """Try every rung on `rows`, which none of them knows the labels of.

    Where each class has two labels, every rung gets one temperature, from its out-of-fold
    predictions of the labels; which class it prefers does not change.

    Args:
        rungs: by key.
        known: the labels they are given.
        rows: what they are tried on, [m], m >= 1.
        truth: right classes of those, [m].
        seed: decides the folds, the same for all.
        advance: called after each rung.
    """
    tried = _Tried(known, known.folds(seed) if known.can_be_held_out() else None, rows)
    return {key: tried.standing(key, rung, truth, advance) for key, rung in rungs.items()}


def climb_out_of_fold(
    rungs: Rungs, known: Known, *, seed: int = 0, advance: Callable[[], object] = lambda: None
) -> dict[str, Standing]:
    """Try every rung on the labelled rows themselves, each predicted without its fold's labels.

    The same folds for all. The temperature is fitted on the very predictions that it scales: one
    number.

    Raises:
        ValueError: a class has a single label, which cannot be held out.
    """
    tried = _Tried(known, known.folds(seed), None)
    return {key: tried.standing(key, rung, known.target, advance) for key, rung in rungs.items()}


class _Tried:
    """Answers of rungs, kept for those that are made of others. `rows` None: out of fold."""

    def __init__(
        self, known: Known, fold: NDArray[np.int64] | None, rows: NDArray[np.int64] | None
    ) -> None:
        self._known, self._fold, self._rows = known, fold, rows
        self._answers: dict[str, tuple[Probabilities, Probabilities | None, float]] = {}

    def standing(
        self, key: str, rung: Rung | Both, truth: NDArray[np.int64], advance: Callable[[], object]
    ) -> Standing:
        answer, held_out, seconds = (
            self._joined(rung) if isinstance(rung, Both) else self._ask(rung)
        )
        self._answers[key] = (answer, held_out, seconds)
        advance()
        if held_out is not None:
            answer = _tempered(answer, held_out, self._known.target)
        return Standing(answer, truth, seconds)

    def _ask(self, rung: Rung) -> tuple[Probabilities, Probabilities | None, float]:
        start = time.monotonic()
        if self._rows is None:
            assert self._fold is not None
            held_out = rung.out_of_fold(self._known, self._fold)
            return held_out, held_out, time.monotonic() - start
        answer = rung.predict(self._known, self._rows)
        seconds = time.monotonic() - start  # the temperature is not counted
        if self._fold is None:
            return answer, None, seconds
        return answer, rung.out_of_fold(self._known, self._fold), seconds

    def _joined(self, both: Both) -> tuple[Probabilities, Probabilities | None, float]:
        first, second = self._answers[both.first], self._answers[both.second]
        answer, seconds = _between(first[0], second[0]), first[2] + second[2]
        if first[1] is None or second[1] is None:
            return answer, None, seconds
        return answer, _between(first[1], second[1]), seconds


def _between(first: Probabilities, second: Probabilities) -> Probabilities:
    return _normalised(0.5 * (_logs(first) + _logs(second)))


def _tempered(
    probabilities: Probabilities, held_out: Probabilities, target: NDArray[np.int64]
) -> Probabilities:
    """Scale `probabilities` [m, K] by the temperature that suits `held_out` [n, K]."""
    temperature = fit_temperature(_logs(held_out)[None], target).value
    return _normalised(_logs(probabilities) / temperature)


def _logs(probabilities: Probabilities) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).eps))


def _normalised(logs: NDArray[np.float64]) -> Probabilities:
    found: NDArray[np.float64] = softmax(logs, axis=1)
    return found.astype(np.float32)
