"""The network while it is adapted: VAE, classifier, their average (the teacher), step by step."""

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from handful_bundle.session import Device
from handful_training.adapt.strong import strong_augmentation
from handful_training.augment import Augment
from handful_training.binarise import binarise
from handful_training.config import Config
from handful_training.draws import Draws, Part
from handful_training.learner import Moment, forget_the_start
from handful_training.loss import training_loss
from handful_training.model import Output, Posterior, Vae
from handful_training.objective import sample
from handful_training.schedule import one_cycle
from handful_training.unit_tensor import unit_tensor

_BINARISE = 5  # tells this use of the seed from others
EMBED_ROWS = 1024


class Seen(NamedTuple):
    """What the network makes of one step's images."""

    output: Output  # of the unlabelled images as they are
    strong: Tensor  # logits of the strong views, [B, K]
    labelled: Tensor  # logits of the labelled images, [L, K]


class Classifier(nn.Module):
    """A VAE with a linear classifier on its embedding."""

    def __init__(self, vae: Vae, classes: int) -> None:
        super().__init__()
        self.vae = vae
        # Starting from zero, the classifier learns first: gradients of a random one would
        # shake the encoder for nothing.
        self.linear = nn.Linear(_dimensions(vae)[0], classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor, strong: Tensor, labelled: Tensor, noise: Tensor) -> Seen:
        """See one step's images, all in one pass: batch normalisation sees them alike.

        Args:
            images: unlabelled, as they are, [B, C, H, W] in [0, 1].
            strong: strong views of them.
            labelled: views of labelled images, [L, C, H, W].
            noise: standard normal, [B, D], of the latents.
        """
        whole: Posterior = self.vae.encoder(torch.cat([images, strong, labelled]))
        count = len(images)
        logits = self.linear(whole.embedding[count:])
        own = Posterior(*(part[:count] for part in whole))
        parameters = self.vae.decoder(sample(own.mean, own.log_variance, noise))
        return Seen(Output(own, parameters, None), logits[:count], logits[count:])


class Student:
    """Takes the steps of one adaptation. Knows nothing of rounds, clocks and files."""

    def __init__(self, start: Vae, classes: int, config: Config, seed: int, device: Device) -> None:
        """Copy `start`; the copy is what learns."""
        from lightning_fabric import Fabric  # noqa: PLC0415 - 1.4 s, for those who train

        self._config, self._seed = config, seed
        self._fabric = Fabric(accelerator=device, devices=1, precision=config.optimiser.precision)
        self._fabric.launch()
        torch.manual_seed(seed)
        self._model = Classifier(deepcopy(start).cpu().train(), classes)
        self._model.requires_grad_(True)
        # The invariance term is not gone on with: consistency under strong views, class by class,
        # takes its place, and does better without it.
        self._model.vae.projection.requires_grad_(False)
        self._teacher = AveragedModel(
            self._model,
            device=self._fabric.device,
            multi_avg_fn=forget_the_start(config.optimiser.ema),
            use_buffers=True,
        )
        optimiser = torch.optim.AdamW(
            self._model.parameters(),
            lr=config.adapt.learning_rate,
            weight_decay=config.optimiser.weight_decay,
        )
        self._network, self._optimiser = self._fabric.setup(self._model, optimiser)
        self._weak = Augment(config.augment)
        self._strong = Augment(strong_augmentation(config.augment, config.adapt))
        self._draws = Draws(seed, self.device)
        self._latent_dim = _dimensions(start)[1]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._fabric.device

    def learning_rate(self, progress: float) -> float:
        """Return what the optimiser uses at `progress`."""
        return self._config.adapt.learning_rate * one_cycle(min(1.0, progress))

    def take_step(
        self,
        pixels: NDArray[np.uint8],
        target: NDArray[np.float32],
        weight: NDArray[np.float32],
        labelled: NDArray[np.uint8],
        labels: NDArray[np.int64],
        now: Moment,
    ) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            pixels: unlabelled images, [B, H, W, C].
            target: their pseudo-labels, [B, K].
            weight: how much each counts, [B].
            labelled: labelled images, [L, H, W, C].
            labels: their classes, [L].
            now: where the adaptation stands.

        Returns:
            The terms of the loss, means over the batch, on the device.
        """
        self._draws.begin(now.step)
        generator = self._draws.generator
        images = self._unit(pixels)
        strong = self._strong(images, generator)
        weak = self._weak(self._unit(labelled), generator)
        if self._config.objective.binarise:  # what the ELBO sees, as in pretraining
            images = self._unit(binarise(pixels, (self._seed, now.step, _BINARISE)))
        noise = self._draws.normal(Part.of(len(pixels), 0, 1), self._latent_dim)
        seen: Seen = self._network(images, strong, weak, noise)
        bound, terms = training_loss(
            images, seen.output, self._model.vae.likelihood, self._config.objective, 1.0
        )
        supervised = F.cross_entropy(seen.labelled.float(), self._tensor(labels))
        each = F.cross_entropy(seen.strong.float(), self._tensor(target), reduction="none")
        pseudo = (self._tensor(weight) * each).mean()
        loss = bound + supervised + pseudo
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
        self._teacher.update_parameters(self._model)
        return terms | {
            "loss": loss.detach(),
            "supervised": supervised.detach(),
            "pseudo": pseudo.detach(),
        }

    @torch.no_grad()
    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the teacher's embeddings of images [n, H, W, C]: [n, E]."""
        encoder = self._taught().eval().encoder
        parts = [
            encoder(self._unit(pixels[start : start + EMBED_ROWS])).embedding
            for start in range(0, len(pixels), EMBED_ROWS)
        ]
        embedding: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return embedding

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(weight.isfinite().all()) for weight in self._model.parameters())

    def taught(self) -> Vae:
        """Return the teacher's VAE on the CPU, in evaluation mode."""
        return self._taught().cpu().eval()

    def state(self) -> dict[str, Any]:
        """Return what `load` continues from."""
        return {
            "model": self._model.state_dict(),
            "teacher": self._teacher.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._model.load_state_dict(state["model"])
        self._teacher.load_state_dict(state["teacher"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._fabric.strategy.precision.load_state_dict(state["precision"])

    def _taught(self) -> Vae:
        teacher = self._teacher.module
        assert isinstance(teacher, Classifier)
        return teacher.vae

    def _unit(self, pixels: NDArray[np.uint8]) -> Tensor:
        return unit_tensor(pixels, self.device)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)


@torch.no_grad()
def _dimensions(vae: Vae) -> tuple[int, int]:
    """Return E and D: the sizes of embedding and latent."""
    was_training, weight = vae.training, next(vae.parameters())
    one = weight.new_zeros(1, vae.spec.channels, vae.spec.height, vae.spec.width)
    posterior: Posterior = vae.eval().encoder(one)
    vae.train(was_training)
    return posterior.embedding.shape[1], posterior.mean.shape[1]


def teacher_of(state: dict[str, Any], like: Vae) -> Vae:
    """Return the teacher's VAE of a `state`, on the CPU, in evaluation mode.

    Args:
        state: of a student.
        like: a network of the same kind; it is left as it is.
    """
    prefix = "module.vae."
    network = deepcopy(like)
    network.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in state["teacher"].items()
            if name.startswith(prefix)
        }
    )
    return network.eval()
