"""What one decoded image costs above its bare decoder, and what packing costs above decoding.

Each pair runs in turn in this process; the figures are ratios.
"""

import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_bundle.session import cpu_quota
from handful_training.packs.pack import pack_source
from handful_training.sources.source import open_source

ROUNDS = 7
FILES = 20_000
SMALL = ImageSpec(height=32, width=32, channels=3)


def main() -> None:
    """Print both tables."""
    _one_image()
    print(flush=True)
    _packing()


def _one_image() -> None:
    print("| one image, one thread | bare decoder, µs | `pixels.decode`, µs | ratio |")
    print("|---|---|---|---|")
    rng = np.random.default_rng(0)
    tiny, large = _photo(rng, 32, 32), _photo(rng, 480, 640)
    middle = ImageSpec(height=128, width=128, channels=3)
    cases: list[tuple[str, bytes, ImageSpec, Callable[[bytes], object], int]] = [
        ("JPEG 32×32", _encode(tiny, "JPEG"), SMALL, simplejpeg.decode_jpeg, 2000),
        ("JPEG 640×480 → 128", _encode(large, "JPEG"), middle, simplejpeg.decode_jpeg, 100),
        ("PNG 32×32", _encode(tiny, "PNG"), SMALL, _pillow, 1000),
        ("WebP 32×32", _encode(tiny, "WEBP"), SMALL, _pillow, 1000),
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
    print(f"| {FILES:,} JPEGs of 32 px, {cpu_quota()} processes | images/s (median) |")
    print("|---|---|")
    rng = np.random.default_rng(0)
    decoding, packing = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        for i in range(FILES):
            (folder / f"{i:05}.jpg").write_bytes(_encode(_photo(rng, 32, 32), "JPEG"))
        source = open_source(folder)
        paths = [str(folder / key) for key in source.keys]
        chunks = [paths[start : start + 128] for start in range(0, len(paths), 128)]
        context = get_context("forkserver")
        for _ in range(ROUNDS):
            with ProcessPoolExecutor(cpu_quota(), context) as pool:
                start = time.monotonic()
                assert sum(pool.map(decode_files, chunks)) == FILES
                decoding.append(FILES / (time.monotonic() - start))
            work = Path(temporary) / "work"
            start = time.monotonic()
            assert len(pack_source(source, SMALL, work)) == FILES
            packing.append(FILES / (time.monotonic() - start))
            shutil.rmtree(work)
    ratio = statistics.median(p / d for d, p in zip(decoding, packing, strict=True))
    print(f"| decoding and nothing else, start of processes included | "
          f"{statistics.median(decoding):.0f} |")  # fmt: skip
    print(f"| `pack_source`, whole call: {ratio:.2f} of it | {statistics.median(packing):.0f} |")


def decode_files(paths: list[str]) -> int:
    """Decode files and forget them; returns how many."""
    for path in paths:
        decode(Path(path).read_bytes(), SMALL)
    return len(paths)


def _photo(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return a picture as smooth as a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _encode(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def _pillow(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def _microseconds(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e6
