import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_training.errors import InputError
from handful_training.sources.idx import IdxSource
from handful_training.sources.source import open_source

WriteIdx = Callable[[Path, NDArray[np.uint8]], Path]


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
@pytest.mark.parametrize("shape", [(120, 9, 7), (120, 9, 7, 3)])
def test_an_idx_file_gives_back_its_images(
    tmp_path: Path, write_idx: WriteIdx, name: str, shape: tuple[int, ...]
):
    """Blocks, put together, and single reads are the array that was written, plain or packed."""
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source = open_source(write_idx(tmp_path / name, array))
    assert isinstance(source, IdxSource)
    assert np.array_equal(np.concatenate(list(source.blocks(50))), array)
    assert np.array_equal(source.read(77), array[77])
    assert source.keys[:2] == ["000", "001"]
    assert source.keys[-1] == "119"
    assert source.stat_token(0) == source.stat_token(119)


def test_a_labels_file_as_images_is_told_apart(tmp_path: Path, write_idx: WriteIdx):
    """Who mixes up the pair is told which file goes where."""
    path = write_idx(tmp_path / "labels-idx1-ubyte.gz", np.zeros(100, np.uint8))
    with pytest.raises(InputError, match=r"holds the labels.*as IMAGES and this one as --labels"):
        open_source(path)


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("packing", [plain, gzip.compress])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_length_than_announced_is_refused(
    tmp_path: Path, write_idx: WriteIdx, change: int, packing: Callable[[bytes], bytes]
):
    """One byte too few or too many, and nothing is read."""
    path = write_idx(tmp_path / "images", np.zeros((60, 8, 8), np.uint8))
    data = path.read_bytes()
    path.write_bytes(packing(data[:change] if change < 0 else data + b"\0"))
    with pytest.raises(InputError, match="announces 3,856"):
        open_source(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_download_is_refused(tmp_path: Path, write_idx: WriteIdx, keep: float):
    """A gzipped file that ends early is bad input, never a shorter data set."""
    array = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    path = write_idx(tmp_path / "images.gz", array)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match="damaged"):
        open_source(path)


def test_damage_within_a_packed_file_is_found_while_reading(tmp_path: Path, write_idx: WriteIdx):
    """Reading a gzipped file to its end compares its checksum."""
    array = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    path = write_idx(tmp_path / "images.gz", array)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    source = open_source(path)
    assert isinstance(source, IdxSource)
    with pytest.raises(InputError, match="damaged"):
        list(source.blocks(10))


def test_several_gzip_members_are_one_file(tmp_path: Path, write_idx: WriteIdx):
    """A file that was packed in parts is as good as one packed at once."""
    array = np.arange(60 * 4, dtype=np.uint8).reshape(60, 2, 2)
    path = write_idx(tmp_path / "images", array)
    data = path.read_bytes()
    path.write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
    source = open_source(path)
    assert isinstance(source, IdxSource)
    assert np.array_equal(np.concatenate(list(source.blocks(60))), array)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (bytes([0, 0, 13, 3]) + bytes(12), "type 0x0d; only unsigned bytes"),
        (bytes([0, 0, 8, 2]) + bytes([0, 0, 0, 1] * 2), "not images"),
        (bytes([0, 0, 8, 4]) + bytes(4), "ends within its header"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "damaged"),
        (bytes([0, 0, 8, 3]) + bytes(12), "damaged"),
    ],
)
def test_headers_that_announce_no_images_are_refused(tmp_path: Path, head: bytes, message: str):
    """Another type, another number of dimensions, and sizes of nothing or of terabytes."""
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(head + b"\0" * 8)
    with pytest.raises(InputError, match=message):
        open_source(path)
