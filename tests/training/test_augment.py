"""Views stay images, move as their settings say, and are drawn per image."""

import pytest
import torch

from handful_training.augment import Augment
from handful_training.config import AugmentConfig
from handful_training.draws import Part

STILL = AugmentConfig(preset="none")


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
    """The preset `none` gives the images themselves, bit for bit."""
    x = torch.rand(4, channels, 16, 24)
    assert torch.equal(Augment(STILL)(x, generator()), x)


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


def test_quarter_turns_are_exact_and_fair() -> None:
    """A square image comes out turned by 0, 90, 180 or 270 degrees, each about as often."""
    x = torch.rand(400, 3, 8, 8)
    view = Augment(STILL.model_copy(update={"quarter_turns": True}))(x, generator())
    turned = torch.stack([x.rot90(k, (2, 3)) for k in range(4)])
    hits = (turned - view).flatten(2).abs().amax(2) < 1e-4
    assert (hits.sum(0) == 1).all()
    assert all(60 < count < 140 for count in hits.sum(1).tolist())


@pytest.mark.parametrize(("key", "value"), [("shear", 0.5), ("rotation", 40.0), ("crop", 0.5)])
def test_a_warp_of_a_linear_image_is_that_linear_map(key: str, value: float) -> None:
    """Of the images x and y the views are affine; their slopes obey the law of the warp: slant
    leaves rows where they are, rotation is orthogonal, a cut-out is one scale inside the image.
    """
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")
    plane = torch.stack([columns, rows]).div(128)  # one scale for both: pixels are square
    x = torch.cat([plane, torch.zeros(1, 32, 64)])[None].expand(50, 3, 32, 64)
    asked = STILL.model_copy(update={key: value})
    view = Augment(asked)(x, generator())[:, :2, 14:18, 30:34].mul(128)  # the middle sees no border
    slope = torch.stack(
        [view[:, :, 1, 2] - view[:, :, 1, 1], view[:, :, 2, 1] - view[:, :, 1, 1]], 2
    )
    (a, b), (c, d) = slope.permute(1, 2, 0)  # input (x, y) per output column and row
    if key == "shear":
        torch.testing.assert_close(
            torch.stack([a, c, d]), torch.tensor([[1.0], [0], [1]]).expand(3, 50), atol=1e-3, rtol=0
        )
        assert 0.4 < b.abs().max() <= 0.5
    elif key == "rotation":
        torch.testing.assert_close(torch.stack([a, b]), torch.stack([d, -c]), atol=1e-3, rtol=0)
        torch.testing.assert_close(a.square() + c.square(), torch.ones(50), atol=1e-3, rtol=0)
        assert c.abs().max() > 0.5
    else:
        torch.testing.assert_close(
            torch.stack([a, b, c]), torch.stack([d, 0 * d, 0 * d]), atol=1e-3, rtol=0
        )
        assert 0.5 <= d.min() < 0.6
        assert 0.9 < d.max() <= 1 + 1e-5


def test_a_cut_out_lies_inside_the_image() -> None:
    """Of a pool whose border alone is white, hardly any view of a cut-out shows more of it."""
    x = torch.zeros(200, 1, 64, 64)
    x[:, :, [0, -1]] = x[:, :, :, [0, -1]] = 1
    view = Augment(STILL.model_copy(update={"crop": 0.6}))(x, generator())
    bright = (view > 0.99).sum((2, 3))
    assert bright.max() <= 4 * 64 * 1.5  # a border padded from beyond would fill whole stripes
    assert (view[:, 0, 16:48, 16:48] > 0.5).sum() == 0


def test_grey_views_have_no_colour() -> None:
    """The share `grey` of the views has three equal channels, of the image's own luma."""
    x = 0.3 + 0.4 * torch.rand(200, 3, 8, 8)
    view = Augment(STILL.model_copy(update={"grey": 0.25}))(x, generator())
    grey = (view.amax(1) - view.amin(1)).flatten(1).amax(1) < 1e-4
    assert 30 < grey.sum() < 75
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    torch.testing.assert_close(view[grey][:, 0], luma[grey], atol=1e-3, rtol=0)
    torch.testing.assert_close(view[~grey], x[~grey], atol=1e-3, rtol=0)


def test_light_changes_contrast_about_the_mean_then_brightness() -> None:
    """A view is scale * image + offset, and a constant image changes by brightness alone."""
    x = 0.3 + 0.2 * torch.rand(100, 1, 8, 8)
    view = Augment(STILL.model_copy(update={"contrast": 0.5}))(x, generator())
    torch.testing.assert_close(view.mean((1, 2, 3)), x.mean((1, 2, 3)))
    ratio = view.flatten(1).std(1) / x.flatten(1).std(1)
    assert 0.5 <= ratio.min() < 0.6
    assert 1.4 < ratio.max() <= 1.5
    flat = torch.full((100, 3, 8, 8), 0.4)
    lit = Augment(STILL.model_copy(update={"brightness": 0.5, "contrast": 0.9}))(flat, generator())
    factor = lit.flatten(1).mean(1) / 0.4
    assert 0.5 <= factor.min() < 0.6
    assert 1.4 < factor.max() <= 1.5 + 1e-4


@pytest.mark.parametrize("preset", ["safe", "digits", "natural", "texture"])
def test_parts_of_a_batch_are_slices_of_the_whole(preset: str) -> None:
    """Whatever the preset, views of rows 3 to 6 are rows 3 to 6 of the views of all."""
    x = torch.rand(9, 3, 16, 20)
    augment = Augment(AugmentConfig.model_validate({"preset": preset, "erase": 0.3}))
    whole, part = augment(x, generator(1)), Part(3, 7, 9)
    torch.testing.assert_close(augment(x[part.rows], generator(1), part), whole[part.rows])
