"""The one number that is minimised, put together from the terms in `objective`."""

from collections.abc import Callable

import torch
from torch import Tensor

from handful_bundle.manifest import Likelihood
from handful_training.config import ObjectiveConfig
from handful_training.model import Output
from handful_training.objective import Elbo, elbo, free_bits_rate, info_nce, kl_per_dimension
from handful_training.schedule import kl_weight


def training_loss(
    images: Tensor,
    output: Output,
    likelihood: Likelihood,
    config: ObjectiveConfig,
    progress: float,
    gather: Callable[..., tuple[Tensor, ...]] = lambda *rows: rows,
    gather_views: Callable[..., tuple[Tensor, ...]] = lambda *rows: rows,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of -ELBO / (values per image) and InfoNCE, and its terms.

    Weights and free bits change the loss alone: distortion and rate are reported as they are.

    Args:
        images: [B, C, H, W] in [0, 1].
        output: what the network made of them.
        likelihood: family of p(x|z).
        config: the weights.
        progress: of the training, in [0, 1]; the rate's weight rises at its start.
        gather: puts the images of several processes together, where these are not the whole batch.
        gather_views: does so with rows of their views.

    Returns:
        The loss, and means over the batch: loss, distortion, rate, invariance.
    """
    mean, log_variance = output.posterior.mean.float(), output.posterior.log_variance.float()
    beta = config.beta * kl_weight(progress, config.kl_warm_up)
    local = elbo(
        images, output.parameters.float(), mean, log_variance, likelihood=likelihood, beta=beta
    )
    terms = Elbo(*gather(*local))
    bound = terms.value.mean()
    if config.free_bits > 0:
        (kl,) = gather(kl_per_dimension(mean, log_variance))
        rate = free_bits_rate(kl, config.free_bits)
        bound = -terms.distortion.mean() - beta * rate
    loss = -config.elbo_weight * bound / images[0].numel()
    invariance = torch.zeros((), device=images.device)
    if output.projections is not None:
        first, second = gather_views(*output.projections)
        invariance = info_nce(first.float(), second.float(), config.temperature)
        loss = loss + config.invariance_weight * invariance
    return loss, {
        "loss": loss.detach(),
        "distortion": terms.distortion.detach().mean(),
        "rate": terms.rate.detach().mean(),
        "invariance": invariance.detach(),
    }
