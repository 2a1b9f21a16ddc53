"""Image files of every kind, written without the code under test: tests/fuzz/image_files.py."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
LoadHelper = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def file_writers(load_helper: LoadHelper) -> ModuleType:
    """The module that the fixtures below take from."""
    return load_helper("fuzz/image_files")


@pytest.fixture(scope="session")
def picture(file_writers: ModuleType) -> Callable[..., Pixels]:
    """`picture(height, width, channels=3)`: smooth, asymmetric pixels."""
    return file_writers.picture


@pytest.fixture(scope="session")
def write_png(file_writers: ModuleType) -> Callable[..., bytes]:
    """`write_png(samples, depth=8, colour_type=None, before=(), after=())`."""
    return file_writers.write_png


@pytest.fixture(scope="session")
def png_chunk(file_writers: ModuleType) -> Callable[[bytes, bytes], bytes]:
    """`png_chunk(kind, body)`: with length and checksum."""
    return file_writers.png_chunk


@pytest.fixture(scope="session")
def write_exif(file_writers: ModuleType) -> Callable[..., bytes]:
    """`write_exif(orientation, order="<", kind=3)`."""
    return file_writers.write_exif


@pytest.fixture(scope="session")
def save(file_writers: ModuleType) -> Callable[..., bytes]:
    """`save(pixels, kind, **options)`: the file that Pillow writes."""
    return file_writers.save


@pytest.fixture(scope="session")
def write_jpeg(file_writers: ModuleType) -> Callable[..., bytes]:
    """`write_jpeg(pixels, quality=90, subsampling="444")`: four channels become YCCK."""
    return file_writers.write_jpeg


@pytest.fixture(scope="session")
def image_files(file_writers: ModuleType) -> dict[str, bytes]:
    """Small files of every kind that is accepted, 19 x 23 pixels unless named otherwise."""
    return file_writers.image_files()
