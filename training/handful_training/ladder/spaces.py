"""From images or embeddings to rungs: features, whitening, graph.

Every graph is built the same way, so that two rungs differ in their features alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handful_training.baseline import pixel_components, project_pixels
from handful_training.graph.pool_graph import PoolGraph
from handful_training.ladder import catalogue as name
from handful_training.ladder.climb import Both
from handful_training.ladder.rungs import Graph, Linear, Nearest, Rung
from handful_training.whitening import MAX_FIT, Whitening


@dataclass(frozen=True, eq=False)
class Pixels:
    """What can be made of pixels without learning: features and graphs of M images.

    Attributes:
        features: PCA(50), float32 [M, <= 50].
        graph: of the features.
        whitened: of the features after W.
    """

    features: NDArray[np.float32]
    graph: PoolGraph
    whitened: PoolGraph

    @classmethod
    def of(
        cls,
        images: NDArray[np.uint8],
        place: NDArray[np.int64],
        *,
        fit: NDArray[np.uint8] | None = None,
        seed: int = 0,
    ) -> "Pixels":
        """Find them for `images[place]`.

        Args:
            images: uint8 [N, H, W, C]; a memory map will do.
            place: which take part, [M].
            fit: what PCA is fitted on; None: `images`. The unlabelled pool, where `images` holds
                test images as well.
            seed: of everything that is drawn.
        """
        mean, axes = pixel_components(images if fit is None else fit, seed)
        features = project_pixels(images, place, mean, axes).astype(np.float32)
        return cls(
            features,
            PoolGraph.build(features),
            PoolGraph.build(whitening_of(features, seed=seed)(features)),
        )

    def rungs(self, images: NDArray[np.uint8], place: NDArray[np.int64]) -> dict[str, Rung | Both]:
        """Return the controls; the arguments are those of `of`."""
        return {
            name.PIXELS_NEAREST: Nearest(images, place),
            name.PIXELS_LINEAR: Linear(self.features),
            name.PIXELS_GRAPH: Graph(self.graph),
            name.PIXELS_GRAPH_WHITENED: Graph(self.whitened),
        }


def encoder_rungs(
    embedding: NDArray[np.float32], graph: PoolGraph, prefix: str = "vae"
) -> dict[str, Rung | Both]:
    """Return what an encoder's embeddings [M, E] and their graph make possible.

    Args:
        embedding: may be a memory map.
        graph: of the whitened embeddings.
        prefix: of the keys, says how the encoder was trained.
    """
    return {
        f"{prefix}_linear": Linear(embedding, C=None),
        f"{prefix}_graph": Graph(graph),
        f"{prefix}_both": Both(f"{prefix}_linear", f"{prefix}_graph"),
    }


def whitening_of(features: NDArray[np.float32], *, seed: int = 0) -> Whitening:
    """Return W fitted on at most 20,000 rows of `features` [M, d]."""
    rows = np.arange(len(features))
    if len(rows) > MAX_FIT:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_FIT, replace=False))
    return Whitening.fit(np.asarray(features[rows]))
