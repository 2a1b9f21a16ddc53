"""What a label is told comes from a choice that it had no part in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_training.config import HeadConfig
from handful_training.head.choice import Judged
from handful_training.head.crossing import cross
from handful_training.head.selection import cross_folds

CONFIG = HeadConfig(folds=5, repeats=2)
TARGET = np.arange(60) % 2


def judged(logits: NDArray[np.float64]) -> Judged:
    return Judged("logistic", None, "embedding", 1.0, 0.0, logits, 0.0)


def guesses(seed: int) -> NDArray[np.float64]:
    """Thirty candidates that know nothing: logits [30, R, n, 2]."""
    return np.random.default_rng(seed).normal(0, 1, (30, 2, len(TARGET), 2))


def right(logits: NDArray[np.float64]) -> float:
    return float((logits.argmax(2) == TARGET).mean())


def test_no_label_chooses_for_itself() -> None:
    """Each row's logits come from a choice among whose rows its own fold is not."""
    fold = cross_folds(TARGET, CONFIG, 0)
    masks: list[NDArray[np.bool_] | None] = []

    def decide(rows: NDArray[np.bool_] | None) -> Judged:
        masks.append(rows)
        return judged(np.full((2, len(TARGET), 2), float(len(masks))) * [1.0, 0.0])

    found = cross(decide, TARGET, CONFIG, None, seed=0)
    assert masks[0] is None
    assert found.logits is not None
    numbers = np.rint(found.logits[..., 0] / found.linear_scale).astype(int)
    for repeat, told in zip(fold, numbers, strict=True):
        for row, number in enumerate(told):
            mask = masks[number - 1]
            assert mask is not None
            assert not mask[repeat == repeat[row]].any()
            assert mask[repeat != repeat[row]].all()


def test_the_best_of_many_guesses_is_told_from_knowledge() -> None:
    """The best of 30 coins looks better than a coin on the rows that chose it; crossed, it does
    not.
    """
    plain, crossed = [], []
    for seed in range(40):
        candidates = guesses(seed)

        def decide(rows: NDArray[np.bool_] | None, every: NDArray = candidates) -> Judged:
            chosen = np.ones(len(TARGET), bool) if rows is None else rows
            hits = (every.argmax(3) == TARGET)[:, :, chosen].mean((1, 2))
            return judged(every[hits.argmax()])

        plain.append(right(decide(None).logits))
        logits = cross(decide, TARGET, CONFIG, None, seed=0).logits
        assert logits is not None
        crossed.append(right(logits))
    assert np.mean(plain) > 0.57
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.02)


def test_guesses_are_not_believed() -> None:
    """The temperature that goes with them makes their answers nearly even."""
    candidates = guesses(0)

    def decide(rows: NDArray[np.bool_] | None) -> Judged:
        chosen = np.ones(len(TARGET), bool) if rows is None else rows
        hits = (candidates.argmax(3) == TARGET)[:, :, chosen].mean((1, 2))
        return judged(candidates[hits.argmax()])

    found = cross(decide, TARGET, CONFIG, None, seed=0)
    assert found.linear_scale < 0.3
    assert found.log_loss is not None
    assert found.log_loss > 0.65  # log 2 is what a coin has


def test_only_those_who_may_judge_choose() -> None:
    """Rows that the encoder has learnt from are told something, and decide nothing."""
    judges = np.arange(len(TARGET)) < 40
    masks: list[NDArray[np.bool_]] = []

    def decide(rows: NDArray[np.bool_] | None) -> Judged:
        assert rows is not None
        masks.append(rows)
        return judged(np.ones((2, len(TARGET), 2)))

    found = cross(decide, TARGET, CONFIG, judges, seed=0)
    assert not any(mask[40:].any() for mask in masks)
    assert found.logits is not None
    assert found.logits.shape == (2, len(TARGET), 2)
