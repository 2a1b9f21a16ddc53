"""The network fits every image size, and nothing in it is idle."""

import pytest
import torch

from handful_bundle.manifest import ImageSpec
from handful_training.config import ModelConfig, ObjectiveConfig
from handful_training.features import ResidualBlock
from handful_training.loss import training_loss
from handful_training.model import MAX_LOG_VARIANCE, MIN_LOG_VARIANCE, Vae

CONFIG = ModelConfig(width=4, embedding_dim=12, latent_dim=5)
SIZES = [
    (16, 16, 1),
    (28, 28, 1),
    (32, 32, 3),
    (17, 31, 3),
    (16, 200, 1),
    (97, 64, 3),
    (256, 256, 1),
]


def network(height: int, width: int, channels: int, **changes: object) -> Vae:
    torch.manual_seed(0)
    spec = ImageSpec(height=height, width=width, channels=channels)
    return Vae(spec, CONFIG.model_copy(update=changes), 8)


@pytest.mark.parametrize(("height", "width", "channels"), SIZES)
@pytest.mark.parametrize("likelihood", ["bernoulli", "discretised_logistic"])
@pytest.mark.parametrize("family", ["convolutional", "residual"])
def test_shapes_follow_from_the_image(
    height: int, width: int, channels: int, likelihood: str, family: str
) -> None:
    """For every size the parameters of p(x|z) cover each pixel, and E and D are as set."""
    model = network(height, width, channels, likelihood=likelihood, family=family)
    x = torch.rand(2, channels, height, width)
    output = model(x, (x, x))
    per_channel = 1 if likelihood == "bernoulli" else 2
    assert output.parameters.shape == (2, per_channel * channels, height, width)
    assert output.posterior.embedding.shape == (2, 12)
    assert output.posterior.mean.shape == output.posterior.log_variance.shape == (2, 5)
    expected = model.decoder.expected(output.parameters)
    assert expected.shape == x.shape
    assert expected.min() >= 0
    assert expected.max() <= 1


@pytest.mark.parametrize(
    ("size", "weight"), [((28, 28, 1), 1.0), ((40, 33, 3), 1.0), ((28, 28, 1), 0.0)]
)
@pytest.mark.parametrize("family", ["convolutional", "residual"])
def test_every_parameter_gets_a_gradient(
    size: tuple[int, int, int], weight: float, family: str
) -> None:
    """One step of the loss reaches every weight; without invariance, all but the projection."""
    model = network(*size, family=family)
    with torch.no_grad():  # a residual block lets nothing through before its first step
        for module in model.modules():
            if isinstance(module, ResidualBlock):
                module.residual[-1].weight.fill_(0.5)
    images, *views = torch.rand(3, 8, size[2], size[0], size[1])
    output = model(images, tuple(views) if weight else None)
    config = ObjectiveConfig(invariance_weight=weight)
    loss, _ = training_loss(images, output, model.likelihood, config, progress=1.0)
    loss.backward()
    idle = {
        name
        for name, value in model.named_parameters()
        if value.grad is None or not value.grad.abs().sum() > 0
    }
    assert {name.split(".")[0] for name in idle} == (set() if weight else {"projection"})


def test_a_residual_block_begins_as_its_shortcut() -> None:
    """A fresh block of the same size passes positive values on unchanged."""
    x = torch.rand(2, 6, 9, 7)
    torch.testing.assert_close(ResidualBlock(6, 6, halve=False)(x), x)


def test_a_residual_encoder_gives_large_and_small_images_the_same_weights() -> None:
    """Above 64 pixels only strided convolutions are added: means over places end both networks."""
    small, large = (
        network(side, side, 3, family="residual").encoder.features for side in (64, 256)
    )
    blocks = [
        [[w.shape for w in m.parameters()] for m in net if isinstance(m, ResidualBlock)]
        for net in (small, large)
    ]
    assert blocks[0] == blocks[1]
    assert len(blocks[0]) == 4


def test_the_posterior_keeps_its_variance_in_bounds() -> None:
    """However extreme the features, exp(log variance) stays a usable number."""
    model = network(16, 16, 1).eval()
    with torch.no_grad():
        model.encoder.posterior.weight.mul_(1e6)
        log_variance = model.encoder(torch.rand(4, 1, 16, 16)).log_variance
    assert log_variance.min() >= MIN_LOG_VARIANCE
    assert log_variance.max() <= MAX_LOG_VARIANCE


@pytest.mark.parametrize("family", ["convolutional", "residual"])
def test_an_embedding_does_not_depend_on_its_batch(family: str) -> None:
    """In evaluation mode each image is encoded for itself."""
    model = network(28, 28, 1, family=family).eval()
    x = torch.rand(9, 1, 28, 28)
    torch.testing.assert_close(model.encoder(x).embedding[3:4], model.encoder(x[3:4]).embedding)


def test_the_loss_is_elbo_per_dimension_plus_weighted_invariance() -> None:
    """loss = (distortion + weight of the rate x rate) / values + weight x InfoNCE."""
    model = network(16, 16, 1)
    images, *views = torch.rand(3, 8, 1, 16, 16)
    output = model(images, tuple(views))
    config = ObjectiveConfig(invariance_weight=0.7, beta=2.0, kl_warm_up=0.5)
    for progress, share in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)):
        loss, terms = training_loss(images, output, model.likelihood, config, progress)
        per_value = (terms["distortion"] + 2.0 * share * terms["rate"]) / 256
        torch.testing.assert_close(loss.detach(), per_value + 0.7 * terms["invariance"])
