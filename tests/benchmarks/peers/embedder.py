"""What every peer does with images: our pixels code, the same ONNX file, one run of onnxruntime.

As users would write it: the session alone, the output that they want, batches of any size.
"""

import os
from pathlib import Path

import numpy as np

from handful_bundle.bundle import read_manifest
from handful_bundle.pixels import decode
from handful_bundle.session import open_session


class Embedder:
    """Files in, embeddings out."""

    def __init__(self) -> None:
        root, threads = Path(os.environ["BENCH_BUNDLE"]), int(os.environ["BENCH_THREADS"])
        self._spec = read_manifest(root).image
        self._session = open_session((root / "encoder.onnx").read_bytes(), "cpu", threads)

    def __call__(self, files: list[bytes]) -> list[list[float]]:
        """Return one embedding per file."""
        pixels = np.stack([decode(file, self._spec) for file in files])
        (rows,) = self._session.run(["embedding"], {"images": pixels})
        found: list[list[float]] = rows.tolist()
        return found
