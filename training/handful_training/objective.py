"""The training objective. Pure functions of tensors: no model, no optimiser, no device.

For any q(z|x), with x the image and z the latent,

    log p(x) = KL(q(z|x) || p(z|x)) + ELBO
    ELBO     = E_q[log p(x|z)] - KL(q(z|x) || p(z))
             = -distortion     - rate

(Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114, eqs. 1 and 3). The
first KL is never negative, so the ELBO bounds log p(x) from below, and is tight when q(z|x) is
the true posterior. All terms are in nats.

Beside it stands InfoNCE, which makes the embedding invariant under the augmentations. It is no
part of the bound: it buys accuracy per label, while the ELBO pays for decoding, sampling and
likelihood.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from handful_bundle.manifest import Likelihood


class Elbo(NamedTuple):
    """Terms of the bound, one value per image: float32 [B], in nats."""

    value: Tensor  # -distortion - beta * rate; maximise its mean
    distortion: Tensor  # -log p(x|z), summed over pixels and channels
    rate: Tensor  # KL(q(z|x) || N(0, I)), summed over latents; >= 0


def elbo(
    x: Tensor,
    parameters: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    *,
    likelihood: Likelihood,
    beta: float = 1.0,
) -> Elbo:
    """Evidence lower bound from one sample z ~ q(z|x).

    A bound on log p(x) only for beta = 1 and, with the Bernoulli likelihood, x in {0, 1}; else
    just a loss (beta: Higgins et al. 2017, "beta-VAE"), so compare runs by distortion and rate.

    Args:
        x: pixels in [0, 1], [B, C, H, W].
        parameters: of p(x|z), [B, P, H, W]; see `distortion`.
        mean: of q(z|x), [B, D].
        log_variance: of q(z|x), not log standard deviation, [B, D].
        likelihood: family of p(x|z).
        beta: weight of the rate.
    """
    loss = distortion(x, parameters, likelihood)
    kl = kl_per_dimension(mean, log_variance).sum(1)
    return Elbo(-loss - beta * kl, loss, kl)


def kl_per_dimension(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) per latent dimension, [B, D], in nats.

    Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


def free_bits_rate(kl: Tensor, free_bits: float) -> Tensor:
    """Sum over latents of max(free_bits, mean KL over the batch), in nats, a scalar.

    Takes the rate's place in the loss, so that no dimension gains by falling below `free_bits`:
    one that would collapse is left to be useful. No part of any bound; never report it. Kingma et
    al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow", arXiv:1606.04934,
    eq. 15, with every latent dimension as a group of its own.

    Args:
        kl: per image and latent dimension, [B, D], in nats; see `kl_per_dimension`.
        free_bits: lambda, nats per dimension; 0 gives the mean rate.
    """
    return kl.mean(0).clamp(min=free_bits).sum()


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Reparameterise: z = mean + standard deviation * noise, [B, D], noise ~ N(0, I).

    Kingma & Welling 2014, section 2.4.
    """
    return mean + (0.5 * log_variance).exp() * noise


def distortion(x: Tensor, parameters: Tensor, likelihood: Likelihood) -> Tensor:
    """-log p(x|z) in nats, [B], summed over pixels and channels.

    Args:
        x: pixels in [0, 1], [B, C, H, W].
        parameters: [B, P, H, W]. Bernoulli: P = C logits. Discretised logistic: P = 2C, means in
            units of full intensity, then log scales.
        likelihood: which of the two.
    """
    # Sum, never average, over pixels: averaging silently multiplies beta by C*H*W.
    if likelihood == "bernoulli":
        loss = F.binary_cross_entropy_with_logits(parameters, x, reduction="none")
    else:
        loss = -_discretised_logistic(x, parameters)
    return loss.flatten(1).sum(1)


def _discretised_logistic(x: Tensor, parameters: Tensor) -> Tensor:
    """Log mass of the bin of width 1/255 around x; the outermost bins hold the tails.

    Salimans et al. 2017, "PixelCNN++", arXiv:1701.05517, section 2.1, with one component.
    """
    mean, log_scale = parameters.chunk(2, dim=1)
    inverse = torch.exp(-log_scale)
    upper = (x - mean + 0.5 / 255) * inverse
    lower = (x - mean - 0.5 / 255) * inverse
    # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u)),
    # which cannot cancel: u - l = inverse / 255 whatever x is.
    width = inverse / 255
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
    inner = torch.where(x < 0.5 / 255, F.logsigmoid(upper), inner)
    return torch.where(x > 1 - 0.5 / 255, F.logsigmoid(-lower), inner)


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy, in nats, of finding each view's partner among all other views.

    The symmetric NT-Xent of Chen et al. 2020, "SimCLR", arXiv:2002.05709, eq. 1: 2B views, cosine
    similarity, every view but the partner is a negative. At most log(2B - 1) for a constant
    projection.

    Args:
        first: projections of one view of each image, [B, P].
        second: projections of the other, [B, P], row by row of the same image.
        temperature: > 0, divides the similarities.
    """
    views = F.normalize(torch.cat([first, second]), dim=1)
    similarity = views @ views.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return F.cross_entropy(similarity, partner)
