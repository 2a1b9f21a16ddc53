"""The network: a VAE, and a projection of its embedding for the invariance term.

All sizes follow from the image: the encoder is of one of the families in `features.py`, the decoder
doubles a short side of at most 8 until it is the image's. It knows nothing of data or devices.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from handful_bundle.decoder import PARAMETERS
from handful_bundle.manifest import ImageSpec, Likelihood
from handful_training.config import EncoderFamily, ModelConfig
from handful_training.features import (
    channels_by_halving,
    first_convolution,
    halved,
    make_features,
)
from handful_training.objective import sample

# A decoder of dense layers is better and cheaper while an image is this small (values).
DENSE_DECODER_VALUES = 1024
# exp() of a network's output must stay finite in float32.
MIN_LOG_VARIANCE, MAX_LOG_VARIANCE = -12.0, 6.0
MIN_LOG_SCALE, MAX_LOG_SCALE = -6.0, 3.0


class Posterior(NamedTuple):
    """What the encoder says of B images."""

    embedding: Tensor  # [B, E], penultimate features
    mean: Tensor  # [B, D], of q(z|x)
    log_variance: Tensor  # [B, D], of q(z|x)


class Output(NamedTuple):
    """What the network makes of B images and two augmented views of each."""

    posterior: Posterior  # of the images themselves
    parameters: Tensor  # of p(x|z), one z ~ q(z|x) per image, [B, P, H, W]
    projections: tuple[Tensor, Tensor] | None  # of both views, [B, P] each


class Vae(nn.Module):
    """A variational auto-encoder (Kingma & Welling 2014, arXiv:1312.6114)."""

    def __init__(self, spec: ImageSpec, config: ModelConfig, projection_dim: int) -> None:
        """Make a network with random weights.

        Args:
            spec: size of the images.
            config: family, width, dimensions and likelihood; what is None follows from `spec`, and
                the family is then convolutional.
            projection_dim: size of the projection that the invariance term compares.
        """
        super().__init__()
        self.spec = spec
        self.likelihood: Likelihood = config.likelihood or default_likelihood(spec)
        family: EncoderFamily = config.family or "convolutional"
        width = config.width or default_width(spec)
        embedding_dim = config.embedding_dim or default_embedding_dim(spec)
        self.latent_dim = config.latent_dim or default_latent_dim(spec)
        features = make_features(family, spec, width, embedding_dim)
        self.encoder = Encoder(features, embedding_dim, self.latent_dim)
        channels = channels_by_halving(spec, width)
        self.decoder = Decoder(spec, channels, self.latent_dim, self.likelihood)
        self.projection = nn.Sequential(
            nn.Linear(embedding_dim, 2 * projection_dim, bias=False),
            nn.BatchNorm1d(2 * projection_dim),
            nn.ReLU(),
            nn.Linear(2 * projection_dim, projection_dim),
        )

    def forward(
        self,
        images: Tensor,
        views: tuple[Tensor, Tensor] | None = None,
        noise: Tensor | None = None,
    ) -> Output:
        """Encode and decode the images, and project their views.

        The ELBO is that of the images as they are; only the invariance term sees the views. An
        encoder that reads q(z|x) off a view learns to leave out what augmentation changes.

        Args:
            images: [B, C, H, W] in [0, 1].
            views: two augmented views of them or of more images, or None for a plain VAE.
            noise: standard normal, [B, D], of the latents; torch's own unless given.
        """
        if views is None:
            posterior, projections = self.encoder(images), None
        else:  # one pass, so that batch normalisation sees images and views alike
            everything: Posterior = self.encoder(torch.cat([images, *views]))
            posterior = Posterior(*(part[: len(images)] for part in everything))
            one, other = self.projection(everything.embedding[len(images) :]).chunk(2)
            projections = (one, other)
        if noise is None:
            noise = torch.randn_like(posterior.mean)
        latent = sample(posterior.mean, posterior.log_variance, noise)
        return Output(posterior, self.decoder(latent), projections)


class Encoder(nn.Module):
    """Images [B, C, H, W] in [0, 1] → embedding and q(z|x)."""

    def __init__(self, features: nn.Sequential, embedding_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.features = features
        self.posterior = nn.Linear(embedding_dim, 2 * latent_dim)

    @property
    def first(self) -> nn.Conv2d:
        """The first convolution."""
        return first_convolution(self.features)

    def forward(self, images: Tensor) -> Posterior:
        """Encode images [B, C, H, W] in [0, 1]."""
        embedding = self.features(images)
        mean, log_variance = self.posterior(embedding).chunk(2, dim=1)
        return Posterior(embedding, mean, log_variance.clamp(MIN_LOG_VARIANCE, MAX_LOG_VARIANCE))


class Decoder(nn.Module):
    """Latents [B, D] → parameters of p(x|z), [B, P, H, W]; see `objective.distortion`."""

    def __init__(
        self, spec: ImageSpec, channels: list[int], latent_dim: int, likelihood: Likelihood
    ) -> None:
        super().__init__()
        self.spec = spec
        self.likelihood = likelihood
        outputs = PARAMETERS[likelihood] * spec.channels
        if spec.height * spec.width * spec.channels <= DENSE_DECODER_VALUES:
            self.layers = _dense_decoder(spec, latent_dim, outputs)
        else:
            self.layers = _convolutional_decoder(spec, channels, latent_dim, outputs)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode latents [B, D]."""
        parameters: Tensor = self.layers(latent)
        if self.likelihood == "bernoulli":
            return parameters
        mean, log_scale = parameters.chunk(2, dim=1)
        return torch.cat([mean + 0.5, log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)], dim=1)

    def expected(self, parameters: Tensor) -> Tensor:
        """Mean of p(x|z), in [0, 1], [B, C, H, W]."""
        if self.likelihood == "bernoulli":
            return torch.sigmoid(parameters)
        return parameters[:, : self.spec.channels].clamp(0, 1)


def default_likelihood(spec: ImageSpec) -> Likelihood:
    """Bernoulli for grey images, discretised logistic for colour."""
    return "bernoulli" if spec.channels == 1 else "discretised_logistic"


def default_width(spec: ImageSpec) -> int:
    """Channels of the first convolution: colour carries more than shape."""
    return 16 if spec.channels == 1 else 32


def default_embedding_dim(_: ImageSpec) -> int:
    """Numbers in an embedding."""
    return 256


def default_latent_dim(_: ImageSpec) -> int:
    """Numbers in a latent."""
    return 64


def _dense_decoder(spec: ImageSpec, latent_dim: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent_dim, 400),
        nn.ReLU(),
        nn.Linear(400, 400),
        nn.ReLU(),
        nn.Linear(400, outputs * spec.height * spec.width),
        nn.Unflatten(1, (outputs, spec.height, spec.width)),
    )


def _convolutional_decoder(
    spec: ImageSpec, channels: list[int], latent_dim: int, outputs: int
) -> nn.Sequential:
    sizes = halved(spec, len(channels))
    height, width = sizes[-1]
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, channels[-1] * height * width),
        nn.ReLU(),
        nn.Unflatten(1, (channels[-1], height, width)),
    ]
    targets = [*reversed(channels[:-1]), outputs]
    for source, target, small, large in zip(
        reversed(channels), targets, reversed(sizes[1:]), reversed(sizes[:-1]), strict=True
    ):
        odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])  # give back what halving dropped
        layers += [
            nn.ConvTranspose2d(source, target, 4, stride=2, padding=1, output_padding=odd),
            nn.BatchNorm2d(target),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers[:-2])  # the last convolution speaks plainly
