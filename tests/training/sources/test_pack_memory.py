"""Laws of memory: what grows with the number of images is keys, never pixels."""

import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_training.packs.pack import pack_source
from handful_training.sources.source import open_source


def peak(images: Path, spec: ImageSpec, work: Path) -> int:
    """Return the most bytes that this process held at once while packing `images`."""
    tracemalloc.start()
    try:
        pack = pack_source(open_source(images), spec, work, workers=2)
        assert len(pack.images) == len(pack.keys)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_by_keys_not_by_files(tmp_path: Path, make_photos: Callable[..., Path]):
    """2,000 more files of 12,288 bytes of pixels each cost less than 700 bytes each."""
    spec = ImageSpec(height=64, width=64, channels=3)
    few = make_photos(tmp_path / "few", 100)
    many = shutil.copytree(few, tmp_path / "many")
    for i in range(20):
        shutil.copytree(few, many / f"{i}")
    peak(few, spec, tmp_path / "warm-up")
    growth = peak(many, spec, tmp_path / "a") - peak(few, spec, tmp_path / "b")
    assert growth < 2_000 * 700 < 2_000 * np.prod(spec.shape)


def test_memory_grows_by_keys_not_by_idx_pixels(
    tmp_path: Path, write_idx: Callable[[Path, NDArray[np.uint8]], Path]
):
    """30,000 more gzipped images of 784 bytes each cost less than 200 bytes each."""
    spec = ImageSpec(height=28, width=28, channels=1)
    few = write_idx(tmp_path / "few.gz", np.zeros((22_000, 28, 28), np.uint8))
    many = write_idx(tmp_path / "many.gz", np.zeros((52_000, 28, 28), np.uint8))
    growth = peak(many, spec, tmp_path / "work") - peak(few, spec, tmp_path / "work")
    assert growth < 30_000 * 200


@pytest.mark.parametrize("form", ["tar", "tgz", "parquet"])
def test_memory_grows_by_keys_not_by_what_a_file_holds(
    tmp_path: Path, jpegs: list[bytes], write_tar: Callable[..., Path], form: str
):
    """4,500 more images, each in a file of 1,200 bytes or more, cost less than 700 bytes each."""
    spec = ImageSpec(height=32, width=32, channels=3)

    def make(count: int) -> Path:
        images = [jpegs[i % 60] + bytes(400) for i in range(count)]
        path = tmp_path / f"{count}.{form}"
        if form == "parquet":
            pq.write_table(pa.table({"image": images}), path, row_group_size=1000)
            return path
        return write_tar(path, [(f"{i:06}.jpg", data) for i, data in enumerate(images)])

    few, many = make(500), make(5000)
    peak(few, spec, tmp_path / "warm-up")
    growth = peak(many, spec, tmp_path / "a") - peak(few, spec, tmp_path / "b")
    assert growth < 4_500 * 700 < 4_500 * 1200


def test_reading_processes_import_little():
    """What a helper imports holds none of the large libraries, so many of them are cheap."""
    code = (
        "import sys, handful_training.packs.worker; "
        "print({'torch', 'onnx', 'onnxruntime', 'mlflow', 'sklearn', 'pandas', 'pyarrow', "
        "'fsspec', 'obstore'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
