"""When `run` adapts, and how the budget is shared."""

import numpy as np
import pytest

from handful_training.config import Config
from handful_training.labels.labels import Labels
from handful_training.pipeline.adapt_plan import AUTO_JUDGES, AUTO_SECONDS, bounded, make_plan
from handful_training.pretrain import Budget

CONFIG = Config()


def labels(per_class: int) -> Labels:
    target = np.repeat(np.arange(10), per_class)
    names = tuple(f"c{k}" for k in range(10))
    return Labels(names, np.arange(len(target)), target, tuple(map(str, range(len(target)))))


TEN_MINUTES, ENOUGH = Budget(None, 600), labels(25)


def plan(wanted="auto", budget=TEN_MINUTES, given=ENOUGH, *, trained=False):
    return make_plan(wanted, budget, given, CONFIG, seed=0, trained=trained)


def test_auto_shares_a_budget_that_is_long_enough():
    """Two thirds pretrain, one third adapts; together they are the budget."""
    found = plan()
    assert found.pretrain.seconds == pytest.approx(400)
    assert found.adapt.seconds == pytest.approx(200)


@pytest.mark.parametrize(
    ("budget", "given", "reason"),
    [
        (Budget(None, AUTO_SECONDS - 1), labels(25), "too short"),
        (Budget(5, None), labels(25), "no time budget"),
        (Budget(None, 600), labels(10), f"at least {AUTO_JUDGES}"),
        (Budget(None, 600), None, "no labels"),
    ],
)
def test_auto_leaves_the_encoder_alone(budget, given, reason):
    """Too little time or too few labels: all of the budget pretrains, and the reason is said."""
    found = plan(budget=budget, given=given)
    assert found.adapt is None
    assert found.pretrain == budget
    assert reason in found.reason


@pytest.mark.parametrize("given", [labels(1), labels(10)])
def test_yes_adapts_all_the_same(given):
    """Asked for, it happens; the gate decides what becomes of it."""
    found = plan("yes", Budget(30, None), given)
    assert found.pretrain == Budget(30, None)
    assert found.adapt == Budget(15, None)


def test_yes_bounds_both_by_epochs_and_time():
    """Either may end either part."""
    found = plan("yes", Budget(1, 90))
    assert found.pretrain == Budget(1, pytest.approx(60))
    assert found.adapt == Budget(1, pytest.approx(30))


def test_no_never_adapts():
    """Whatever labels and time there are."""
    assert plan("no").adapt is None
    assert plan("no").pretrain == Budget(None, 600)


def test_an_encoder_that_had_the_whole_budget_is_taken():
    """Labels that come later retrain nothing: only the adaptation is left to do."""
    found = plan(trained=True)
    assert found.pretrain == Budget(None, 600)
    assert found.adapt.seconds == pytest.approx(200)


def test_a_time_budget_alone_is_bounded_by_epochs():
    """A few images on a fast machine are not shown for minutes; given epochs stay."""
    found = bounded(Budget(None, 300), 100, CONFIG)
    assert found.seconds == 300
    assert found.epochs is not None
    assert found.epochs > bounded(Budget(None, 300), 100_000, CONFIG).epochs > 0
    assert bounded(Budget(7, 300), 100, CONFIG) == Budget(7, 300)
