"""What one decoded image costs above its bare decoder, and what packing costs above decoding.

Each pair runs in turn in this process; the figures are ratios.
"""

import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from pictures import detailed, encode, photo
from PIL import Image

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_bundle.session import cpu_quota
from handful_training.packs import worker
from handful_training.packs.pack import pack_source
from handful_training.sources.source import open_source

ROUNDS = 7
FILES = 20_000
LARGE_FILES = 1_500
SMALL = ImageSpec(height=32, width=32, channels=3)
MIDDLE = ImageSpec(height=128, width=128, channels=3)


def main() -> None:
    """Print both tables."""
    _one_image()
    print(flush=True)
    _packing()


def _one_image() -> None:
    print("| one image, one thread | bare decoder, µs | `pixels.decode`, µs | ratio |")
    print("|---|---|---|---|")
    rng = np.random.default_rng(0)
    tiny, large = photo(rng, 32, 32), photo(rng, 480, 640)
    cases: list[tuple[str, bytes, ImageSpec, Callable[[bytes], object], int]] = [
        ("JPEG 32×32", encode(tiny, "JPEG"), SMALL, simplejpeg.decode_jpeg, 2000),
        ("JPEG 640×480 → 128", encode(large, "JPEG"), MIDDLE, simplejpeg.decode_jpeg, 100),
        ("PNG 32×32", encode(tiny, "PNG"), SMALL, _pillow, 1000),
        ("WebP 32×32", encode(tiny, "WEBP"), SMALL, _pillow, 1000),
    ]
    for name, data, spec, bare, calls in cases:
        pairs = [
            (_microseconds(lambda: bare(data), calls),  # noqa: B023 - called at once
             _microseconds(lambda: decode(data, spec), calls))  # noqa: B023 - called at once
            for _ in range(ROUNDS)
        ]  # fmt: skip
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        theirs, ours = (min(column) for column in zip(*pairs, strict=True))
        print(f"| {name} | {theirs:.0f} | {ours:.0f} | {ratio:.2f} |", flush=True)


def _packing() -> None:
    print(f"| {cpu_quota()} processes | decoding, images/s | packing, images/s | ratio "
          "| listing before it, µs per image |")  # fmt: skip
    print("|---|---|---|---|---|")
    # Processes start alike on both sides, with what they need imported already.
    get_context("forkserver").set_forkserver_preload([worker.__name__, __name__])
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        small = [encode(photo(rng, 32, 32), "JPEG") for _ in range(FILES)]
        large = [encode(detailed(rng, 480, 640), "JPEG") for _ in range(LARGE_FILES)]
        folder, big = _files(root / "small", small), _files(root / "large", large)
        _row(f"{FILES:,} JPEGs of 32 px, {_size(small)}, files", folder, folder, SMALL)
        _row("the same in a tar", _tar(root / "small.tar", small), folder, SMALL)
        _row("the same in a .tar.gz", _tar(root / "small.tar.gz", small), folder, SMALL)
        _row("the same in Parquet", _parquet(root / "small.parquet", small), folder, SMALL)
        kind = f"{LARGE_FILES:,} JPEGs of 640×480 → 128, {_size(large)}"
        _row(f"{kind}, files", big, big, MIDDLE)
        _row("the same in a tar", _tar(root / "large.tar", large), big, MIDDLE)


def _row(name: str, images: Path, files: Path, spec: ImageSpec) -> None:
    """Pack `images` and decode the same as `files`, in turn."""
    paths = sorted(map(str, files.iterdir()))
    size = max(1, min(128, len(paths) // (8 * cpu_quota())))
    chunks = [(paths[start : start + size], spec) for start in range(0, len(paths), size)]
    decoding, packing, listing = [], [], []
    for _ in range(ROUNDS):
        start = time.monotonic()
        with ProcessPoolExecutor(cpu_quota(), get_context("forkserver")) as pool:
            assert sum(pool.map(decode_files, chunks)) == len(paths)
            decoding.append(len(paths) / (time.monotonic() - start))
        with tempfile.TemporaryDirectory() as work:
            start = time.monotonic()
            source = open_source(images)
            listing.append(time.monotonic() - start)
            start = time.monotonic()
            assert len(pack_source(source, spec, Path(work))) == len(paths)
            packing.append(len(paths) / (time.monotonic() - start))
    ratio = statistics.median(p / d for d, p in zip(decoding, packing, strict=True))
    median = f"{statistics.median(decoding):,.0f} | {statistics.median(packing):,.0f}"
    once = 1e6 * statistics.median(listing) / len(paths)
    print(f"| {name} | {median} | {ratio:.2f} | {once:.0f} |", flush=True)


def decode_files(chunk: tuple[list[str], ImageSpec]) -> int:
    """Decode files and forget them; returns how many."""
    paths, spec = chunk
    for path in paths:
        decode(Path(path).read_bytes(), spec)
    return len(paths)


def _files(folder: Path, images: list[bytes]) -> Path:
    folder.mkdir()
    for i, data in enumerate(images):
        (folder / f"{i:05}.jpg").write_bytes(data)
    return folder


def _tar(path: Path, images: list[bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for i, data in enumerate(images):
            info = tarfile.TarInfo(f"{i:05}.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _parquet(path: Path, images: list[bytes]) -> Path:
    pq.write_table(pa.table({"image": images}), path, row_group_size=1000)
    return path


def _size(images: list[bytes]) -> str:
    return f"{sum(map(len, images)) / len(images) / 1000:.1f} kB"


def _pillow(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def _microseconds(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e6
