"""Tell whoever waits, and the run, how a training or an adaptation goes on."""

import logging
from dataclasses import asdict
from typing import Generic, Literal, TypeVar

from handful_training.adapt.rounds import Round
from handful_training.meter import Epoch
from handful_training.pretrain import Budget
from handful_training.progress import Progress
from handful_training.tracking import Run

Row = TypeVar("Row", Epoch, Round)  # of a history

_log = logging.getLogger(__name__)


class Teller(Generic[Row]):
    """Shows in a bar how far it has come, and logs each row of the history to `run`.

    Args:
        bar: where it is shown.
        total: units that the bar counts.
        run: is told of every row.
        unit: what a row is of.
    """

    def __init__(
        self, bar: Progress[None], total: int, run: Run, unit: Literal["epoch", "round"]
    ) -> None:
        self._bar, self._total, self._run, self._unit = bar, total, run, unit
        self._shown = 0

    def resumed(self, history: list[Row], share: float) -> None:
        """It goes on after these rows, with this share of the budget used up."""
        place = f"at {self._unit} {len(history) + 1}"
        _log.info("resuming %s; %.0f%% is done already", place, 100 * min(1.0, share))
        self._run.note({"handful.resumed": place})
        for row in history:
            log_row(self._run, row)
        self._shown = int(min(1.0, share) * self._total)
        self._bar.skip(self._shown)

    def progress(self, share: float) -> None:
        """It has come so far, in [0, 1]."""
        done = int(min(1.0, share) * self._total)
        self._bar.update(done - self._shown)
        self._shown = done

    def finished(self, number: int, row: Row) -> None:
        """The epoch or round of that number is over."""
        self._bar.note(f"{self._unit} {number}: -ELBO {row.neg_elbo:.1f} nats, loss {row.loss:.3f}")
        log_row(self._run, row)


def extent(budget: Budget) -> tuple[int, str]:
    """Return what a bar counts to, and the unit: seconds where they are bounded, else epochs."""
    if budget.seconds is not None:
        return round(budget.seconds), "second"
    assert budget.epochs is not None
    return budget.epochs, "epoch"


def log_row(run: Run, row: Epoch | Round) -> None:
    """Log all numbers of a row at its step."""
    values = asdict(row)
    step = values.pop("step")
    run.metrics(values, step=step)
