"""The cache of bundles: only whole ones, only what is missing, nothing left behind."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleError
from handful_service.cache import Cache


class Source:
    """A bundle to download, and what was downloaded of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []

    def __call__(self, file: str, target: Path) -> None:
        self.asked.append(file)
        shutil.copyfile(self.root / file, target)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def left_over(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "partial").iterdir())


def test_only_missing_files_are_fetched(cache, make_bundle: Callable[..., Path], tmp_path) -> None:
    """A second bundle takes the files that it shares with the first from there, and a known one
    nothing but its manifest; each folder loads.
    """
    first = Source(make_bundle(tmp_path / "one"))
    second = Source(make_bundle(tmp_path / "two", head_seed=1))
    one, two = cache.fetch(first), cache.fetch(second)
    assert set(second.asked) == {"manifest.json", "head.onnx", "classes.npz", "golden.npz"}
    assert sorted(first.asked) == sorted(file.name for file in first.root.iterdir())
    for found, source in ((one, first), (two, second)):
        Bundle.load(found, device="cpu", threads=1)
        assert {f.name: f.read_bytes() for f in found.iterdir()} == {
            f.name: f.read_bytes() for f in source.root.iterdir()
        }
    again = Source(first.root)
    assert cache.fetch(again) == one
    assert again.asked == ["manifest.json"]
    assert left_over(tmp_path) == []


def test_altered_download_is_refused(cache, bundle_dir, tmp_path) -> None:
    """A file that is not the one that the manifest names leaves the cache without the bundle."""
    root = shutil.copytree(bundle_dir, tmp_path / "altered")
    data = (root / "encoder.onnx").read_bytes()
    (root / "encoder.onnx").write_bytes(data[:-1])
    with pytest.raises(BundleError, match=r"encoder\.onnx arrived as"):
        cache.fetch(Source(root))
    assert left_over(tmp_path) == []
    assert not (tmp_path / "cache" / "bundles").exists()


def test_full_disk_leaves_nothing(cache, bundle_dir, tmp_path) -> None:
    """When the disk is full half way, what was written is removed and what was there stays."""
    whole = cache.fetch(Source(bundle_dir))
    cache.remember("models:/a@b", "1", whole)

    def fails(file: str, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cache.fetch(fails)
    assert left_over(tmp_path) == []
    assert cache.recall("models:/a@b") == ("1", whole)


def test_altered_cache_is_not_copied_on(cache, make_bundle: Callable[..., Path], tmp_path) -> None:
    """A cached file that has rotted is not reused for another bundle but fetched."""
    one = cache.fetch(Source(make_bundle(tmp_path / "one")))
    (one / "encoder.onnx").write_bytes(b"rotten")
    second = Source(make_bundle(tmp_path / "two", head_seed=1))
    two = cache.fetch(second)
    assert "encoder.onnx" in second.asked
    Bundle.load(two, device="cpu", threads=1)


def test_remembers_and_forgets(cache, make_bundle: Callable[..., Path], tmp_path) -> None:
    """What a reference means is recalled; bundles that none means go, but for the last few."""
    roots = []
    for seed in range(6):
        root = cache.fetch(Source(make_bundle(tmp_path / f"{seed}", head_seed=seed)))
        cache.remember("models:/a@b", str(seed), root)
        assert cache.recall("models:/a@b") == (str(seed), root)
        roots.append(root)
    assert roots[-1].is_dir()
    assert sum(root.is_dir() for root in roots) == 4
    assert cache.recall("models:/a@c") is None
    shutil.rmtree(roots[-1])
    assert cache.recall("models:/a@b") is None
