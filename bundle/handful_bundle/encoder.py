"""The encoder: pixels → embedding and posterior q(z|x)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_bundle import batches
from handful_bundle.graph import FLOAT, UINT8, Port, check_graph
from handful_bundle.manifest import ImageSpec
from handful_bundle.runner import Runner
from handful_bundle.session import Device, Provider

FILE = "encoder.onnx"


class Encoding(NamedTuple):
    """What the encoder says of N images. All float32."""

    embedding: NDArray[np.float32]  # [N, E], the penultimate features; what heads use
    mean: NDArray[np.float32]  # [N, D], of q(z|x)
    log_variance: NDArray[np.float32]  # [N, D], of q(z|x)


class Encoder:
    """Embeds images. Thread-safe."""

    max_batch = batches.BUCKETS[-1]

    def __init__(
        self, runner: Runner, spec: ImageSpec, embedding_dim: int, latent_dim: int
    ) -> None:
        self._runner = runner
        self.spec = spec
        self.embedding_dim = embedding_dim
        self.latent_dim = latent_dim

    @classmethod
    def open(
        cls,
        model: bytes,
        spec: ImageSpec,
        embedding_dim: int,
        latent_dim: int,
        device: Device = "auto",
        threads: int | None = None,
        gpu_memory_bytes: int | None = None,
    ) -> "Encoder":
        """Check the graph in `model` and open it.

        Raises:
            BundleCorrupt: the graph does not have the contract's inputs, outputs and operators.
            DeviceUnavailable: `device` does not run here.
        """
        check_graph(
            model,
            FILE,
            {"images": Port(UINT8, spec.shape)},
            {
                "embedding": Port(FLOAT, (embedding_dim,)),
                "mean": Port(FLOAT, (latent_dim,)),
                "log_variance": Port(FLOAT, (latent_dim,)),
            },
        )
        runner = Runner.open(model, device, threads, gpu_memory_bytes)
        return cls(runner, spec, embedding_dim, latent_dim)

    @property
    def provider(self) -> Provider:
        """The provider that really runs."""
        return self._runner.provider

    def __call__(self, *images: NDArray[np.uint8]) -> Encoding:
        """Embed `images`, uint8 [N, H, W, C] of the encoder's own size, N >= 0.

        Of several arrays all rows are embedded, in their order, as if they were one.

        Raises:
            ValueError: another shape or type.
        """
        for part in images:
            if part.dtype != np.uint8 or part.shape[1:] != self.spec.shape:
                raise ValueError(
                    f"images are {part.dtype} {list(part.shape)}, expected uint8 "
                    f"[N, {self.spec.height}, {self.spec.width}, {self.spec.channels}]"
                )
        return Encoding(*self._runner(images, Encoding._fields))

    def warm_up(self, rows: int = max_batch) -> None:
        """Run every batch size up to `rows` once, so that no request pays for the first."""
        self._runner.warm_up(rows)
