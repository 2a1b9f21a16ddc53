"""Free bits keep latents from collapsing, and change the loss alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from handful_bundle.manifest import ImageSpec
from handful_training.config import Config, ObjectiveConfig, load_config
from handful_training.errors import InputError
from handful_training.loss import training_loss
from handful_training.model import Output, Posterior, Vae
from handful_training.objective import elbo, free_bits_rate, kl_per_dimension
from handful_training.pretrain import Budget, pretrain

VALUES = 16


def test_negative_free_bits_are_bad_usage() -> None:
    """The setting is refused by its name."""
    with pytest.raises(InputError, match=r"objective\.free_bits"):
        load_config(None, ["objective.free_bits=-0.1"])


def random_output() -> tuple[Tensor, Output]:
    """Return images and what an imagined network made of them; half its latents have collapsed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 4, 4, generator=generator)
    scale = torch.tensor([1.0, 1.0, 0.01, 0.01])
    mean = scale * torch.randn(5, 4, generator=generator)
    log_variance = scale * torch.randn(5, 4, generator=generator)
    parameters = torch.randn(5, 1, 4, 4, generator=generator)
    return images, Output(Posterior(mean, mean, log_variance), parameters, None)


def test_free_bits_lift_each_dimension_to_their_level() -> None:
    """The rate is the sum of max(lambda, mean KL): of the batch, not of each image."""
    kl = torch.tensor([[0.0, 0.2, 3.0], [0.4, 0.0, 1.0]])  # means 0.2, 0.1, 2.0
    assert free_bits_rate(kl, 0.0).item() == pytest.approx(2.3)
    assert free_bits_rate(kl, 0.15).item() == pytest.approx(0.2 + 0.15 + 2.0)
    assert free_bits_rate(kl, 5.0).item() == pytest.approx(15.0)


def test_below_their_level_a_dimension_is_not_pushed() -> None:
    """The gradient of the rate is zero below lambda, and that of the mean KL above."""
    kl = torch.tensor([[0.1, 0.2], [0.1, 2.0]], requires_grad=True)
    free_bits_rate(kl, 0.5).backward()
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))


def test_without_free_bits_the_loss_is_the_negative_elbo_to_the_last_bit() -> None:
    """By default the loss is -mean(ELBO) / values exactly, so earlier trainings are repeatable."""
    images, output = random_output()
    config = ObjectiveConfig(kl_warm_up=0)
    loss, _ = training_loss(images, output, "bernoulli", config, 1.0)
    _, mean, log_variance = output.posterior
    terms = elbo(images, output.parameters, mean, log_variance, likelihood="bernoulli")
    assert torch.equal(loss, -terms.value.mean() / VALUES)


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_free_bits_change_the_loss_alone(beta: float) -> None:
    """The loss rises by beta x what the collapsed latents lack; distortion and rate stay."""
    images, output = random_output()
    plain = ObjectiveConfig(beta=beta, kl_warm_up=0)
    free = ObjectiveConfig(beta=beta, kl_warm_up=0, free_bits=0.25)
    loss, terms = training_loss(images, output, "bernoulli", plain, 1.0)
    raised, same = training_loss(images, output, "bernoulli", free, 1.0)
    kl = kl_per_dimension(*output.posterior[1:]).mean(0)
    lack = (0.25 - kl).clamp(min=0).sum()
    assert lack > 0.4
    torch.testing.assert_close(raised - loss, beta * lack / VALUES)
    for name in ("distortion", "rate", "invariance"):
        assert torch.equal(terms[name], same[name])


def mean_kl(model: Vae, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        _, mean, log_variance = model.encoder(x)
    return np.sort(kl_per_dimension(mean, log_variance).mean(0).numpy())


def test_latents_that_collapse_are_kept_at_their_free_bits(
    shapes: tuple[NDArray[np.uint8], NDArray], grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """With a strong rate latents collapse; with free bits each holds about that much."""
    floor = 0.25

    def trained(free_bits: float) -> NDArray[np.float64]:
        objective = small.objective.model_copy(
            update={"invariance_weight": 0.0, "beta": 20.0, "free_bits": free_bits}
        )
        config = small.model_copy(update={"objective": objective})
        run = pretrain(shapes[0], grey, config, Budget(60, None), tmp_path, device="cpu")
        return mean_kl(run.model, shapes[0])

    collapsed, kept = trained(0.0), trained(floor)
    assert (collapsed < 0.1 * floor).all()
    assert (kept > 0.7 * floor).all()
