"""Every rung on a model's own labels: the controls, its encoder, and the head that is served."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training.embedding import embed_rows
from handful_training.graph.pool_graph import PoolGraph
from handful_training.image_keys import image_keys
from handful_training.labels.labels import Labels
from handful_training.ladder import catalogue as name
from handful_training.ladder.climb import Standing, climb, climb_out_of_fold
from handful_training.ladder.known import Known, Prior
from handful_training.ladder.rungs import Graph
from handful_training.ladder.spaces import encoder_rungs
from handful_training.packs.pack import Pack
from handful_training.pipeline.controls_stage import open_controls
from handful_training.pipeline.evaluation import sample_unused
from handful_training.pipeline.head_stage import HeadBundle
from handful_training.pipeline.inputs import Inputs
from handful_training.pipeline.pool_stage import open_pool
from handful_training.progress import progress

On = Literal["unused labels", "out of fold"]
CHUNK_ROWS = 8192  # that the head answers for at a time


@dataclass(frozen=True, eq=False)
class Nodes:
    """Images of a pack as an encoder sees them, with the graph of their neighbours.

    Attributes:
        rows: of the pack, ascending, int64 [M].
        embedding: float32 [M, E]; may be a memory map.
        graph: of the whitened embeddings.
    """

    rows: NDArray[np.int64]
    embedding: NDArray[np.float32]
    graph: PoolGraph

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which nodes the `rows` of the pack are."""
        return np.searchsorted(self.rows, rows)


@dataclass(frozen=True, eq=False)
class Measured:
    """The ladder, and where it was measured."""

    on: On
    standings: dict[str, Standing]
    served: str  # key of what answers /classify


def measure_ladder(
    bundle: Bundle,
    nodes: Nodes,
    inputs: Inputs,
    fitted: HeadBundle | None,
    work: Path,
    *,
    frozen: Bundle | None,
    control: HeadBundle | None,
    prior: Prior,
    seed: int,
) -> Measured | None:
    """Try every rung on labels that were left over, else out of fold.

    Args:
        bundle: with the head that is served.
        nodes: of `open_nodes`, for its encoder.
        inputs: images and labels.
        fitted: the head, with what it says of its labelled images out of fold; of an adapted
            encoder, of those alone whose labels the encoder has not seen. None: the head was
            fitted elsewhere, and says nothing of these.
        work: the work folder.
        frozen: the bundle that an adapted encoder came from.
        control: what the same adaptation made of a random start.
        prior: of the classes, as the head was told.
        seed: decides the folds.

    Returns:
        None where there is nothing honest to say: no label is left, and a class has one label.
    """
    labels, pack = inputs.labels, inputs.pack
    assert labels is not None
    assert bundle.head is not None
    out_of_fold, seconds = (fitted.out_of_fold, fitted.seconds) if fitted else (None, 0.0)
    known = Known(nodes.at(labels.index), labels.target, len(labels.names), prior)
    if inputs.unused is None and (
        out_of_fold is None or not len(out_of_fold.keys) or not known.can_be_held_out()
    ):
        return None
    served = name.VAE_SERVED if frozen is None else name.ADAPTED_SERVED
    rungs = open_controls(pack, nodes.rows, work).rungs(pack.images, nodes.rows)
    if frozen is not None:
        before = open_nodes(frozen, pack, nodes.rows, work)
        rungs |= encoder_rungs(before.embedding, before.graph)
        rungs[name.ADAPTED_GRAPH] = Graph(nodes.graph)
    else:
        rungs |= encoder_rungs(nodes.embedding, nodes.graph)
    random: Nodes | None = None
    if control is not None:
        untaught = Bundle.load(control.bundle, device="cpu")
        random = open_nodes(untaught, pack, nodes.rows, work)
        rungs[name.RANDOM_GRAPH] = Graph(random.graph)
    with progress(len(rungs), desc="Comparing with controls", unit="way") as bar:
        if inputs.unused is not None:
            unused = sample_unused(inputs.unused, seed)
            at = nodes.at(unused.index)
            found = climb(rungs, known, at, unused.target, seed=seed, advance=bar.update)
            answers = judge_rows(bundle, nodes.embedding, at)[0]
            found[served] = Standing(answers, unused.target, seconds)
            if random is not None and control is not None:
                answers = judge_rows(untaught, random.embedding, at)[0]
                found[name.RANDOM_SERVED] = Standing(answers, unused.target, control.seconds)
            return Measured("unused labels", found, served)
        assert out_of_fold is not None
        found = climb_out_of_fold(rungs, known, seed=seed, advance=bar.update)
    honest = np.isin(image_keys(pack.images, labels.index), out_of_fold.keys)
    found = {key: _only(standing, honest) for key, standing in found.items()}
    found[served] = Standing(out_of_fold.probabilities, out_of_fold.target, seconds)
    if control is not None and control.out_of_fold is not None:  # of the same held-out labels
        same = control.out_of_fold
        found[name.RANDOM_SERVED] = Standing(same.probabilities, same.target, control.seconds)
    return Measured("out of fold", found, served)


def _only(standing: Standing, rows: NDArray[np.bool_]) -> Standing:
    return replace(
        standing, probabilities=standing.probabilities[rows], target=standing.target[rows]
    )


def wanted_rows(labels: Labels | None, unused: Labels | None, seed: int) -> NDArray[np.int64]:
    """Return the rows of the pack that a ladder cannot do without."""
    parts = [] if labels is None else [labels.index]
    if unused is not None:
        parts.append(sample_unused(unused, seed).index)
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))


def open_nodes(bundle: Bundle, pack: Pack, wanted: NDArray[np.int64], work: Path) -> Nodes:
    """Return the pool's nodes and those `wanted` besides, where the pool is a part of the pack."""
    pool = open_pool(bundle, pack, work)
    extra = wanted[pool.positions(wanted) < 0]
    if not len(extra):
        return Nodes(pool.rows, pool.embedding, pool.graph)
    rows = np.union1d(pool.rows, extra)
    embedding = np.empty((len(rows), pool.embedding.shape[1]), np.float32)
    embedding[np.searchsorted(rows, pool.rows)] = pool.embedding
    embedding[np.searchsorted(rows, extra)] = embed_rows(
        bundle.encoder, pack.images, extra
    ).embedding
    return Nodes(rows, embedding, PoolGraph.build(pool.whitening(embedding)))


def judge_rows(
    bundle: Bundle, embedding: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return what the head says of rows [m] of `embedding`: p(class) [m, K], and novelty [m]."""
    assert bundle.head is not None
    parts = [
        bundle.head.judge(np.asarray(embedding[rows[start : start + CHUNK_ROWS]]))
        for start in range(0, max(1, len(rows)), CHUNK_ROWS)
    ]
    probabilities = np.concatenate([part.probabilities for part in parts])
    if parts[0].novelty is None:
        return probabilities, None
    return probabilities, np.concatenate(
        [part.novelty for part in parts if part.novelty is not None]
    )
