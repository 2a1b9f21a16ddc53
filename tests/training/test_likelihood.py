"""The held-out ELBO tells what each latent dimension is worth."""

from types import SimpleNamespace

import numpy as np
import pytest

from handful_bundle.decoder import distortion
from handful_bundle.encoder import Encoding
from handful_training.likelihood import HeldOutElbo, held_out_elbo


def elbo_of(mean: np.ndarray, log_variance: np.ndarray) -> HeldOutElbo:
    """Return it for a posterior that is known, and p(x|z) = 1/2 for each of 16 binary pixels."""

    def encoder(images: np.ndarray) -> Encoding:
        return Encoding(mean[: len(images)], mean[: len(images)], log_variance[: len(images)])

    class Decoder:
        likelihood = "bernoulli"

        def __call__(self, latent: np.ndarray) -> SimpleNamespace:
            return SimpleNamespace(likelihood=np.zeros((len(latent), 4, 4, 1), np.float32))

    images = np.random.default_rng(0).integers(0, 2, (len(mean), 4, 4, 1), np.uint8) * 255
    return held_out_elbo(images.astype(np.uint8), encoder, Decoder())


def test_collapsed_dimensions_are_found_by_their_kl() -> None:
    """A dimension that equals the prior is inactive; one whose mean never moves may still be
    active. The most informative comes first.
    """
    mean, log_variance = np.zeros((100, 3), np.float32), np.zeros((100, 3), np.float32)
    mean[:, 1] = 2 * np.random.default_rng(0).standard_normal(100)
    log_variance[:, 2] = -1.0
    found = elbo_of(mean, log_variance)
    assert found.active.tolist() == [1, 2]
    assert found.kl[0] == 0


def test_its_terms_have_their_closed_forms() -> None:
    """The distortion of fair coins is log 2 per pixel, the rate is the sum of the KL terms."""
    mean = np.full((50, 2), 0.5, np.float32)
    found = elbo_of(mean, np.zeros((50, 2), np.float32))
    assert found.distortion == pytest.approx(16 * np.log(2))
    assert found.rate == pytest.approx(2 * 0.5 * 0.25)
    assert found.kl.sum() == pytest.approx(found.rate)
    assert found.neg_elbo == pytest.approx(found.distortion + found.rate)
    assert found.images == 50


def test_the_discretised_logistic_is_a_distribution_over_the_256_intensities() -> None:
    """Outside torch, too, the masses of all 256 values of a pixel sum to one."""
    values = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    for mean in (-0.3, 0.0, 0.4, 1.0, 1.7):
        for log_scale in (-6.0, -4.0, -1.0, 1.0):
            parameters = np.full((256, 1, 1, 2), (mean, log_scale), np.float32)
            mass = np.exp(-distortion(values, parameters, "discretised_logistic"))
            assert mass.sum() == pytest.approx(1, rel=1e-9)


def test_the_standard_error_is_that_of_the_mean() -> None:
    """Where images differ only by their rate, the error is the rates' deviation over root N."""
    mean = np.zeros((50, 1), np.float32)
    mean[::2] = 2.0  # a rate of 2 nats, and 0
    found = elbo_of(mean, np.zeros((50, 1), np.float32))
    assert found.standard_error == pytest.approx(np.std([0, 2] * 25, ddof=1) / np.sqrt(50))
