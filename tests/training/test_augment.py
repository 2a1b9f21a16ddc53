"""Views stay images, move as their settings say, and are drawn per image."""

import pytest
import torch

from handful_training.augment import Augment
from handful_training.config import AugmentConfig

STILL = AugmentConfig(
    shift=0,
    zoom=0,
    stretch=0,
    rotation=0,
    flip=False,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    erase=0,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_images_of_the_same_shape(channels: int) -> None:
    """With every transform on, values stay in [0, 1] and the shape stays."""
    wild = AugmentConfig(rotation=180, zoom=0.9, erase=0.5, flip_vertical=True, hue=0.5)
    x = torch.rand(16, channels, 20, 33)
    view = Augment(wild)(x, generator())
    assert view.shape == x.shape
    assert view.isfinite().all()
    assert view.min() >= 0
    assert view.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_switched_off_it_is_the_identity(channels: int) -> None:
    """With every range at zero a view is the image itself."""
    x = torch.rand(4, channels, 16, 24)
    torch.testing.assert_close(Augment(STILL)(x, generator()), x, atol=1e-5, rtol=0)


def test_the_generator_decides() -> None:
    """The same generator state gives the same views; images get different ones."""
    x = torch.rand(1, 1, 16, 16).expand(8, 1, 16, 16)
    one, again = (Augment(AugmentConfig())(x, generator(3)) for _ in range(2))
    torch.testing.assert_close(one, again)
    assert (one[0] - one[1]).abs().max() > 0.01


def test_flips_are_exact_and_fair() -> None:
    """A flip is the exact mirror image, for about half of the images."""
    x = torch.rand(400, 1, 8, 8)
    view = Augment(STILL.model_copy(update={"flip": True}))(x, generator())
    mirrored = (view - x.flip(3)).flatten(1).abs().amax(1) < 1e-5
    same = (view - x).flatten(1).abs().amax(1) < 1e-5
    assert (mirrored ^ same).all()
    assert 120 < mirrored.sum() < 280


def test_shifts_stay_within_their_range() -> None:
    """The centre of mass of a dot moves by at most `shift` of the side, and does move."""
    x = torch.zeros(200, 1, 33, 33)
    x[:, :, 15:18, 15:18] = 1
    view = Augment(STILL.model_copy(update={"shift": 0.1}))(x, generator())
    place = torch.arange(33.0)
    centre = (view.sum((1, 2)) * place).sum(1) / view.sum((1, 2, 3))
    assert (centre - 16).abs().max() <= 0.1 * 33 + 0.1
    assert (centre - 16).abs().max() > 0.05 * 33


def test_zoom_is_symmetric_and_rotation_keeps_shape_in_oblong_images() -> None:
    """Areas grow and shrink alike in log terms; a rotated disc in an oblong image stays a disc."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(128.0), indexing="ij")
    disc = ((rows - 31.5).hypot(columns - 63.5) < 12).float().expand(300, 1, 64, 128)
    zoomed = Augment(STILL.model_copy(update={"zoom": 0.4}))(disc, generator())
    ratio = (zoomed.sum((1, 2, 3)) / disc.sum((1, 2, 3))).log()
    assert abs(ratio.mean()) < 0.06
    assert ratio.max() > 0.4
    turned = Augment(STILL.model_copy(update={"rotation": 90.0}))(disc, generator())
    assert (turned - disc).abs().mean() < 0.005


def test_colour_keeps_luma_where_only_the_hue_turns() -> None:
    """Turning the chroma plane leaves the luma of unclipped colours."""
    x = 0.4 + 0.2 * torch.rand(10, 3, 8, 8)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    view = Augment(STILL.model_copy(update={"hue": 0.2}))(x, generator())
    torch.testing.assert_close((view * luma).sum(1), (x * luma).sum(1), atol=1e-3, rtol=0)
    assert (view - x).abs().max() > 0.02
