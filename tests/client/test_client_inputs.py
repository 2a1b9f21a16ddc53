"""What may be given as an image."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful_client import Handful, errors
from handful_client.images import load


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)


def test_all_kinds_of_one_image_agree(client, pixels, behave, tmp_path):
    """The same picture as path, bytes, file, PIL image and array has one embedding."""
    data = behave.encode(pixels)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    kinds = [
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        Image.fromarray(pixels),
        pixels,
    ]
    found = client.embed(kinds).raise_for_errors().embeddings
    np.testing.assert_allclose(found, np.tile(found[0], (len(kinds), 1)), rtol=1e-5, atol=1e-6)
    with path.open("rb") as file:
        alone = client.embed(file).embeddings[0]
    np.testing.assert_allclose(alone, found[0], rtol=1e-5, atol=1e-6)


def test_arrays_of_the_models_own_shape_travel_as_they_are(client, behave):
    """A stack [N,H,W,C] of the model's shape, its images one by one, and their PNGs agree."""
    stack = np.random.default_rng(2).integers(0, 256, (70, 16, 16, 3), np.uint8)
    expected = client.embed([behave.encode(image) for image in stack]).embeddings
    np.testing.assert_allclose(client.embed(stack).embeddings, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(client.embed(stack[4]).embeddings[0], expected[4], rtol=1e-5)
    assert len(client.classify(stack[:9])) == 9


def test_grey_arrays_of_any_form_agree(client):
    """[H,W], [H,W,1] and the colour picture of equal channels have one embedding."""
    grey = np.random.default_rng(3).integers(0, 256, (20, 20), np.uint8)
    forms = [grey, grey[:, :, None], np.repeat(grey[:, :, None], 3, axis=2)]
    found = client.embed(forms).raise_for_errors().embeddings
    np.testing.assert_allclose(found, np.tile(found[0], (3, 1)), rtol=1e-5, atol=1e-6)


def test_pil_images_are_sent_as_they_are_shown(bundle_dir, pixels):
    """An EXIF orientation counts for a PIL image as it does for its file."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    with Handful.local(bundle_dir, threads=1) as client:
        file, opened = client.embed([buffer.getvalue(), Image.open(buffer)]).embeddings
    np.testing.assert_allclose(opened, file, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pil_images_of_any_mode_can_be_sent(bundle_dir, mode):
    """Every usual mode of PIL image has an embedding."""
    with Handful.local(bundle_dir, threads=1) as client:
        assert client.embed([Image.new(mode, (9, 7))]).errors == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (5, "int is no image"),
        (np.zeros((4, 4), np.float32), "convert to uint8"),
        (np.zeros((5, 28, 28), np.uint8), r"many greys: \[N,H,W,1\]"),
        (np.zeros((0, 4), np.uint8), "no image"),
        (io.StringIO("text"), "mode 'rb'"),
        (Path("a\0b"), "is no path"),
        (Path("/"), "directory"),
    ],
)
def test_what_is_no_image_is_told_with_the_remedy(bad, reason):
    """An object that is no image is refused before anything is sent, with what to change."""
    with pytest.raises(errors.ImageUnreadable, match=reason):
        load(bad)


def test_what_holds_no_images_is_told(bundle_dir):
    """Neither one image nor many: a bad argument, not a failed image."""
    with Handful.local(bundle_dir, threads=1) as client:
        for bad in (5, None, {"a": 1}, np.array(3)):
            with pytest.raises(errors.InputError):
                client.embed(bad)
        with pytest.raises(errors.InputError, match="either images or embeddings"):
            client.classify()
        with pytest.raises(errors.InputError, match="'latent'"):
            client.embed([], space="embeddings")
        with pytest.raises(errors.InputError, match="EmbedResult"):
            client.classify(embeddings=[[0.0] * 8])
        with pytest.raises(errors.InputError, match="finite numbers"):
            client.decode([[0.0, float("nan")]])
