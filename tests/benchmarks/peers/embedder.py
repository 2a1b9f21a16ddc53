"""What every peer does with an image: the same pixels code, the same ONNX file, one batch."""

import os
from pathlib import Path

import numpy as np

from handful_bundle.bundle import Bundle
from handful_bundle.pixels import decode


class Embedder:
    """Files in, embeddings out."""

    def __init__(self) -> None:
        threads = int(os.environ["BENCH_THREADS"])
        self._bundle = Bundle.load(Path(os.environ["BENCH_BUNDLE"]), device="cpu", threads=threads)

    def __call__(self, files: list[bytes]) -> list[list[float]]:
        """Return one embedding per file."""
        spec = self._bundle.manifest.image
        pixels = np.stack([decode(file, spec) for file in files])
        rows: list[list[float]] = self._bundle.encoder(pixels).embedding.tolist()
        return rows
