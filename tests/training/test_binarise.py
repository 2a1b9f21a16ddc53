"""Dynamic binarisation draws each pixel by its intensity, and training sees what it draws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.binarise import binarise, is_binary
from handful_training.config import Config
from handful_training.errors import InputError
from handful_training.model import Encoder
from handful_training.pretrain import Budget, pretrain

Shapes = tuple[NDArray[np.uint8], NDArray]


def binarising(config: Config, weight: float = 0.0, **model: str) -> Config:
    objective = config.objective.model_copy(update={"binarise": True, "invariance_weight": weight})
    network = config.model.model_copy(update=model)
    return config.model_copy(update={"objective": objective, "model": network})


def test_a_pixel_is_white_as_often_as_it_is_bright() -> None:
    """An intensity v becomes 255 with frequency v / 255, up to noise, and else 0."""
    count = 20_000
    images = np.tile(np.arange(256, dtype=np.uint8), (count, 1))
    drawn = binarise(images, 0)
    assert drawn.dtype == np.uint8
    assert is_binary(drawn)
    expected = np.arange(256) / 255
    noise = np.sqrt(expected * (1 - expected) / count)
    # 5 sigma for 256 intensities; black and white have no noise, so they must be exact
    assert (np.abs((drawn == 255).mean(0) - expected) <= 5 * noise).all()


def test_pixels_are_drawn_independently() -> None:
    """Neighbouring pixels of one intensity agree no more often than two coins."""
    drawn = binarise(np.full((200, 32, 32, 1), 128, np.uint8), 1) == 255
    agree = (drawn[:, 1:] == drawn[:, :-1]).mean()
    assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(200 * 31 * 32)


def test_the_seed_decides_what_is_drawn() -> None:
    """The same seed draws the same images, another seed others; binary ones stay as they are."""
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    once = binarise(images, (3, 1))
    np.testing.assert_array_equal(binarise(images, (3, 1)), once)
    assert (binarise(images, (3, 2)) != once).any()
    np.testing.assert_array_equal(binarise(once, 9), once)
    assert not is_binary(images)


def test_an_equal_seed_elsewhere_draws_other_numbers() -> None:
    """Pixels do not follow numbers that somebody else draws with the same seed."""
    drawn = binarise(np.full((100, 16, 16, 1), 128, np.uint8), 5) == 255
    others = np.random.default_rng(5).random(drawn.shape, np.float32) < 128 / 255
    assert abs((drawn == others).mean() - 0.5) < 5 * 0.5 / np.sqrt(drawn.size)


def test_training_on_binary_images_is_left_as_it_is(
    shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """Binarising what is binary changes no weight; binarising grey images changes them."""
    plain = small.model_copy(
        update={"objective": small.objective.model_copy(update={"invariance_weight": 0.0})}
    )

    def weights(images: NDArray[np.uint8], config: Config) -> torch.Tensor:
        run = pretrain(images, grey, config, Budget(1, None), tmp_path, device="cpu")
        return torch.cat([value.flatten() for value in run.model.parameters()])

    binary = binarise(shapes[0], 0)
    assert torch.equal(weights(binary, plain), weights(binary, binarising(small)))
    assert not torch.equal(weights(shapes[0], plain), weights(shapes[0], binarising(small)))


def test_each_epoch_draws_anew_and_views_stay_grey(
    shapes: Shapes, grey: ImageSpec, small: Config, tmp_path: Path
) -> None:
    """The ELBO sees binary images, others each time; what is only embedded is never binarised."""
    optimiser = small.optimiser.model_copy(update={"batch_size": 380})  # all in one batch, in order
    config = binarising(small, weight=1.0).model_copy(update={"optimiser": optimiser})
    objective = config.objective.model_copy(update={"elbo_every": 1})
    config = config.model_copy(update={"objective": objective})
    seen: list[torch.Tensor] = []

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if isinstance(module, Encoder):
            seen.append(inputs[0].clone())

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        pretrain(shapes[0], grey, config, Budget(3, None), tmp_path, device="cpu")
    finally:
        hook.remove()
    assert len(seen) == 3
    for images, views in (batch.tensor_split([380]) for batch in seen):
        assert ((images == 0) | (images == 1)).all()
        assert ((views > 0) & (views < 1)).flatten(1).any(dim=1).all()
    once, again, last = (batch[:380] for batch in seen)
    for one, other in ((once, again), (again, last), (once, last)):
        assert 0.01 < (one != other).float().mean() < 0.5


@pytest.mark.parametrize(
    ("channels", "likelihood", "remedy"),
    [(3, "bernoulli", "image.channels=1"), (1, "discretised_logistic", "likelihood=bernoulli")],
)
def test_what_cannot_be_binarised_is_bad_usage(
    channels: int, likelihood: str, remedy: str, small: Config, tmp_path: Path
) -> None:
    """Colour images and other likelihoods end at once in a message with the remedy."""
    spec = ImageSpec(height=16, width=16, channels=channels)
    images = np.zeros((8, 16, 16, channels), np.uint8)
    config = binarising(small, likelihood=likelihood)
    with pytest.raises(InputError, match=remedy):
        pretrain(images, spec, config, Budget(1, None), tmp_path, device="cpu")
