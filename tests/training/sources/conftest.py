"""Real image files, whole and broken, and idx files."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}

BROKEN = {
    "empty.jpg": b"",
    "text.png": b"This is a letter, not a picture.",
    "cut.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0",
}


def encoded(rng: np.random.Generator, height: int, width: int, suffix: str) -> bytes:
    """Return a smooth random colour image as a file."""
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(file, FORMATS[suffix])
    return file.getvalue()


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """Return a function that writes colour images of mixed sizes and formats."""

    def make(folder: Path, count: int, *, seed: int = 0, classes: tuple[str, ...] = ("",)) -> Path:
        rng = np.random.default_rng(seed)
        for i in range(count):
            suffix = list(FORMATS)[i % 3]
            height, width = rng.integers(20, 90, 2).tolist()
            path = folder / classes[i % len(classes)] / f"{i:04d}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(rng, height, width, suffix))
        return folder

    return make


@pytest.fixture
def photos(tmp_path: Path, make_photos: Callable[..., Path]) -> Path:
    """Return a folder of 60 whole images in two class folders, and three broken ones."""
    folder = make_photos(tmp_path / "photos", 60, classes=("cat", "dog"))
    for name, data in BROKEN.items():
        (folder / "cat" / name).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, NDArray[np.uint8]], Path]:
    """Return a function that writes an array as an idx file, gzipped if its name says so."""

    def write(path: Path, array: NDArray[np.uint8]) -> Path:
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        data = head + array.tobytes()
        path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
        return path

    return write


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Return a function that starts Python code as a program of its own."""

    def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
        path = tmp_path / "program.py"
        path.write_text(code)
        return subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return start


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    """Return 60 different whole images, JPEG files of 30x40."""
    rng = np.random.default_rng(7)
    return [encoded(rng, 30, 40, ".jpg") for _ in range(60)]


@pytest.fixture(scope="session")
def write_tar() -> Callable[..., Path]:
    """Return a function that writes (name, bytes) pairs as a tar, gzipped if its name says so."""

    def write(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return write
