"""The network while it learns: its weights, their average and the optimiser, step by step."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device
from handful_training.augment import Augment
from handful_training.batch_norm import normalise_globally
from handful_training.binarise import binarise
from handful_training.config import Config
from handful_training.distributed import Gather, Team
from handful_training.draws import Draws, Part
from handful_training.loss import training_loss
from handful_training.model import Output, Vae
from handful_training.schedule import one_cycle
from handful_training.stem import start_from_patches
from handful_training.unit_tensor import unit_tensor

_BINARISE = 1  # tells this use of the seed from others


class Moment(NamedTuple):
    """Where a training stands."""

    step: int
    progress: float  # in [0, 1]


class Learner:
    """Takes the steps of one training. Knows nothing of epochs, clocks and files."""

    def __init__(
        self,
        sample: NDArray[np.uint8],
        spec: ImageSpec,
        config: Config,
        batch_size: int,
        seed: int,
        device: Device,
        team: Team,
    ) -> None:
        """Make a network with random weights, the same in every process of the team.

        Args:
            sample: some of the images, [n, H, W, C], for the filters that it starts with.
            spec: their size.
            config: every setting.
            batch_size: images in a batch of the whole team.
            seed: of the weights and of all that is drawn later.
            device: where to train.
            team: the processes that train together.
        """
        from lightning_fabric import Fabric  # noqa: PLC0415 - 1.4 s, for those who train
        from lightning_fabric.strategies.ddp import DDPStrategy  # noqa: PLC0415 - the same

        self._config, self._seed, self._team = config, seed, team
        self.part = Part.of(batch_size, team.rank, team.size)
        self._gather = Gather(team)
        self._fabric = Fabric(
            accelerator=device,
            devices=team.local_size,
            num_nodes=team.size // team.local_size,
            strategy=DDPStrategy() if team.size > 1 else "auto",
            precision=config.optimiser.precision,
        )
        self._fabric.launch()
        torch.manual_seed(seed)
        self._model = Vae(spec, config.model, config.objective.projection_dim)
        start_from_patches(self._model.encoder.first, self._unit(sample))
        # As convolutions compute: an epoch on the CPU takes a tenth less.
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's
        # What the loss never reaches would be waited for by the other processes.
        self._model.projection.requires_grad_(config.objective.invariance_weight > 0)
        self._average = AveragedModel(
            self._model,
            device=self._fabric.device,
            multi_avg_fn=forget_the_start(config.optimiser.ema),
            use_buffers=True,
        )
        if team.size > 1:
            normalise_globally(self._model, team)
        optimiser = torch.optim.AdamW(
            self._model.parameters(),
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
            # Lightning cannot clip scaled gradients inside a fused step.
            fused=config.optimiser.precision != "16-mixed",
        )
        self._network, self._optimiser = self._fabric.setup(self._model, optimiser)
        self._augment = Augment(config.augment)
        self._draws = Draws(seed, self.device)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._fabric.device

    def learning_rate(self, progress: float) -> float:
        """Return what the optimiser uses at `progress`."""
        return self._config.optimiser.learning_rate * one_cycle(min(1.0, progress))

    def take_step(
        self, first: NDArray[np.uint8], second: NDArray[np.uint8], now: Moment
    ) -> dict[str, Tensor]:
        """Learn from this process's rows of a batch, [b, H, W, C] each.

        Returns:
            The terms of the loss, means over the whole batch, on the device.
        """
        self._draws.begin(now.step)
        images, views = self._unit(first), None
        if self._config.objective.invariance_weight > 0:
            views = self._view(images), self._view(self._unit(second))
        if self._config.objective.binarise:  # not the views: the service embeds images as they are
            images = self._unit(self._binarised(first, now.step))
        noise = self._draws.normal(self.part, self._model.latent_dim)
        # Another image in turn, so that none is left out: within a batch they are in file order.
        every = self._config.objective.elbo_every if views else 1
        seen, seen_part = self.part.every(every, now.step % every)
        images = images[seen]
        output: Output = self._network(images, views, noise[seen])
        loss, terms = training_loss(
            images,
            output,
            self._model.likelihood,
            self._config.objective,
            now.progress,
            partial(self._gather, seen_part),
            partial(self._gather, self.part),
        )
        self._fabric.backward(loss)
        self._fabric.clip_gradients(
            self._network,
            self._optimiser,
            max_norm=self._config.optimiser.clip_norm,
            error_if_nonfinite=False,
        )
        self._optimiser.param_groups[0]["lr"] = self.learning_rate(now.progress)
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._team.rank == 0:
            self._average.update_parameters(self._model)
        return terms

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(weight.isfinite().all()) for weight in self._model.parameters())

    def averaged(self) -> Vae:
        """Return the averaged network on the CPU, in evaluation mode; process 0 has it."""
        model = self._average.module.cpu().eval()
        assert isinstance(model, Vae)
        return model

    def state(self) -> dict[str, Any]:
        """Return what `load` continues from."""
        return {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, the same in every process of the team."""
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._fabric.strategy.precision.load_state_dict(state["precision"])

    def _unit(self, pixels: NDArray[np.uint8]) -> Tensor:
        return unit_tensor(pixels, self.device)

    def _view(self, images: Tensor) -> Tensor:
        return self._augment(images, self._draws.generator, self.part)

    def _binarised(self, pixels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
        whole = np.zeros((self.part.whole, *pixels.shape[1:]), np.uint8)
        whole[self.part.rows] = pixels
        return binarise(whole, (self._seed, step, _BINARISE))[self.part.rows]


_Tensors = tuple[Tensor, ...] | list[Tensor]


def forget_the_start(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
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
