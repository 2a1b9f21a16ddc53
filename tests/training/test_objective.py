"""The identities that the objective's docstring opens with, and its terms against torch's own."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from handful_bundle import decoder as numpy_terms
from handful_training.objective import (
    distortion,
    elbo,
    info_nce,
    kl_per_dimension,
    sample,
)

PIXELS, LATENTS = 6, 3


class LinearGaussian:
    """p(z) = N(0, I), p(x|z) = N(Wz + b, s^2 I): posterior and evidence have closed forms."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.W = torch.randn(PIXELS, LATENTS, generator=generator, dtype=torch.float64)
        self.b = torch.randn(PIXELS, generator=generator, dtype=torch.float64)
        self.s = 0.7
        self.x = torch.randn(PIXELS, generator=generator, dtype=torch.float64)

    def evidence(self) -> Tensor:
        covariance = self.W @ self.W.T + self.s**2 * torch.eye(PIXELS, dtype=torch.float64)
        return MultivariateNormal(self.b, covariance).log_prob(self.x)

    def posterior(self) -> MultivariateNormal:
        precision = torch.eye(LATENTS, dtype=torch.float64) + self.W.T @ self.W / self.s**2
        covariance = torch.linalg.inv(precision)
        mean = covariance @ self.W.T @ (self.x - self.b) / self.s**2
        return MultivariateNormal(mean, covariance)

    def expected_log_likelihood(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """E_q log N(x; Wz + b, s^2 I) for q = N(mean, diag(exp(log_variance)))."""
        residual = self.x - self.b - self.W @ mean
        spread = (self.W.square() * log_variance.exp()).sum()
        constant = PIXELS * math.log(2 * math.pi * self.s**2)
        return -0.5 * (constant + (residual.square().sum() + spread) / self.s**2)


@pytest.mark.parametrize("seed", range(5))
def test_evidence_is_posterior_gap_plus_elbo(seed: int) -> None:
    """log p(x) = KL(q || p(z|x)) + E_q log p(x|z) - KL(q || p(z)) for any Gaussian q."""
    model = LinearGaussian()
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(1, LATENTS, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(1, LATENTS, generator=generator, dtype=torch.float64)
    q = MultivariateNormal(mean[0], torch.diag(log_variance[0].exp()))
    gap = kl_divergence(q, model.posterior())
    rate = kl_per_dimension(mean, log_variance).sum()
    bound = model.expected_log_likelihood(mean[0], log_variance[0]) - rate
    torch.testing.assert_close(gap + bound, model.evidence())
    assert gap > 0


def test_sampling_estimates_the_expected_log_likelihood() -> None:
    """Reparameterised samples have q's moments, so their mean log p(x|z) converges to E_q."""
    model = LinearGaussian()
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(1, LATENTS, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(1, LATENTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(200_000, LATENTS, generator=generator, dtype=torch.float64)
    z = sample(mean, log_variance, noise)
    likelihood = Independent(Normal(z @ model.W.T + model.b, model.s), 1).log_prob(model.x)
    standard_error = likelihood.std() / math.sqrt(len(z))
    exact = model.expected_log_likelihood(mean[0], log_variance[0])
    assert abs(likelihood.mean() - exact) < 5 * standard_error


def test_rate_is_the_kl_of_torch_distributions() -> None:
    """The closed form is KL(Normal(mean, std) || Normal(0, 1)), and zero for the prior."""
    mean, log_variance = torch.randn(20, 7), torch.randn(20, 7)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_dimension(mean, log_variance), expected)
    assert kl_per_dimension(torch.zeros(1, 1), torch.zeros(1, 1)) == 0


def test_bernoulli_distortion_is_the_log_probability_of_binary_images() -> None:
    """For pixels in {0, 1} the distortion is -log p of torch's Bernoulli, summed over pixels."""
    x = torch.randint(0, 2, (5, 1, 4, 4)).float()
    logits = torch.randn(5, 1, 4, 4)
    expected = -Bernoulli(logits=logits).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(distortion(x, logits, "bernoulli"), expected)


def test_discretised_logistic_is_a_distribution_over_the_256_intensities() -> None:
    """The masses of all 256 values of a pixel sum to one, wherever the logistic lies."""
    values = (torch.arange(256, dtype=torch.float64) / 255).view(256, 1, 1, 1)
    for mean in (-0.3, 0.0, 0.4, 1.0, 1.7):
        for log_scale in (-6.0, -4.0, -1.0, 1.0):
            parameters = torch.tensor([mean, log_scale], dtype=torch.float64).view(1, 2, 1, 1)
            mass = (
                -distortion(values, parameters.expand(256, 2, 1, 1), "discretised_logistic")
            ).exp()
            torch.testing.assert_close(mass.sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("likelihood", "parameters"), [("bernoulli", 3), ("discretised_logistic", 6)]
)
def test_torch_and_numpy_agree_on_the_terms(likelihood: str, parameters: int) -> None:
    """The distortion and rate that the service computes are those that training minimised."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 5, 6, 3), np.uint8)
    values = rng.normal(0, 1, (4, 5, 6, parameters)).astype(np.float32)
    mean, log_variance = rng.normal(size=(2, 4, 7)).astype(np.float32)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    terms = elbo(
        x,
        torch.from_numpy(values).permute(0, 3, 1, 2),
        torch.from_numpy(mean),
        torch.from_numpy(log_variance),
        likelihood=likelihood,
    )
    expected = numpy_terms.distortion(images, values, likelihood)
    np.testing.assert_allclose(terms.distortion, expected, rtol=1e-4)
    np.testing.assert_allclose(terms.rate, numpy_terms.rate(mean, log_variance), rtol=1e-4)


def test_beta_weighs_the_rate_alone() -> None:
    """value = -distortion - beta * rate, whatever beta is."""
    x, logits = torch.rand(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    mean, log_variance = torch.randn(3, 2), torch.randn(3, 2)
    for beta in (0.0, 0.5, 4.0):
        terms = elbo(x, logits, mean, log_variance, likelihood="bernoulli", beta=beta)
        torch.testing.assert_close(terms.value, -terms.distortion - beta * terms.rate)


def test_extreme_parameters_keep_the_gradient_finite() -> None:
    """Black and white pixels far from a narrow logistic still give finite losses and gradients."""
    x = torch.tensor([0.0, 1.0, 0.5]).view(1, 3, 1, 1)
    values = torch.tensor([9.0, -9.0, 30.0, -6.0, -6.0, -6.0]).view(1, 6, 1, 1).requires_grad_()
    loss = distortion(x, values, "discretised_logistic").sum()
    loss.backward()
    assert loss.isfinite()
    assert values.grad is not None
    assert values.grad.isfinite().all()


def test_info_nce_is_bounded_by_ignorance_and_rewards_agreement() -> None:
    """A constant projection costs log(2B - 1) nats; distinct, agreeing views cost less."""
    constant = torch.ones(8, 4)
    ignorance = math.log(2 * 8 - 1)
    assert info_nce(constant, constant, 0.2).item() == pytest.approx(ignorance, rel=1e-5)
    apart = torch.eye(8)
    assert info_nce(apart, apart, 0.2) < 0.2
    assert info_nce(apart, apart.roll(1, 0), 0.2) > ignorance


def test_info_nce_does_not_care_for_length_order_or_side() -> None:
    """Scaling projections, permuting pairs and swapping the views leaves the loss as it is."""
    first, second = torch.randn(2, 6, 5)
    loss = info_nce(first, second, 0.3)
    order = torch.randperm(6)
    torch.testing.assert_close(info_nce(3 * first, 0.1 * second, 0.3), loss)
    torch.testing.assert_close(info_nce(first[order], second[order], 0.3), loss)
    torch.testing.assert_close(info_nce(second, first, 0.3), loss)
