"""Adapt a VAE to the classes of a few labels, by rounds of graph and network.

A round: the graph over the teacher's features spreads the labels to every image; the network is
trained on what the graph says of strong views (Sohn et al. 2020, "FixMatch", arXiv:2001.07685: a
label found on the image itself is learnt on a distorted one), on the labelled images, and goes on
with its ELBO, so that it stays a VAE. The teacher, the average of its weights, gives the next
round's features: a graph that is not built anew on them teaches only what was known before.
"""

import logging
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device, cpu_quota
from handful_training.adapt.batches import Sampler
from handful_training.adapt.graph_labels import (
    Teaching,
    graph_labels,
    learnt_features,
    pixel_features,
)
from handful_training.adapt.pseudo_labels import PseudoLabels
from handful_training.adapt.student import Student
from handful_training.checkpoint import Keeper
from handful_training.config import Config
from handful_training.errors import InputError, TrainingError
from handful_training.gpu_memory import explaining_full_gpu
from handful_training.interrupts import Asked, Interrupted, deferring
from handful_training.learner import Moment
from handful_training.meter import Meter
from handful_training.model import Vae
from handful_training.pretrain import CHECKPOINT, SYNC_STEPS, Budget, held_out_rows
from handful_training.sizing import default_batch_size
from handful_training.stem import sample_rows, start_from_patches
from handful_training.unit_tensor import unit_tensor

MAX_POOL = 60_000  # images that take part; of larger sets a random part, and all that are labelled

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """One round: what the graph taught, and means of the loss's terms over its steps."""

    round: int  # from 1
    step: int  # optimiser steps so far
    temperature: float  # of the graph's probabilities
    mean_weight: float  # of the pseudo-labels
    loss: float
    supervised: float  # cross entropy of labelled images, nats
    pseudo: float  # weighted cross entropy of strong views, nats
    distortion: float  # nats an image
    rate: float
    neg_elbo: float
    seconds: float  # so far


class Watcher:
    """Told how an adaptation goes on. Override what is worth knowing."""

    def resumed(self, history: list[Round], share: float) -> None:
        """It goes on after these rounds, with this share of the budget used up."""

    def round(self, row: Round) -> None:
        """A round is over."""

    def progress(self, share: float) -> None:
        """It has come so far, in [0, 1]; told now and then."""


@dataclass(frozen=True)
class Adapted:
    """The outcome of an adaptation."""

    model: Vae  # the teacher, on the CPU, in evaluation mode
    history: list[Round]
    pseudo: PseudoLabels  # of the last round's graph, for the images at `pool`
    pool: NDArray[np.int64]  # rows that took part, ascending
    seconds: float
    checkpoint: Path | None  # None: no folder was given


class Labelled(NamedTuple):
    """Which images are labelled, and as what."""

    rows: NDArray[np.int64]  # [n]
    target: NDArray[np.int64]  # classes, [n]; each of 0 ... K-1 occurs, K >= 2


class Kept(NamedTuple):
    """Where an adaptation keeps its checkpoint, and what tells it from others there."""

    folder: Path
    identity: dict[str, Any]  # as JSON values: say, the digest of the start


def adapt(
    images: NDArray[np.uint8],
    labelled: Labelled,
    start: Vae | ImageSpec,
    config: Config,
    budget: Budget,
    *,
    kept: Kept | None = None,
    seed: int = 0,
    device: Device = "auto",
    watcher: Watcher | None = None,
) -> Adapted:
    """Adapt a network to the classes of a few labels.

    Args:
        images: [N, H, W, C], N >= 4; may be a memory map.
        labelled: some of them.
        start: the pretrained network, which is left as it is. A size instead: what a pretraining
            begins with, and pixels for the first graph. That is the control: what labels and graph
            do without it.
        config: every setting, `config.adapt` above all. Its network is that of `start`.
        budget: when to stop; the graphs count. Epochs are passes over the images that take part.
        kept: where the checkpoint goes, and whence an interrupted adaptation goes on; None:
            nothing is written.
        seed: of batches, views and latents.
        device: where to train.
        watcher: told how it goes on.

    Raises:
        InputError: `device` is not there.
        TrainingError: the loss is no longer finite, or the checkpoint cannot be written.
        Interrupted: a signal asked to stop; a checkpoint was written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; install a CUDA build or use cpu")
    keeper = None
    if kept is not None:
        identity = {
            **kept.identity,
            "images": list(images.shape),
            "rows": labelled.rows.tolist(),
            "target": labelled.target.tolist(),
            "config": config.model_dump_json(exclude={"image", "head"}),
            "budget": asdict(budget),
            "seed": seed,
        }
        keeper = Keeper(kept.folder / CHECKPOINT, identity, config.optimiser.checkpoint_seconds)
    adaptation = _Adaptation(images, labelled, start, config, budget, seed, device, keeper)
    adaptation.run(watcher or Watcher())
    return adaptation.outcome()


def pool_rows(count: int, labelled: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the rows that take part, ascending: all, or a random part with all labelled ones."""
    if count <= MAX_POOL:
        return np.arange(count)
    others = np.setdiff1d(np.arange(count), labelled)
    drawn = np.random.default_rng(seed).choice(
        others, max(0, MAX_POOL - len(labelled)), replace=False
    )
    return np.union1d(labelled, drawn)


def fresh(images: NDArray[np.uint8], spec: ImageSpec, config: Config) -> Vae:
    """Return the network that a pretraining begins with, random but for its first filters."""
    network = Vae(spec, config.model, config.objective.projection_dim)
    sample = images[sample_rows(len(images), spec.height, spec.width)]
    start_from_patches(network.encoder.first, unit_tensor(sample))
    return network


class _Adaptation:
    """One adaptation: what changes from step to step, in one place."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labelled: Labelled,
        start: Vae | ImageSpec,
        config: Config,
        budget: Budget,
        seed: int,
        device: Device,
        keeper: Keeper | None,
    ) -> None:
        self._start = time.monotonic()
        torch.set_num_threads(cpu_quota())
        self._config, self._budget, self._seed, self._keeper = config, budget, seed, keeper
        self._from_random = isinstance(start, ImageSpec)
        if isinstance(start, ImageSpec):
            torch.manual_seed(seed)
            start = fresh(images, start, config)
        rows, target = labelled
        classes = int(target.max()) + 1
        pool = pool_rows(len(images), rows, seed)
        self.teaching = Teaching(images, pool, np.searchsorted(pool, rows), target, classes)
        # What the test ELBO is measured on stays unseen, as in pretraining.
        unseen = held_out_rows(len(images), config.optimiser.held_out)
        self._places = np.flatnonzero(~np.isin(pool, unseen))
        count = len(self._places)
        wanted = config.optimiser.batch_size or default_batch_size(count)
        self._sampler = Sampler(count, len(rows), wanted, config.adapt.labelled, seed)
        self._student = Student(start, classes, config, seed, device)
        self._meter = Meter()
        self._step = 0
        self._pseudo: PseudoLabels | None = None  # of the round that is under way
        self._history: list[Round] = []

    @property
    def _seconds(self) -> float:
        """Spent so far, also before an interruption."""
        return time.monotonic() - self._start

    @property
    def _share(self) -> float:
        """How much of the budget is used up, >= 0."""
        return self._budget.progress(self._step / self._sampler.per_epoch, self._seconds)

    def run(self, watcher: Watcher) -> None:
        found = self._keeper.load() if self._keeper else None
        if found is not None:
            self._restore(found)
            watcher.resumed(self._history, self._share)
        elif self._keeper:  # a disk that is full is better known now than later
            self._keeper.save(self._state())
        begun_at = self._step
        with deferring() as asked:
            while len(self._history) < self._config.adapt.rounds:
                self._teach(asked)
                self._learn(watcher, asked)
            if self._keeper and self._step > begun_at and self._student.finite():
                self._keeper.save(self._state())
        if asked.signum is not None:  # too late to stop it, in time for what follows
            raise Interrupted(asked.signum, " after the adaptation")

    def outcome(self) -> Adapted:
        """Return what came of it."""
        assert self._pseudo is not None
        path = self._keeper.path if self._keeper else None
        return Adapted(
            self._student.taught(), self._history, self._pseudo, self.teaching.pool,
            self._seconds, path,
        )  # fmt: skip

    def _teach(self, asked: Asked) -> None:
        """Ask the graph, unless this round's was asked before an interruption."""
        self._check(asked)
        if self._pseudo is not None and self._meter.images:
            return
        if self._from_random and not self._history:
            features = pixel_features(self.teaching, seed=self._seed)
        else:
            features = learnt_features(self.teaching, self._student.embed, seed=self._seed)
        self._pseudo = graph_labels(self.teaching, features, seed=self._seed)
        self._meter = Meter()

    def _learn(self, watcher: Watcher, asked: Asked) -> None:
        """Take the steps of one round: at least one, so that every round counts."""
        end = (len(self._history) + 1) / self._config.adapt.rounds
        while self._share < end or not self._meter.images:
            epoch, done = divmod(self._step, self._sampler.per_epoch)
            for batch in self._sampler.epoch(epoch, skip=done):
                self._take_step(batch.unlabelled, batch.labelled)
                self._check(asked)
                if self._step % SYNC_STEPS == 0:
                    self._look(watcher)
                if self._share >= end:
                    break
        self._check_finite()
        self._finish_round(watcher)

    def _take_step(self, places: NDArray[np.int64], labelled: NDArray[np.int64]) -> None:
        assert self._pseudo is not None
        teaching = self.teaching
        inside = self._places[places]
        with explaining_full_gpu(len(places)):
            terms = self._student.take_step(
                teaching.images[teaching.pool[inside]],
                self._pseudo.target[inside],
                self._pseudo.weight[inside],
                teaching.images[teaching.pool[teaching.labelled[labelled]]],
                teaching.target[labelled],
                Moment(self._step, min(1.0, self._share)),
            )
        self._step += 1
        self._meter.add(terms, len(places))

    def _check(self, asked: Asked) -> None:
        """Stop where it is safe, if somebody asked.

        Raises:
            Interrupted: somebody did.
        """
        if asked.signum is None:
            return
        self._check_finite()
        if self._keeper and self._student.finite():
            self._keeper.save(self._state())
        raise Interrupted(asked.signum or signal.SIGTERM, f" in round {len(self._history) + 1}")

    def _look(self, watcher: Watcher) -> None:
        """Wait for the device, and see to what is done now and then."""
        self._check_finite()
        watcher.progress(self._share)
        if self._keeper and self._keeper.due and self._student.finite():
            self._keeper.try_to_save(self._state())

    def _finish_round(self, watcher: Watcher) -> None:
        assert self._pseudo is not None
        means = self._meter.means()
        row = Round(
            round=len(self._history) + 1,
            step=self._step,
            temperature=self._pseudo.temperature,
            mean_weight=float(self._pseudo.weight.mean()),
            neg_elbo=means["distortion"] + means["rate"],
            seconds=self._seconds,
            **{name: means[name] for name in _TERMS},
        )
        self._history.append(row)
        self._meter = Meter()
        watcher.round(row)

    def _check_finite(self) -> None:
        if not self._meter.finite():
            rate = self._config.adapt.learning_rate / 4
            raise TrainingError(
                f"the loss is not finite after {self._step} steps of adaptation; try a lower "
                f"learning rate (--set adapt.learning_rate={rate:g}) or --adapt no"
            )

    def _state(self) -> dict[str, Any]:
        pseudo = self._pseudo
        return {
            **self._student.state(),
            "meter": self._meter.state(),
            "step": self._step,
            "seconds": self._seconds,
            "history": [asdict(row) for row in self._history],
            "pseudo": None
            if pseudo is None
            else {
                "target": torch.from_numpy(pseudo.target),
                "weight": torch.from_numpy(pseudo.weight),
                "temperature": pseudo.temperature,
            },
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self._student.load(state)
        self._meter.load(state["meter"], self._student.device)
        self._step = state["step"]
        self._start -= state["seconds"]
        self._history = [Round(**row) for row in state["history"]]
        if (pseudo := state["pseudo"]) is not None:
            self._pseudo = PseudoLabels(
                pseudo["target"].numpy(), pseudo["weight"].numpy(), pseudo["temperature"]
            )


_TERMS = ("loss", "supervised", "pseudo", "distortion", "rate")
