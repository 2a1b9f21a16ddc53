"""Shorten an idx data set to its first images, so that the demo itself can be tested quickly."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.fashion_mnist import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from handful_training.sources.idx import UNSIGNED_BYTE, IdxSource, read_idx_labels


def read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the images [N, H, W] and labels [N] of an idx pair."""
    source = IdxSource.open(images)
    pixels = next(source.blocks(len(source)))
    return pixels, read_idx_labels(labels, len(source))


def cut(folder: Path, out: Path, *, images: int | None, test_images: int | None) -> Path:
    """Return a folder with the first `images` and `test_images`; None keeps them all.

    The shortened files lie in `out`; with nothing to shorten, `folder` itself is the answer.
    """
    if images is None and test_images is None:
        return folder
    out.mkdir(parents=True, exist_ok=True)
    for names, count in (
        ((TRAIN_IMAGES, TRAIN_LABELS), images),
        ((TEST_IMAGES, TEST_LABELS), test_images),
    ):
        pair = read_pair(folder / names[0], folder / names[1])
        for name, array in zip(names, pair, strict=True):
            write_idx(out / name, array[:count])
    return out


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write `array` as a gzipped idx file. Equal arrays give equal bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))
