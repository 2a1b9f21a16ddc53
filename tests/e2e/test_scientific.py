"""16-bit and TIFF images: training, SDK and service see the same pixels."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import handful_client.png_file
import handful_client.tiff
import handful_training.sources.png_file
import handful_training.sources.tiff
from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_client import Handful, errors, images
from handful_training.sources.source import open_source

WINDOWS = [None, (150, 3900)]


def samples(channels: int, dtype: type) -> NDArray:
    top = 4096 if dtype is np.uint16 else 256
    return np.random.default_rng(channels).integers(0, top, (45, 61, channels), dtype)


@pytest.fixture
def tiffs(tmp_path: Path, write_tiff: Callable[..., bytes]) -> Path:
    """A folder of TIFF files: grey and RGB, with and without alpha, of 8 and 16 bits."""
    folder = tmp_path / "tiffs"
    folder.mkdir()
    for channels in (1, 3, 4):
        for dtype in (np.uint8, np.uint16):
            data = write_tiff(samples(channels, dtype), compression="lzw", rows=7)
            (folder / f"{channels}-{np.dtype(dtype).name}.tif").write_bytes(data)
    return folder


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_sdk_sends_what_training_reads(
    tiffs: Path, channels: int, window: tuple[int, int] | None
) -> None:
    """A TIFF's pixels are the same bit for bit, as a path, as bytes, and as an array of it."""
    spec = ImageSpec(height=24, width=28, channels=channels, window=window)
    source = open_source(tiffs)
    for i, key in enumerate(source.keys):
        trained = decode(source.read(i), spec)
        array = samples(int(key[0]), np.dtype(key[2:-4]).type)
        for given in (tiffs / key, (tiffs / key).read_bytes(), array):
            loaded = images.load(given)
            assert not isinstance(loaded, images.Vector)
            sent = images.pack(loaded)
            assert sent.media_type == "image/png"
            np.testing.assert_array_equal(decode(sent.data, spec), trained, err_msg=key)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_service_answers_on_the_pixels_of_training(
    place: Any, tiffs: Path, tmp_path: Path, make_bundle: Any, window: tuple[int, int] | None
) -> None:
    """Embeddings of TIFF files and 16-bit arrays over HTTP are those of the packed pixels."""
    root = make_bundle(tmp_path / "model", window=window)
    bundle = Bundle.load(root, device="cpu", threads=1)
    source = open_source(tiffs)
    packed = [decode(source.read(i), bundle.manifest.image) for i in range(len(source))]
    expected = bundle.encoder(np.stack(packed)).embedding
    paths = [tiffs / key for key in source.keys]
    arrays = [samples(int(key[0]), np.dtype(key[2:-4]).type) for key in source.keys]
    with place.serve(str(root)) as url, Handful(url) as client:
        for given in (paths, arrays):
            found = client.embed(given).raise_for_errors().embeddings
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert client.model().manifest.image.window == window


def test_refused_files_cost_only_themselves(
    bundle_dir: Path, tiffs: Path, write_tiff: Callable[..., bytes]
) -> None:
    """A stack among TIFF files is one error with a code; given alone it raises."""
    stack = write_tiff(samples(1, np.uint16), pages=[[]])
    with Handful.local(bundle_dir, threads=1) as client:
        result = client.embed([*sorted(tiffs.iterdir()), stack])
        assert [error.code for error in result.errors] == ["image_animated"]
        assert result.errors[0].index == 6
        with pytest.raises(errors.ImageUnreadable, match="save each as a file of its own"):
            client.embed(stack)


def test_pil_images_of_no_agreed_range_are_refused() -> None:
    """Modes I and F, which Pillow would clip instead of scale, name the remedy."""
    for mode in ("I", "F"):
        with pytest.raises(errors.ImageUnreadable, match="give a uint16 array"):
            images.load(Image.new(mode, (9, 7)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (handful_training.sources.tiff, handful_client.tiff),
        (handful_training.sources.png_file, handful_client.png_file),
    ],
)
def test_both_packages_hold_the_same_code(one: Any, other: Any) -> None:
    """Neither depends on the other, so what must be equal is held twice and compared here."""
    assert inspect.getsource(one) == inspect.getsource(other)
