"""The pool: the images without labels as an encoder sees them, and the graph that links them.

Made once for an encoder and a pack, so that the next head finds it: with 60,000 images it is read
in 0.2 seconds. It knows nothing of labels.
"""

import io
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from handful_bundle import encoder
from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.bundle import Bundle
from handful_training import embedding, whitening
from handful_training.atomic_file import write_whole
from handful_training.embedding import embed_rows
from handful_training.graph import knn, pool_graph
from handful_training.graph.pool_graph import PoolGraph
from handful_training.packs.pack import Pack
from handful_training.pipeline.work import Stage, code_digest, disk_errors, file_digest, open_stage
from handful_training.progress import progress
from handful_training.whitening import MAX_FIT, Whitening

MAX_POOL = 100_000  # images; of more, a random part of this size
PART_ROWS = 8_192  # embedded between two points that an interrupted run can go on from

EMBEDDING, FEATURES = "embedding.npy", "features.npy"
WHITENING, GRAPH = "whitening.npz", "graph.npz"
FILES = (EMBEDDING, FEATURES, WHITENING, GRAPH)
PARTS = "parts"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pool:
    """M images of a pack, embedded and linked.

    Attributes:
        rows: rows of the pack, [M], ascending.
        embedding: float32 [M, E], mapped from disk.
        features: `whitening` of the embedding, float32 [M, p], mapped from disk.
        whitening: fitted on the pool.
        graph: of the features; node i is `rows[i]`.
    """

    rows: NDArray[np.int64]
    embedding: NDArray[np.float32]
    features: NDArray[np.float32]
    whitening: Whitening
    graph: PoolGraph

    def positions(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return where `rows` of the pack [n] are in the pool, [n]; -1: not in it."""
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[at] == rows, at, -1)


def open_pool(bundle: Bundle, pack: Pack, work: Path, *, seed: int = 0) -> Pool:
    """Return the pool of a bundle's encoder and a pack; made now, or in an earlier run.

    A run that was stopped goes on where it was. Memory does not grow with the pack.

    Args:
        bundle: its encoder embeds the images.
        pack: the images.
        work: the work folder; the pool goes to `pools/` in it.
        seed: draws the images that take part, where there are more than `MAX_POOL`.

    Raises:
        TrainingError: the work folder cannot be written.
    """
    stage = open_stage(
        work,
        "pools",
        {
            "encoder": bundle.manifest.files[encoder.FILE],
            "pixels": pack.content_digest,
            "draw": {"seed": seed, "of": MAX_POOL} if len(pack) > MAX_POOL else None,
            "code": code_digest(embedding, knn, pool_graph, whitening),
        },
    )
    rows = _draw(len(pack), seed)
    while True:
        found = stage.result()
        if found is None:
            with disk_errors():
                _make(stage, bundle, pack, rows)
            continue
        pool = _load(stage.folder, found["files"], rows)
        if pool is not None:
            return pool
        _log.warning("%s is damaged; it is made again", stage.folder)
        stage.forget()


def _draw(count: int, seed: int) -> NDArray[np.int64]:
    if count <= MAX_POOL:
        return np.arange(count)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(count, MAX_POOL, replace=False))


def _make(stage: Stage, bundle: Bundle, pack: Pack, rows: NDArray[np.int64]) -> None:
    folder = stage.folder
    parts = _embed(bundle, pack, rows, folder)
    _join(parts, (len(rows), bundle.encoder.embedding_dim), folder / EMBEDDING)
    embeddings = np.load(folder / EMBEDDING, mmap_mode="r")
    fitted = Whitening.fit(np.array(embeddings[:: 1 + (len(rows) - 1) // MAX_FIT]))
    features = np.empty((len(rows), fitted.axes.shape[1]), np.float32)
    for start in range(0, len(rows), PART_ROWS):
        features[start : start + PART_ROWS] = fitted(embeddings[start : start + PART_ROWS])
    write_whole(folder / FEATURES, _npy(features))
    write_whole(folder / WHITENING, pack_arrays(vars(fitted)))
    write_whole(folder / GRAPH, PoolGraph.build(features).pack())
    stage.finish({"files": {name: file_digest(folder / name) for name in FILES}})
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def _embed(bundle: Bundle, pack: Pack, rows: NDArray[np.int64], folder: Path) -> list[Path]:
    """Write the embedding of `rows`, a file for each part; those that are there stay."""
    (folder / PARTS).mkdir(exist_ok=True)
    starts = range(0, len(rows), PART_ROWS)
    paths = [folder / PARTS / f"{start}.npy" for start in starts]
    with progress(len(rows), desc="Embedding") as bar:
        for start, path in zip(starts, paths, strict=True):
            part = rows[start : start + PART_ROWS]
            if path.exists():
                bar.skip(len(part))
                continue
            write_whole(path, _npy(embed_rows(bundle.encoder, pack.images, part).embedding))
            bar.update(len(part))
    return paths


def _join(parts: list[Path], shape: tuple[int, int], path: Path) -> None:
    """Write what the `parts` hold to one file that can be mapped."""
    whole = path.with_name(f".{path.name}.tmp")
    with whole.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.load(part, allow_pickle=False).data)
        file.flush()
        os.fsync(file.fileno())
    whole.replace(path)


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _load(folder: Path, digests: dict[str, str], rows: NDArray[np.int64]) -> Pool | None:
    """Return what `_make` has written; None: not all of it is as it was."""
    try:
        if any(file_digest(folder / name) != digests[name] for name in FILES):
            return None
        fitted = Whitening(**unpack_arrays((folder / WHITENING).read_bytes(), WHITENING))
        graph = PoolGraph.unpack((folder / GRAPH).read_bytes())
        embeddings = np.load(folder / EMBEDDING, mmap_mode="r", allow_pickle=False)
        features = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    return Pool(rows, embeddings, features, fitted, graph)
