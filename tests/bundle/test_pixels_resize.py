import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from handful_bundle.errors import ImageUnreadable
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import MAX_SIDE, decode, encode_png, resize

POLICIES = ["stretch", "fit", "crop"]
few = settings(max_examples=60, deadline=None, derandomize=True)
sides = st.integers(1, 70)
specs = st.builds(
    ImageSpec,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    resize=st.sampled_from(POLICIES),
)
arrays = st.tuples(sides, sides, st.sampled_from([1, 3])).flatmap(
    lambda shape: npst.arrays(np.uint8, shape)
)


def spec(height, width, policy="fit", channels=3):
    return ImageSpec(height=height, width=width, channels=channels, resize=policy)


@few
@given(pixels=arrays, policy=st.sampled_from(POLICIES))
def test_the_right_size_is_left_alone(pixels, policy):
    """Every policy is the identity on pixels of the target's size, also by way of a PNG file."""
    target = spec(*pixels.shape[:2], policy, pixels.shape[2])
    np.testing.assert_array_equal(resize(pixels, target), pixels)
    np.testing.assert_array_equal(decode(encode_png(pixels), target), pixels)


@few
@given(pixels=arrays, target=specs)
def test_files_and_arrays_give_the_same_pixels(pixels, target):
    """`decode` of a lossless file is `resize` of its pixels: uint8 of the target's shape."""
    found = resize(pixels, target)
    assert (found.shape, found.dtype) == (target.shape, np.uint8)
    np.testing.assert_array_equal(decode(encode_png(pixels), target), found)


@few
@given(pixels=arrays, target=specs)
def test_no_value_leaves_the_range_of_the_picture(pixels, target):
    """Resampling never overshoots: only the padding of `fit` may be darker than the darkest."""
    pixels = pixels[:, :, :1]
    target = target.model_copy(update={"channels": 1})
    found = resize(pixels, target)
    assert found.max() <= pixels.max()
    if target.resize != "fit":
        assert found.min() >= pixels.min()


@few
@given(height=sides, width=sides, target=specs)
def test_fit_shows_all_of_it_centred_on_black(height, width, target):
    """A white picture becomes one white rectangle of its aspect, touching two opposite edges."""
    target = target.model_copy(update={"resize": "fit", "channels": 1})
    found = resize(np.full((height, width), 255, np.uint8), target)[:, :, 0]
    assert set(np.unique(found)) <= {0, 255}
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert (found[np.ix_(rows, columns)] == 255).all()
    shown_height, shown_width = len(rows), len(columns)
    factor = min(target.height / height, target.width / width)
    assert abs(shown_height - max(1, height * factor)) <= 0.5
    assert abs(shown_width - max(1, width * factor)) <= 0.5
    assert shown_height == target.height or shown_width == target.width
    assert rows[0] == (target.height - shown_height) // 2
    assert columns[0] == (target.width - shown_width) // 2


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("excess", [0, 1, 2, 7])
def test_crop_without_scaling_is_a_slice(axis, excess, picture):
    """Where only one side is too long, its middle is cut out bit for bit."""
    size = [24, 24]
    size[axis] += excess
    pixels = picture(*size)
    expected = np.take(pixels, range(excess // 2, excess // 2 + 24), axis=axis)
    np.testing.assert_array_equal(resize(pixels, spec(24, 24, "crop")), expected)


def test_crop_shows_the_middle_at_every_scale():
    """Of three equal stripes the target shows the middle one alone, whichever way they lie."""
    for side in (5, 24, 111):
        stripes = np.repeat(np.array([0, 200, 90], np.uint8), side)
        across = np.broadcast_to(stripes, (side, 3 * side))
        for pixels in (across, across.T):
            for size in (1, 7, 24, 50):
                found = resize(pixels, spec(size, size, "crop", 1))
                np.testing.assert_array_equal(found, 200)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_averages_what_it_covers(policy, factor):
    """Antialiased: a fine chessboard becomes even grey, not an alias of itself."""
    board = np.indices((24 * factor, 24 * factor)).sum(axis=0) % 2 * 255
    found = resize(board.astype(np.uint8), spec(24, 24, policy, 1))
    assert np.abs(found[2:-2, 2:-2].astype(int) - 127).max() <= 16


def test_stretch_keeps_a_ramp_a_ramp():
    """A linear ramp stays linear on either axis, within rounding, when shrunk or enlarged."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (50, 200))
    for pixels in (ramp, ramp.T):
        for height, width in ((25, 50), (50, 100), (20, 400), (400, 20)):
            found = resize(pixels, spec(height, width, "stretch", 1))[:, :, 0].astype(float)
            line = found.mean(axis=0) if pixels is ramp else found.mean(axis=1)
            centres = (np.arange(line.size) + 0.5) * 200 / line.size - 0.5
            middle = slice(line.size // 8, -line.size // 8)  # at the ends there is no more ramp
            assert np.abs(line - centres)[middle].max() <= 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(1, 1), (1, MAX_SIDE), (MAX_SIDE, 1), (3, 9000)])
def test_extreme_shapes_have_a_result(policy, size):
    """From one pixel to the longest side allowed, a value stays what it is, in little memory."""
    pixels = np.full(size, 77, np.uint8)
    for height, width in ((1, 1), (28, 28), (1, 300), (300, 1)):
        found = resize(pixels, spec(height, width, policy, 1))
        assert found.shape == (height, width, 1)
        assert set(np.unique(found)) <= ({0, 77} if policy == "fit" else {77})
        assert 77 in found


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8), np.int64),
        np.zeros((8, 8), bool),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
        np.zeros((1, MAX_SIDE + 1), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}{list(pixels.shape)}",
)
def test_arrays_that_are_no_images_are_refused(pixels):
    """Another type, another number of axes or channels, no pixels or too many on a side."""
    with pytest.raises(ImageUnreadable):
        resize(pixels, spec(8, 8))


def test_views_are_read_as_they_look(picture):
    """Strided and reversed arrays give what their contiguous copies give."""
    pixels = picture(60, 80)
    for view in (pixels[::-1], pixels[:, ::2], pixels.swapaxes(0, 1), pixels[:, :, 1]):
        target = spec(16, 16)
        np.testing.assert_array_equal(resize(view, target), resize(view.copy(), target))
