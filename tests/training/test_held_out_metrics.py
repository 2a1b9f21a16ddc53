"""What an export says of its held-out images: honest names, finite numbers, bounded work."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.binarise import binarise
from handful_training.config import ModelConfig
from handful_training.export import Exported, export, open_decoder, open_encoder
from handful_training.iwae import iwae_bounds
from handful_training.model import Vae
from handful_training.pipeline import held_out
from handful_training.pipeline.held_out import IWAE_IMAGES, IWAE_SAMPLES, measure

Network = tuple[NDArray[np.uint8], Exported]


def network(channels: int, count: int) -> Network:
    torch.manual_seed(0)
    spec = ImageSpec(height=16, width=16, channels=channels)
    model = Vae(spec, ModelConfig(width=4, embedding_dim=12, latent_dim=3), 8).eval()
    images = np.random.default_rng(0).integers(0, 256, (count, *spec.shape), np.uint8)
    return images, export(model, images)[0]


@pytest.fixture(scope="module")
def grey_network() -> Network:
    return network(1, 230)


@pytest.fixture(scope="module")
def colour_network() -> Network:
    return network(3, 12)


def test_only_bounds_on_discrete_images_are_called_likelihoods(
    grey_network: Network, colour_network: Network
) -> None:
    """Bernoulli on grey images is no likelihood; on binary ones, and in colour, it is one."""
    images, exported = grey_network
    assert measure(images[:10], exported)[1]["is_log_likelihood"] == 0
    assert measure(binarise(images[:10], 0), exported)[1]["is_log_likelihood"] == 1
    assert measure(*colour_network)[1]["is_log_likelihood"] == 1


def test_the_figures_are_those_of_their_names(colour_network: Network) -> None:
    """ELBO, IWAE bound and bits per dimension agree with each other and with a separate count."""
    images, exported = colour_network
    elbo, metrics = measure(images, exported)
    assert metrics["neg_elbo_nats"] == elbo.neg_elbo
    assert metrics["neg_elbo_nats"] == metrics["distortion_nats"] + metrics["rate_nats"]
    assert metrics["iwae_samples"] == IWAE_SAMPLES
    assert metrics["iwae_images"] == len(images)
    bounds = iwae_bounds(images, open_encoder(exported), open_decoder(exported), (1, IWAE_SAMPLES))
    assert metrics["neg_iwae_nats"] == pytest.approx(-bounds[IWAE_SAMPLES].mean(), rel=1e-6)
    gain = (bounds[IWAE_SAMPLES] - bounds[1]).mean()
    assert metrics["iwae_gain_nats"] == pytest.approx(gain, rel=1e-3)
    assert gain > 0
    for bits, nats in (
        ("bits_per_dimension", "neg_elbo_nats"),
        ("neg_iwae_bits_per_dimension", "neg_iwae_nats"),
    ):
        assert metrics[bits] * 16 * 16 * 3 * np.log(2) == pytest.approx(metrics[nats])


def test_the_work_is_bounded(grey_network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 200 images are bounded tightly, fewer where they are large, and at least one."""
    images, exported = grey_network
    assert measure(images, exported)[1]["iwae_images"] == IWAE_IMAGES < len(images)
    for values, count in ((7 * IWAE_SAMPLES * 256, 7), (1, 1)):
        monkeypatch.setattr(held_out, "IWAE_VALUES", values)
        assert measure(images, exported)[1]["iwae_images"] == count


def test_one_image_has_no_standard_error(grey_network: Network) -> None:
    """Every metric is finite, so that a manifest can hold it; what is unknown is absent."""
    images, exported = grey_network
    one, many = (measure(images[:n], exported)[1] for n in (1, 2))
    assert set(many) - set(one) == {"neg_elbo_standard_error", "neg_iwae_standard_error"}
    assert all(np.isfinite(value) for value in [*one.values(), *many.values()])
