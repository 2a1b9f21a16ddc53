"""Schedules are functions of progress, bounded and continuous."""

import numpy as np
import pytest

from handful_training.pretrain import Budget
from handful_training.schedule import WARM_UP, kl_weight, one_cycle


def test_one_cycle_rises_then_falls() -> None:
    """The learning rate peaks at 1 after the warm-up, is monotone on both sides, never zero."""
    progress = np.linspace(0, 1, 401)
    rate = np.array([one_cycle(p) for p in progress])
    assert rate.max() == pytest.approx(1.0)
    assert progress[rate.argmax()] == pytest.approx(WARM_UP)
    assert (np.diff(rate[progress <= WARM_UP]) > 0).all()
    assert (np.diff(rate[progress >= WARM_UP]) < 0).all()
    assert (rate > 0).all()


@pytest.mark.parametrize("warm_up", [0.0, 0.2, 1.0])
def test_the_rate_gets_its_whole_weight(warm_up: float) -> None:
    """The weight rises from 0 to 1 linearly and is 1 from the warm-up's end on."""
    assert kl_weight(1.0, warm_up) == 1.0
    assert kl_weight(warm_up, warm_up) == 1.0
    if warm_up:
        assert kl_weight(0.0, warm_up) == 0.0
        assert kl_weight(warm_up / 4, warm_up) == pytest.approx(0.25)


def test_a_budget_ends_by_whichever_comes_first() -> None:
    """Progress is the larger of the shares of epochs and of seconds."""
    assert Budget(10, 100.0).progress(5, 20) == 0.5
    assert Budget(10, 100.0).progress(1, 90) == 0.9
    assert Budget(None, 100.0).progress(1e9, 100) == 1.0
    assert Budget(4, None).progress(4, 1e9) == 1.0
