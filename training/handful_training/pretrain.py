"""Fit the VAE on unlabelled images, bounded by epochs, by a clock or by both."""

import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device, cpu_quota
from handful_training.batches import Batches, find_neighbours
from handful_training.binarise import check_binarisable
from handful_training.checkpoint import Keeper
from handful_training.config import Config
from handful_training.distributed import current_team, losing_others
from handful_training.errors import InputError, TrainingError
from handful_training.gpu_memory import explaining_full_gpu
from handful_training.heap import keeping_freed_memory
from handful_training.interrupts import Asked, Interrupted, deferring
from handful_training.learner import Learner, Moment
from handful_training.meter import Epoch, Meter
from handful_training.model import Vae, default_likelihood
from handful_training.sizing import default_batch_size
from handful_training.stem import sample_rows

CHECKPOINT = "checkpoint.pt"
SYNC_STEPS = 20  # how often the device is waited for, to look at the clock and for NaN


@dataclass(frozen=True)
class Budget:
    """When to stop: after `epochs` or after `seconds`, whichever comes first."""

    epochs: int | None
    seconds: float | None

    def progress(self, epochs: float, seconds: float) -> float:
        """Return the share that is used up, >= 0; from 1 on the training is over."""
        shares = [0.0]
        if self.epochs is not None:
            shares.append(epochs / self.epochs)
        if self.seconds is not None:
            shares.append(seconds / self.seconds)
        return max(shares)


class Watcher:
    """Told how a training goes on. Override what is worth knowing."""

    def begun(self, rows: NDArray[np.int64], neighbours: NDArray[np.int32] | None) -> None:
        """It starts on these rows; each one's second views may show its neighbours, [R, count]."""

    def pace(self, epochs: float) -> None:
        """At the speed of its first steps it comes to about so many epochs."""

    def resumed(self, history: list[Epoch], share: float) -> None:
        """It goes on after these epochs, with this share of the budget used up."""

    def epoch(self, row: Epoch) -> None:
        """An epoch is over."""

    def progress(self, share: float) -> None:
        """It has come so far, in [0, 1]; told now and then."""


@dataclass(frozen=True)
class Pretrained:
    """The outcome of a training."""

    model: Vae  # averaged weights, on the CPU, in evaluation mode
    history: list[Epoch]
    seconds: float
    checkpoint: Path


def held_out_rows(count: int, held_out: int) -> NDArray[np.int64]:
    """Return the rows kept from training for the test ELBO: at most a tenth, evenly spread."""
    kept = max(1, min(held_out, count // 10))
    return np.linspace(0, count - 1, kept).astype(np.int64)


def pretrain(
    images: NDArray[np.uint8],
    spec: ImageSpec,
    config: Config,
    budget: Budget,
    folder: Path,
    *,
    seed: int = 0,
    device: Device = "auto",
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Pretrained:
    """Fit a VAE on all rows of `images` but the held-out ones.

    Args:
        images: [N, H, W, C], N >= 4; may be a memory map.
        spec: their size.
        config: every setting.
        budget: when to stop; the search for neighbours counts.
        folder: where the checkpoint goes.
        seed: of weights, batches, views and latents.
        device: where to train.
        resume: go on from the folder's checkpoint, if it is of the same training.
        watcher: told how it goes on.

    Raises:
        InputError: `device` is not there, or the images cannot be binarised as asked.
        TrainingError: the loss is no longer finite, the checkpoint cannot be written, or another
            process of the team is gone; the message names the last good checkpoint.
        Interrupted: a signal asked to stop; a checkpoint was written.
    """
    identity = {
        "images": list(images.shape),
        "spec": spec.model_dump(mode="json"),
        "config": config.model_dump_json(exclude={"image", "head", "adapt"}),
        "budget": asdict(budget),
        "seed": seed,
    }
    keeper = Keeper(folder / CHECKPOINT, identity, config.optimiser.checkpoint_seconds)
    training = _Training(images, spec, config, budget, seed, device, keeper)
    training.run(watcher or Watcher(), resume=resume)
    return Pretrained(training.learner.averaged(), training.history, training.seconds, keeper.path)


def assist(
    images: NDArray[np.uint8],
    spec: ImageSpec,
    config: Config,
    budget: Budget,
    *,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Take part in what the first process of the team learns by `pretrain`, with the same input.

    Raises:
        As `pretrain`.
    """
    _Training(images, spec, config, budget, seed, device, None).run(Watcher(), resume=False)


class _Training:
    """One training: what changes from step to step, in one place."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        spec: ImageSpec,
        config: Config,
        budget: Budget,
        seed: int,
        device: Device,
        keeper: Keeper | None,
    ) -> None:
        self._start = time.monotonic()
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: torch sees no GPU; install a CUDA build or use cpu")
        if config.objective.binarise:
            check_binarisable(spec, config.model.likelihood or default_likelihood(spec))
        self._images, self._spec, self._config = images, spec, config
        self._budget, self._seed, self._keeper = budget, seed, keeper
        self._rows = np.delete(
            np.arange(len(images)), held_out_rows(len(images), config.optimiser.held_out)
        )
        self._team = current_team()
        wanted = config.optimiser.batch_size or default_batch_size(len(self._rows))
        batch_size = min(wanted, len(self._rows))
        if batch_size < self._team.size:
            raise InputError(
                f"{self._team.size} processes share batches of {batch_size}; start fewer of them"
            )
        sample = images[self._rows[sample_rows(len(self._rows), spec.height, spec.width)]]
        self.learner = Learner(sample, spec, config, batch_size, seed, device, self._team)
        self._meter = Meter()
        self._step = 0
        self.history: list[Epoch] = []

    @property
    def seconds(self) -> float:
        """Spent so far, also before an interruption."""
        return time.monotonic() - self._start

    def run(self, watcher: Watcher, *, resume: bool) -> None:
        with losing_others(self._team):
            found = self._keeper.load() if resume and self._keeper else None
            found = self._team.share(found)
            if found is not None:
                self._restore(found)
                watcher.resumed(self.history, self._share)
            else:
                self._begin()
                before = time.monotonic()
                watcher.begun(self._rows, self._neighbours)
                self._start += time.monotonic() - before  # looking costs no training
            torch.set_num_threads(max(1, cpu_quota() // self._team.local_size))
            begun_at = self._step
            with deferring() as asked, keeping_freed_memory():
                self._learn(watcher, asked)
                if self._keeper and self._step > begun_at and self.learner.finite():
                    self._keeper.save(self._state())
        if asked.signum is not None:  # too late to stop the training, in time for what follows
            raise Interrupted(asked.signum, " after the training")

    def _begin(self) -> None:
        found = None
        if self._team.rank == 0:
            torch.set_num_threads(cpu_quota())  # the others wait
            found = find_neighbours(self._images, self._rows, self._config, self._seed)
        self._neighbours = self._team.share(found)
        if self._keeper:  # a disk that is full is better known now than in the morning
            self._keeper.save(self._state())
        self._meter = Meter()  # its clock starts now

    def _learn(self, watcher: Watcher, asked: Asked) -> None:
        batches = Batches(self._images, self._rows, self._config, self._seed, self._neighbours)
        while (now := self._now(asked)).progress < 1:
            done = self._step - (self.history[-1].step if self.history else 0)
            number = len(self.history)
            for first, second in batches.epoch(number, skip=done, part=self.learner.part):
                now = self._now(asked)
                if now.progress >= 1:
                    break
                with explaining_full_gpu(len(first)):
                    terms = self.learner.take_step(first, second, now)
                self._step += 1
                self._meter.add(terms, batches.size)
                if self._step % SYNC_STEPS == 0:
                    self._look(watcher, now)
            if self._meter.images:  # else the clock ran out between two epochs
                self._check_finite()
                self._finish_epoch(watcher)

    @property
    def _share(self) -> float:
        """How much of the budget is used up, >= 0, by this process's clock."""
        per_epoch = len(self._rows) // self.learner.part.whole
        return self._budget.progress(self._step / per_epoch, self.seconds)

    def _now(self, asked: Asked) -> Moment:
        """Return where the training stands, the same in every process.

        Raises:
            Interrupted: one of them was asked to stop.
        """
        share, stop = self._team.agree(self._share, stop=asked.signum is not None)
        if stop:
            self._check_finite()
            if self._keeper and self.learner.finite():
                self._keeper.save(self._state())
            raise Interrupted(asked.signum or signal.SIGTERM, f" in epoch {len(self.history) + 1}")
        return Moment(self._step, share)

    def _look(self, watcher: Watcher, now: Moment) -> None:
        """Wait for the device, and see to what is done now and then."""
        self._check_finite()
        watcher.progress(now.progress)
        if self._step == SYNC_STEPS and self._budget.seconds is not None:
            per_epoch = len(self._rows) // self.learner.part.whole
            watcher.pace(self._step / per_epoch / self._share)
        if self._keeper and self._keeper.due and self.learner.finite():
            self._keeper.try_to_save(self._state())

    def _finish_epoch(self, watcher: Watcher) -> None:
        rate = self.learner.learning_rate(self._share)
        row = self._meter.finish(len(self.history) + 1, self._step, rate, self.seconds)
        self.history.append(row)
        watcher.epoch(row)

    def _check_finite(self) -> None:
        if self._meter.finite():
            return
        kept = (
            f"the last good checkpoint is {self._keeper.path}"
            if self._keeper and self._keeper.path.exists()
            else "no checkpoint was written yet"
        )
        raise TrainingError(
            f"the loss is not finite after {self._step} steps; {kept}; try a lower learning rate "
            f"(--set optimiser.learning_rate={self._config.optimiser.learning_rate / 4:g})"
        )

    def _state(self) -> dict[str, Any]:
        return {
            **self.learner.state(),
            "meter": self._meter.state(),
            "step": self._step,
            "seconds": self.seconds,
            "history": [asdict(row) for row in self.history],
            "neighbours": None if self._neighbours is None else torch.from_numpy(self._neighbours),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.load(state)
        self._meter.load(state["meter"], self.learner.device)
        self._step = state["step"]
        self._start -= state["seconds"]
        self.history = [Epoch(**row) for row in state["history"]]
        found = state["neighbours"]
        self._neighbours = None if found is None else found.numpy()
