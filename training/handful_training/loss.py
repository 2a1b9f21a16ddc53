"""The one number that is minimised, put together from the terms in `objective`."""

import torch
from torch import Tensor

from handful_bundle.manifest import Likelihood
from handful_training.config import ObjectiveConfig
from handful_training.model import Output
from handful_training.objective import elbo, info_nce
from handful_training.schedule import kl_weight


def training_loss(
    images: Tensor,
    output: Output,
    likelihood: Likelihood,
    config: ObjectiveConfig,
    progress: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return -ELBO / (values per image) + invariance_weight x InfoNCE, and its terms.

    Args:
        images: [B, C, H, W] in [0, 1].
        output: what the network made of them.
        likelihood: family of p(x|z).
        config: the weights.
        progress: of the training, in [0, 1]; the rate's weight rises at its start.

    Returns:
        The loss, and means over the batch: loss, distortion, rate, invariance.
    """
    terms = elbo(
        images,
        output.parameters.float(),
        output.posterior.mean.float(),
        output.posterior.log_variance.float(),
        likelihood=likelihood,
        beta=config.beta * kl_weight(progress, config.kl_warm_up),
    )
    loss = -terms.value.mean() / images[0].numel()
    invariance = torch.zeros((), device=images.device)
    if output.projections is not None:
        first, second = output.projections
        invariance = info_nce(first.float(), second.float(), config.temperature)
        loss = loss + config.invariance_weight * invariance
    return loss, {
        "loss": loss.detach(),
        "distortion": terms.distortion.detach().mean(),
        "rate": terms.rate.detach().mean(),
        "invariance": invariance.detach(),
    }
