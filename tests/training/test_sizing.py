"""Sizes are bounded, grow with the means, and what is set stays."""

import itertools

import pytest

from handful_bundle.manifest import ImageSpec
from handful_training.config import Config, load_config
from handful_training.model import Vae, default_width
from handful_training.sizing import (
    GPU_WIDTH,
    MAX_BATCH,
    MAX_EPOCHS,
    MIN_STEPS,
    MIN_WIDTH,
    SIDES,
    Means,
    default_batch_size,
    default_epochs,
    default_family,
    side_limit,
    sized,
)

GREY = ImageSpec(height=28, width=28, channels=1)
COLOUR = ImageSpec(height=224, width=224, channels=3)
TEN_MINUTES = Means(gpu=False, cores=2, seconds=600)
COUNTS = (4, 200, 2000, 60_000, 240_000)


def test_nothing_is_left_open_and_sizing_again_changes_nothing() -> None:
    """Every size of a sized configuration is a number, and stays under other means."""
    for spec, count in itertools.product((GREY, COLOUR), COUNTS):
        config = sized(Config(), spec, count, TEN_MINUTES)
        model = config.model
        assert None not in (model.family, model.width, model.embedding_dim, model.latent_dim)
        assert config.optimiser.batch_size is not None
        assert sized(config, spec, 7 * count, Means(gpu=True, cores=9, seconds=1)) == config


def test_what_is_set_wins() -> None:
    """Sizes that the user names are taken, however slow."""
    settings = ["model.width=64", "model.embedding_dim=99", "model.latent_dim=7",
                "optimiser.batch_size=12"]  # fmt: skip
    config = sized(load_config(None, settings), COLOUR, 60_000, TEN_MINUTES)
    assert (config.model.width, config.model.embedding_dim, config.model.latent_dim) == (64, 99, 7)
    assert config.optimiser.batch_size == 12


def test_a_sized_network_is_the_one_that_unset_sizes_give() -> None:
    """With time enough on a CPU, sizing changes no network: shapes are those of the defaults."""
    config = sized(Config(), GREY, 60_000, TEN_MINUTES)
    one, other = Vae(GREY, config.model, 8), Vae(GREY, Config().model, 8)
    assert [w.shape for w in one.parameters()] == [w.shape for w in other.parameters()]
    assert one.latent_dim == config.model.latent_dim


def test_width_grows_with_time_and_falls_with_images() -> None:
    """It is monotone in both and bounded; a GPU has no narrower network than any CPU."""

    def width(count: int, seconds: float | None, *, gpu: bool = False) -> int:
        found = sized(Config(), COLOUR, count, Means(gpu, 2, seconds)).model.width
        assert found is not None
        return found

    by_time = [width(20_000, seconds) for seconds in (10, 100, 600, 6000, 60_000)]
    by_count = [width(count, 600) for count in COUNTS]
    assert by_time == sorted(by_time)
    assert by_count == sorted(by_count, reverse=True)
    assert min(by_time) == MIN_WIDTH
    assert max(by_time) == default_width(COLOUR)
    assert width(20_000, None) == default_width(COLOUR)
    assert width(20_000, 600, gpu=True) == GPU_WIDTH * default_width(COLOUR)


def test_residual_networks_are_for_gpus_with_colour_or_large_images() -> None:
    """Small grey images and processors keep the convolutional family; what is set stays."""
    large = ImageSpec(height=64, width=80, channels=1)
    gpu = Means(gpu=True, cores=2, seconds=600)
    found = [default_family(spec, gpu) for spec in (GREY, COLOUR, large)]
    assert found == ["convolutional", "residual", "residual"]
    assert {default_family(s, TEN_MINUTES) for s in (GREY, COLOUR, large)} == {"convolutional"}
    asked = load_config(None, ["model.family=residual"])
    assert sized(asked, GREY, 100, TEN_MINUTES).model.family == "residual"


def test_sides_grow_with_time_and_fall_with_images() -> None:
    """Few images keep 256 pixels on the CPU, many get 64; a GPU keeps all."""
    by_count = [side_limit(count, TEN_MINUTES) for count in COUNTS]
    by_time = [side_limit(10_000, Means(False, 2, s)) for s in (1, 60, 600, 6000)]
    assert by_count == sorted(by_count, reverse=True)
    assert by_time == sorted(by_time)
    assert set(by_count) | set(by_time) <= set(SIDES)
    assert side_limit(200, TEN_MINUTES) == 256
    assert side_limit(240_000, TEN_MINUTES) == 64
    assert side_limit(240_000, Means(gpu=True, cores=1, seconds=600)) == 256


@pytest.mark.parametrize("rows", [1, 5, 31, 180, 255, 1000, 1800, 2048, 60_000])
def test_batches_leave_steps_to_an_epoch(rows: int) -> None:
    """At most 256 and never more than there are; small sets have several steps an epoch."""
    size = default_batch_size(rows)
    assert 1 <= size <= min(rows, MAX_BATCH)
    assert size == MAX_BATCH if rows >= 2048 else rows // size >= min(8, rows // 32)


def test_epochs_are_many_enough_for_small_sets() -> None:
    """At least 400, and at least 4,000 steps, whatever the number of images."""
    for rows in (4, 180, 1800, 60_000):
        batch = default_batch_size(rows)
        epochs = default_epochs(rows, batch)
        assert epochs >= MAX_EPOCHS
        assert epochs * (rows // batch) >= MIN_STEPS
    assert default_epochs(60_000, 256) == MAX_EPOCHS
