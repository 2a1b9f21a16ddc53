"""Image files of every kind, written without the code under test: tests/fuzz/image_files.py."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_PATH = Path(__file__).parents[1] / "fuzz" / "image_files.py"
_SPEC = importlib.util.spec_from_file_location("image_files", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)


@pytest.fixture(scope="session")
def picture() -> Callable[..., Pixels]:
    """`picture(height, width, channels=3)`: smooth, asymmetric pixels."""
    return files.picture


@pytest.fixture(scope="session")
def write_png() -> Callable[..., bytes]:
    """`write_png(samples, depth=8, colour_type=None, before=(), after=())`."""
    return files.write_png


@pytest.fixture(scope="session")
def png_chunk() -> Callable[[bytes, bytes], bytes]:
    """`png_chunk(kind, body)`: with length and checksum."""
    return files.png_chunk


@pytest.fixture(scope="session")
def write_exif() -> Callable[..., bytes]:
    """`write_exif(orientation, order="<", kind=3)`."""
    return files.write_exif


@pytest.fixture(scope="session")
def save() -> Callable[..., bytes]:
    """`save(pixels, kind, **options)`: the file that Pillow writes."""
    return files.save


@pytest.fixture(scope="session")
def write_jpeg() -> Callable[..., bytes]:
    """`write_jpeg(pixels, quality=90, subsampling="444")`: four channels become YCCK."""
    return files.write_jpeg


@pytest.fixture(scope="session")
def image_files() -> dict[str, bytes]:
    """Small files of every kind that is accepted, 19 x 23 pixels unless named otherwise."""
    return files.image_files()
