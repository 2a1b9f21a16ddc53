"""What serving on a GPU cannot exceed: the encoder in a bare loop, and all cores decoding.

Each is measured in processes of its own, one after the other.
"""

import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handful_bundle import page_locked
from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_bundle.session import Device, open_session

OUTPUTS = ("embedding", "mean", "log_variance")


class Bare(NamedTuple):
    """The bare loop at its best batch size."""

    rows: int
    images_per_second: float


def bare(root: Path, device: Device, sizes: Sequence[int], seconds: float) -> Bare:
    """Run the encoder of `root` over and over on rows of host memory, by IOBinding."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        speeds = pool.apply(_bare, (root, device, tuple(sizes), seconds))
    best = max(range(len(sizes)), key=lambda n: speeds[n])
    return Bare(sizes[best], speeds[best])


def _bare(root: Path, device: Device, sizes: Sequence[int], seconds: float) -> list[float]:
    manifest = Bundle.load(root, device=device).manifest
    session = open_session((root / "encoder.onnx").read_bytes(), device)
    widths = (manifest.embedding_dim, manifest.latent_dim, manifest.latent_dim)
    speeds = []
    for size in sizes:
        shape = (size, *manifest.image.shape)
        rows = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        given = page_locked.empty(shape, np.uint8)
        taken = [page_locked.empty((size, width), np.float32) for width in widths]
        binding = session.io_binding()
        for name, array in zip(OUTPUTS, taken, strict=True):
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        count, begun = -3, time.perf_counter()  # three to warm up
        while (spent := time.perf_counter() - begun) < seconds or count < 1:
            given[:] = rows
            binding.bind_cpu_input("images", given)
            binding.synchronize_inputs()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            count += 1
            if count == 0:
                begun = time.perf_counter()
        speeds.append(count * size / spent)
    return speeds


def decode_rate(files: Sequence[bytes], spec: ImageSpec, cores: int, seconds: float) -> float:
    """Return how many of `files` all cores decode and shrink in a second, a process on each."""
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(_decode_for, [(files, spec, 0.2)] * cores, chunksize=1)  # all have started
        return sum(pool.map(_decode_for, [(files, spec, seconds)] * cores, chunksize=1))


def _decode_for(task: tuple[Sequence[bytes], ImageSpec, float]) -> float:
    files, spec, seconds = task
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        decode(files[count % len(files)], spec)
        count += 1
    return count / spent
