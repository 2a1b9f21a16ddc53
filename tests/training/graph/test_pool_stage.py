"""The pool: whose row is whose, made once, made again where damaged, and never larger than said."""

import logging
import resource
import signal
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_training.errors import TrainingError
from handful_training.graph.pool_graph import PoolGraph
from handful_training.packs.pack import Pack, pack_source
from handful_training.pipeline import pool_stage
from handful_training.pipeline.pool_stage import FILES, PARTS, Pool, open_pool
from handful_training.pipeline.work import DONE
from handful_training.sources.source import open_source

# Opens the pool of a bundle, a pack and a work folder, and dies when the third part is written.
DIES = """
import os, signal, sys
from pathlib import Path
from handful_bundle.bundle import Bundle
from handful_training.packs.files import Pack
from handful_training.pipeline import pool_stage

write, left = pool_stage.write_whole, 3

def writes_and_dies(path, content):
    global left
    write(path, content)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

pool_stage.PART_ROWS, pool_stage.write_whole = 64, writes_and_dies
bundle, pack, work = (Path(argument) for argument in sys.argv[1:])
pool_stage.open_pool(Bundle.load(bundle, device="cpu", threads=1), Pack.load(pack), work)
"""


def packed(folder: Path, count: int, seed: int = 0) -> Pack:
    """Pack random images, 16 x 16 in colour, from an idx file."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)
    folder.mkdir(exist_ok=True)
    path = folder / f"images-{count}-{seed}"
    path.write_bytes(bytes([0, 0, 8, 4]) + struct.pack(">4I", *images.shape) + images.tobytes())
    return pack_source(open_source(path), ImageSpec(height=16, width=16, channels=3), folder)


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir, device="cpu", threads=1)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return packed(tmp_path_factory.mktemp("pack"), 300)


def folder_of(work: Path) -> Path:
    (done,) = work.glob(f"pools/*/{DONE}")
    return done.parent


def assert_equal(one: Pool, other: Pool) -> None:
    for name in ("rows", "embedding", "features"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.graph.pack() == other.graph.pack()


def test_each_row_is_its_image(bundle: Bundle, pack: Pack, tmp_path: Path, monkeypatch):
    """Row i holds the embedding of image rows[i], features are W of it, the graph is theirs; also
    where the images are embedded in many parts.
    """
    monkeypatch.setattr(pool_stage, "PART_ROWS", 64)
    pool = open_pool(bundle, pack, tmp_path)
    np.testing.assert_array_equal(pool.rows, np.arange(300))
    alone = np.concatenate(
        [bundle.encoder(np.array(pack.images[[i]])).embedding for i in range(300)]
    )
    np.testing.assert_allclose(pool.embedding, alone, atol=1e-5)
    np.testing.assert_allclose(pool.features, pool.whitening(np.array(pool.embedding)), atol=1e-6)
    assert pool.graph.pack() == PoolGraph.build(np.array(pool.features)).pack()
    assert isinstance(pool.embedding, np.memmap)
    assert not (folder_of(tmp_path) / PARTS).exists()


def test_it_is_made_once(bundle: Bundle, pack: Pack, tmp_path: Path):
    """A second visit writes nothing and finds the same; labels' seeds share a small pack's pool."""
    first = open_pool(bundle, pack, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in folder_of(tmp_path).iterdir()}
    assert {path.name for path in written} == {DONE, *FILES}
    assert_equal(open_pool(bundle, pack, tmp_path, seed=7), first)
    assert {path: path.stat().st_mtime_ns for path in folder_of(tmp_path).iterdir()} == written


def test_other_images_and_encoders_have_pools_of_their_own(
    bundle: Bundle, pack: Pack, tmp_path: Path, make_bundle
):
    """Nothing is shared between different pixels, nor between encoders."""
    open_pool(bundle, pack, tmp_path)
    open_pool(bundle, packed(tmp_path / "other", 300, seed=1), tmp_path)
    other = Bundle.load(make_bundle(tmp_path / "bundle", seed=1), device="cpu", threads=1)
    open_pool(other, pack, tmp_path)
    assert len(list(tmp_path.glob(f"pools/*/{DONE}"))) == 3


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_made_again(
    bundle: Bundle, pack: Pack, tmp_path: Path, name: str, damage: str, caplog
):
    """A flipped bit, a file cut short or missing: a warning, and the pool is what it was."""
    first = open_pool(bundle, pack, tmp_path)
    path = folder_of(tmp_path) / name
    data = bytearray(path.read_bytes())
    path.unlink()  # `first` goes on reading what it has mapped
    if damage != "gone":
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flipped" else data[:-5])
    with caplog.at_level(logging.WARNING):
        again = open_pool(bundle, pack, tmp_path)
    assert "made again" in caplog.text
    assert_equal(again, first)


def test_a_killed_run_goes_on(bundle: Bundle, bundle_dir: Path, pack: Pack, tmp_path: Path):
    """What was embedded before the process died is not embedded again: the parts that it left are
    read, as one shows that was replaced in between.
    """
    command = [sys.executable, "-c", DIES, str(bundle_dir), str(pack.root), str(tmp_path)]
    died = subprocess.run(command, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    (parts,) = tmp_path.glob(f"pools/*/{PARTS}")
    assert sorted(path.name for path in parts.iterdir()) == ["0.npy", "128.npy", "64.npy"]
    other = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    np.save(parts / "64.npy", other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_stage, "PART_ROWS", 64)
        pool = open_pool(bundle, pack, tmp_path)
    np.testing.assert_array_equal(pool.embedding[64:128], other)
    rest = np.setdiff1d(np.arange(300), np.arange(64, 128))
    images = np.array(pack.images[rest])
    np.testing.assert_allclose(pool.embedding[rest], bundle.encoder(images).embedding, atol=1e-5)


def test_large_packs_are_drawn_from(bundle: Bundle, pack: Pack, tmp_path: Path, monkeypatch):
    """Beyond the limit a part of the images takes part that the seed draws; `positions` is the
    inverse of `rows`, -1 for images outside.
    """
    monkeypatch.setattr(pool_stage, "MAX_POOL", 120)
    pool = open_pool(bundle, pack, tmp_path, seed=1)
    assert len(pool.rows) == len(np.unique(pool.rows)) == pool.graph.size == 120
    images = np.array(pack.images[pool.rows])
    np.testing.assert_allclose(pool.embedding, bundle.encoder(images).embedding, atol=1e-5)
    np.testing.assert_array_equal(pool.positions(pool.rows), np.arange(120))
    outside = np.setdiff1d(np.arange(300), pool.rows)
    assert (pool.positions(outside) == -1).all()
    assert pool.positions(np.array([pool.rows[5], outside[0], pool.rows[0]])).tolist() == [5, -1, 0]
    other = open_pool(bundle, pack, tmp_path, seed=2)
    assert not np.array_equal(other.rows, pool.rows)
    assert_equal(open_pool(bundle, pack, tmp_path, seed=1), pool)


def test_memory_does_not_grow_with_the_pack(bundle: Bundle, tmp_path: Path, monkeypatch):
    """6,000 more images of 768 bytes cost a row number each, not pixels or embeddings."""
    monkeypatch.setattr(pool_stage, "MAX_POOL", 1_000)
    packs = [packed(tmp_path / "packs", count) for count in (1_500, 1_500, 7_500)]
    peaks = []
    for i, pack in enumerate(packs):  # the first warms up
        tracemalloc.start()
        open_pool(bundle, pack, tmp_path / f"work{i}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 6_000 * 32


def test_a_full_disk_is_an_error_with_its_remedy(bundle: Bundle, pack: Pack, tmp_path: Path):
    """Where files cannot grow, the message names HANDFUL_WORK; with room again, it is made."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with pytest.raises(TrainingError, match="HANDFUL_WORK"):
            open_pool(bundle, pack, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert open_pool(bundle, pack, tmp_path).graph.size == 300
