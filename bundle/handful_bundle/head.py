"""The classifier head: embedding → calibrated probabilities, and how novel the image is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_bundle import batches
from handful_bundle.graph import FLOAT, Port, check_graph
from handful_bundle.runner import Runner
from handful_bundle.session import Device

FILE = "head.onnx"
NOVELTY = "novelty"


class Judgement(NamedTuple):
    """What the head says of N embeddings. All float32."""

    probabilities: NDArray[np.float32]  # [N, K], in the order of the labels
    novelty: NDArray[np.float32] | None = None  # [N], 0 ... 1; None: the head does not tell


class Head:
    """Classifies embeddings. Thread-safe."""

    def __init__(self, runner: Runner, embedding_dim: int, labels: tuple[str, ...]) -> None:
        self._runner = runner
        self.embedding_dim = embedding_dim
        self.labels = labels
        self.tells_novelty = NOVELTY in runner.outputs

    @classmethod
    def open(
        cls,
        model: bytes,
        embedding_dim: int,
        labels: tuple[str, ...],
        device: Device = "auto",
        threads: int | None = None,
        gpu_memory_bytes: int | None = None,
    ) -> "Head":
        """Check the graph in `model` and open it.

        Raises:
            BundleCorrupt: the graph does not have the contract's inputs, outputs and operators.
            DeviceUnavailable: `device` does not run here.
        """
        check_graph(
            model,
            FILE,
            {"embedding": Port(FLOAT, (embedding_dim,))},
            {"probabilities": Port(FLOAT, (len(labels),))},
            optional_outputs={NOVELTY: Port(FLOAT, ())},
        )
        return cls(Runner.open(model, device, threads, gpu_memory_bytes), embedding_dim, labels)

    def __call__(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities alone, float32 [N, K]; otherwise as `judge`."""
        return self._run(embedding, ["probabilities"])[0]

    def judge(self, embedding: NDArray[np.float32]) -> Judgement:
        """Return probabilities and novelty.

        Args:
            embedding: float32 [N, E] of the head's own embedding space, N >= 0.

        Raises:
            ValueError: another shape or type.
        """
        if not self.tells_novelty:
            return Judgement(self(embedding))
        return Judgement(*self._run(embedding, ["probabilities", NOVELTY]))

    def _run(self, embedding: NDArray[np.float32], outputs: list[str]) -> list[NDArray[np.float32]]:
        if embedding.dtype != np.float32 or embedding.shape[1:] != (self.embedding_dim,):
            raise ValueError(
                f"embeddings are {embedding.dtype} {list(embedding.shape)}, "
                f"expected float32 [N, {self.embedding_dim}]"
            )
        return self._runner([embedding], outputs)

    def warm_up(self, rows: int = batches.BUCKETS[-1]) -> None:
        """Run every batch size up to `rows` once, so that no request pays for the first."""
        self._runner.warm_up(rows)
