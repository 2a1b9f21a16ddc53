"""Fit the VAE on unlabelled images, bounded by epochs, by a clock or by both."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device, cpu_quota
from handful_training.augment import Augment
from handful_training.batches import Batches
from handful_training.checkpoint import save_checkpoint
from handful_training.config import Config
from handful_training.errors import InputError, TrainingError
from handful_training.loss import training_loss
from handful_training.meter import Epoch, Meter
from handful_training.model import Output, Vae
from handful_training.schedule import one_cycle

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
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_progress: Callable[[float], None] = lambda _: None,
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
        on_epoch: told of each finished epoch.
        on_progress: told of the progress in [0, 1], now and then.

    Raises:
        InputError: `device` is not there.
        TrainingError: the loss is no longer finite; the message names the last good checkpoint.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; install a CUDA build or use cpu")
    torch.manual_seed(seed)
    torch.set_num_threads(cpu_quota())
    training = _Training(images, spec, config, budget, folder, seed, device)
    return training.run(on_epoch, on_progress)


class _Training:
    """One training: what changes from step to step, in one place."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        spec: ImageSpec,
        config: Config,
        budget: Budget,
        folder: Path,
        seed: int,
        device: Device,
    ) -> None:
        self._start = time.monotonic()
        self._spec, self._config, self._budget = spec, config, budget
        self._checkpoint = folder / CHECKPOINT
        self._fabric = Fabric(
            accelerator=device,
            devices=1,
            precision=config.optimiser.precision,
        )
        kept = held_out_rows(len(images), config.optimiser.held_out)
        rows = np.delete(np.arange(len(images)), kept)
        self._batches = Batches(images, rows, config, seed)
        self._model = Vae(spec, config.model, config.objective.projection_dim)
        optimiser = torch.optim.AdamW(
            self._model.parameters(),
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
        )
        self._network, self._optimiser = self._fabric.setup(self._model, optimiser)
        self._average = AveragedModel(
            self._model, multi_avg_fn=_forget_the_start(config.optimiser.ema), use_buffers=True
        )
        self._augment = Augment(config.augment)
        self._meter = Meter()
        self._history: list[Epoch] = []
        self._step = 0

    def run(
        self, on_epoch: Callable[[Epoch], None], on_progress: Callable[[float], None]
    ) -> Pretrained:
        saved_at = self._seconds
        while self._progress < 1:
            for first, second in self._batches.epoch(len(self._history)):
                if self._progress >= 1:
                    break
                self._take_step(first, second)
                if self._step % SYNC_STEPS == 0:
                    self._check_finite()
                    on_progress(self._progress)
                    if self._seconds - saved_at > self._config.optimiser.checkpoint_seconds:
                        self._save()
                        saved_at = self._seconds
            if self._meter.images:  # else the clock ran out between two epochs
                self._check_finite()
                on_epoch(self._finish_epoch())
        self._save()
        model = self._average.module.cpu().eval()
        assert isinstance(model, Vae)
        return Pretrained(model, self._history, self._seconds, self._checkpoint)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def _progress(self) -> float:
        return self._budget.progress(self._step / self._batches.per_epoch, self._seconds)

    @property
    def _learning_rate(self) -> float:
        return self._config.optimiser.learning_rate * one_cycle(min(1.0, self._progress))

    def _take_step(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
        images, views = self._unit(first), None
        if self._config.objective.invariance_weight > 0:
            views = self._augment(images), self._augment(self._unit(second))
        output: Output = self._network(images, views)
        loss, terms = training_loss(
            images, output, self._model.likelihood, self._config.objective, self._progress
        )
        self._fabric.backward(loss)
        self._fabric.clip_gradients(
            self._network,
            self._optimiser,
            max_norm=self._config.optimiser.clip_norm,
            error_if_nonfinite=False,
        )
        self._optimiser.param_groups[0]["lr"] = self._learning_rate
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._average.update_parameters(self._model)
        self._step += 1
        self._meter.add(terms, len(images))

    def _unit(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return uint8 [B, H, W, C] as float32 [B, C, H, W] in [0, 1] on the device."""
        batch = torch.from_numpy(pixels).to(self._fabric.device)
        return batch.permute(0, 3, 1, 2).contiguous().float().div_(255)

    def _finish_epoch(self) -> Epoch:
        row = self._meter.finish(
            len(self._history) + 1, self._step, self._learning_rate, self._seconds
        )
        self._history.append(row)
        return row

    def _check_finite(self) -> None:
        if self._meter.finite():
            return
        kept = (
            f"the last good checkpoint is {self._checkpoint}"
            if self._checkpoint.exists()
            else "no checkpoint was written yet"
        )
        raise TrainingError(
            f"the loss is not finite after {self._step} steps; {kept}; try a lower learning rate "
            f"(--set optimiser.learning_rate={self._config.optimiser.learning_rate / 4:g})"
        )

    def _save(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self._model.parameters()):
            return  # a finite loss can still end in weights that are not: keep the older file
        save_checkpoint(
            self._checkpoint,
            {
                "model": self._model.state_dict(),
                "average": self._average.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self._step,
                "seconds": self._seconds,
                "history": [asdict(row) for row in self._history],
                "spec": self._spec.model_dump(),
                "config": self._config.model_dump_json(),
            },
        )


_Tensors = tuple[Tensor, ...] | list[Tensor]


def _forget_the_start(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Exponential moving average whose first steps weigh little, so short trainings profit too."""

    @torch.no_grad()
    def update(averages: _Tensors, values: _Tensors, count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)

    return update
