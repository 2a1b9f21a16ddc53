"""What can be made of pixels without learning, found once per pack and kept in the work folder."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handful_training import baseline, whitening
from handful_training.graph import knn, pool_graph
from handful_training.graph.pool_graph import PoolGraph
from handful_training.ladder import spaces
from handful_training.ladder.spaces import Pixels
from handful_training.packs.pack import Pack
from handful_training.pipeline.work import code_digest, open_stage

FEATURES, GRAPH, WHITENED = "features.npy", "graph.npz", "whitened.npz"


def open_controls(pack: Pack, rows: NDArray[np.int64], work: Path, *, seed: int = 0) -> Pixels:
    """Return PCA and graphs of the images at `rows` of the pack, in that order.

    Args:
        pack: of all images; PCA is fitted on it.
        rows: ascending, [M].
        work: the work folder.
        seed: of everything that is drawn.
    """
    stage = open_stage(
        work,
        "controls",
        {
            "pixels": pack.content_digest,
            "rows": sha256(np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest(),
            "seed": seed,
            "code": code_digest(baseline, whitening, knn, pool_graph, spaces),
        },
    )
    if stage.result() is None:
        found = Pixels.of(pack.images, rows, seed=seed)
        np.save(stage.folder / FEATURES, found.features)
        (stage.folder / GRAPH).write_bytes(found.graph.pack())
        (stage.folder / WHITENED).write_bytes(found.whitened.pack())
        stage.finish({"images": len(rows)})
        return found
    return Pixels(
        np.load(stage.folder / FEATURES, mmap_mode="r"),
        PoolGraph.unpack((stage.folder / GRAPH).read_bytes()),
        PoolGraph.unpack((stage.folder / WHITENED).read_bytes()),
    )
