"""Whether `run` adapts, and how pretraining and adaptation share its budget."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from handful_training.adapt.hold_out import hold_out
from handful_training.config import Config
from handful_training.labels.labels import Labels
from handful_training.pipeline.inputs import Inputs
from handful_training.pipeline.pretrain_stage import is_trained
from handful_training.pretrain import Budget
from handful_training.sizing import default_batch_size, default_epochs

if TYPE_CHECKING:
    from handful_training.pipeline.run import Request

_log = logging.getLogger(__name__)

Adapt = Literal["auto", "yes", "no"]

SHARE = 1 / 3  # of the time budget that adaptation gets
AUTO_SECONDS = (
    300.0  # time budget from which `auto` adapts: below, pretraining has better use of it
)
# Held-out labels from which `auto` adapts. With 50, a gain of 15 points is shown about every other
# time; with fewer, the time would nearly always be spent on an encoder that stays unproven.
AUTO_JUDGES = 50


class Plan(NamedTuple):
    """What the budget is spent on."""

    pretrain: Budget
    adapt: Budget | None  # None: the encoder stays as it is pretrained
    reason: str  # for that


def plan_for(request: "Request", inputs: Inputs, work: Path) -> Plan:
    """Decide on `--adapt` for a run."""
    trained = not request.force and is_trained(
        inputs.pack,
        inputs.spec,
        request.config,
        request.budget,
        work,
        seed=request.train_seed,
        device=request.device,
    )
    plan = make_plan(
        request.adapt,
        request.budget,
        inputs.labels,
        request.config,
        seed=request.choice.seed if request.choice else 0,
        trained=trained,
    )
    if plan.adapt is None and inputs.labels is not None:
        _log.info("the encoder is not adapted: %s", plan.reason)
    return plan


def make_plan(
    wanted: Adapt,
    budget: Budget,
    labels: Labels | None,
    config: Config,
    *,
    seed: int,
    trained: bool,
) -> Plan:
    """Decide on `--adapt`.

    Args:
        wanted: `--adapt`.
        budget: of the whole run.
        labels: that the head will see.
        config: how many labels are held out.
        seed: draws them.
        trained: whether an encoder is there that had the whole budget; then it is taken.
    """
    if wanted == "no":
        return Plan(budget, None, "--adapt no")
    if labels is None:
        return Plan(budget, None, "there are no labels to adapt to")
    if wanted == "auto" and (why_not := _why_not(budget, labels, config, seed)):
        return Plan(budget, None, why_not)
    pretrain, adapt = _shared(budget)
    return Plan(budget if trained else pretrain, adapt, "")


def bounded(budget: Budget, images: int, config: Config) -> Budget:
    """Return the budget of an adaptation alone; a time budget gets a bound on epochs too."""
    if budget.epochs is not None:
        return budget
    batch_size = config.optimiser.batch_size or default_batch_size(images)
    return replace(budget, epochs=max(1, default_epochs(images, batch_size) // 2))


def _why_not(budget: Budget, labels: Labels, config: Config, seed: int) -> str:
    if budget.seconds is None:
        return "there is no time budget to share; --adapt yes adapts all the same"
    if budget.seconds < AUTO_SECONDS:
        return (
            f"a time budget of {budget.seconds:.0f} s is too short to share (from "
            f"{AUTO_SECONDS:.0f} s on); --adapt yes adapts all the same"
        )
    judges = int(np.count_nonzero(hold_out(labels.target, config.adapt.held_out, seed=seed)))
    if judges < AUTO_JUDGES:
        return (
            f"{len(labels)} labels are too few to show that it helps: {judges} could be held out, "
            f"at least {AUTO_JUDGES} are needed; --adapt yes adapts all the same"
        )
    return ""


def _shared(budget: Budget) -> tuple[Budget, Budget]:
    """Return the budgets of pretraining and of adaptation."""
    pretrain = adapt = budget
    if budget.seconds is not None:
        pretrain = replace(pretrain, seconds=(1 - SHARE) * budget.seconds)
        adapt = replace(adapt, seconds=SHARE * budget.seconds)
    if budget.epochs is not None:  # which bound pretraining; adapting sees the images half as often
        adapt = replace(adapt, epochs=max(1, budget.epochs // 2))
    return pretrain, adapt
