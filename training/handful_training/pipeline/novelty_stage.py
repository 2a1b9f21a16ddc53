"""Novelty of a pool, fitted once per encoder: every head of that encoder gets it as it is."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from handful_bundle import decoder, encoder
from handful_bundle.bundle import Bundle
from handful_bundle.decoder import distortion
from handful_bundle.manifest import NoveltyInfo
from handful_training.atomic_file import write_whole
from handful_training.embedding import embed_rows
from handful_training.head import onnx_graph
from handful_training.head.onnx_graph import Part, compose
from handful_training.novelty import curve, detector, fit, gaussian, onnx_part
from handful_training.novelty.fit import Distortions, fit_novelty
from handful_training.novelty.onnx_part import novelty_part
from handful_training.packs.pack import Pack
from handful_training.pipeline.work import code_digest, disk_errors, open_stage

MODULES = (curve, detector, fit, gaussian, onnx_part, onnx_graph)  # that the outcome depends on
FILE = "novelty.onnx"
REBUILT_IMAGES = 4000  # decoded to learn how well images are rebuilt
REBUILT_VALUES = 20_000_000  # at most, unless that would leave too few images to learn from
FEWEST_REBUILT = 500
_ROWS = 256  # decoded at once


class ServedNovelty(NamedTuple):
    """What a head is given of it."""

    part: Part | None  # of head.onnx; None: the pool is too small
    info: NoveltyInfo


def open_novelty(
    bundle: Bundle,
    pack: Pack,
    rows: NDArray[np.int64],
    embedding: NDArray[np.float32],
    work: Path,
    *,
    false_alarm_rate: float,
) -> ServedNovelty:
    """Fit novelty on the pool, or find it fitted.

    Args:
        bundle: whose encoder embedded the pool.
        pack: the pool's images are rows of it.
        rows: which, [M].
        embedding: theirs, [M, E].
        work: the work folder.
        false_alarm_rate: share of images like the pool's that may be called novel.
    """
    files = bundle.manifest.files
    stage = open_stage(
        work,
        "novelty",
        {
            "encoder": files[encoder.FILE],
            "decoder": files.get(decoder.FILE),
            "pixels": pack.content_digest,
            "pool": len(rows),
            "false_alarm_rate": false_alarm_rate,
            "code": code_digest(*MODULES),
        },
    )
    path = stage.folder / FILE
    found = stage.result()
    if found is None:
        rebuilt = _rebuilt(bundle, pack, rows)
        fitted = fit_novelty(embedding, rebuilt, false_alarm_rate=false_alarm_rate)
        if fitted.detector is not None:
            part = novelty_part(fitted.detector)
            with disk_errors():
                write_whole(path, compose(embedding.shape[1], [part]))
        found = fitted.info.model_dump(mode="json")
        stage.finish(found)
    info = NoveltyInfo.model_validate(found)
    if info.method is None:
        return ServedNovelty(None, info)
    graph = onnx.load_model_from_string(path.read_bytes()).graph
    return ServedNovelty(Part(tuple(graph.node), tuple(graph.initializer), graph.output[0]), info)


def _rebuilt(bundle: Bundle, pack: Pack, rows: NDArray[np.int64]) -> Distortions | None:
    """Return how well some of the pool's images are rebuilt; None without a decoder."""
    opened = bundle.decoder
    if opened is None or not len(rows):
        return None
    affordable = max(FEWEST_REBUILT, REBUILT_VALUES // int(np.prod(bundle.manifest.image.shape)))
    count = min(len(rows), REBUILT_IMAGES, affordable)
    # Evenly among the rows that the fit looks at, which are evenly spread themselves.
    looked_at = fit.spread_rows(len(rows), bundle.manifest.embedding_dim)
    chosen = looked_at[np.linspace(0, len(looked_at) - 1, count).astype(np.int64)]
    nats = []
    for start in range(0, count, _ROWS):
        images = np.array(pack.images[rows[chosen[start : start + _ROWS]]])
        decoding = opened(embed_rows(bundle.encoder, images).mean)
        nats.append(distortion(images, decoding.likelihood, opened.likelihood))
    return Distortions(chosen, np.concatenate(nats))
