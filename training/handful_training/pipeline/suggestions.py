"""From a bundle, a pack and labels to suggestions: what each strategy looks at."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training.config import HeadConfig
from handful_training.embedding import embed_rows
from handful_training.errors import InputError
from handful_training.graph.spreading import spread
from handful_training.head.fit import fit_head
from handful_training.labels.labels import Labels
from handful_training.packs.files import DIGESTS
from handful_training.packs.pack import Pack
from handful_training.pipeline.pool_stage import Pool, open_pool
from handful_training.suggest.audit import different, draw, expected_interval
from handful_training.suggest.coverage import choose
from handful_training.suggest.doubts import find_doubts
from handful_training.suggest.suggestion import (
    Suggestion,
    covering_reason,
    doubted_reason,
    uncertain_reason,
)
from handful_training.suggest.uncertainty import uncertainty

ALIKE = 5  # images shown beside one that is suggested

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Situation:
    """What a choice starts from.

    Attributes:
        bundle: its encoder decides what is alike.
        pack: the images.
        labels: those that are known, if any.
        asked: rows of the pack that somebody was asked about already, [a].
        barred: rows that may not be suggested for another reason, [b].
        work: the work folder.
        seed: of everything that is drawn.
    """

    bundle: Bundle
    pack: Pack
    labels: Labels | None
    asked: NDArray[np.int64]
    barred: NDArray[np.int64]
    work: Path
    seed: int

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Rows of the labelled images."""
        return np.zeros(0, np.int64) if self.labels is None else self.labels.index

    @property
    def taken(self) -> NDArray[np.int64]:
        """Rows that are not suggested, sorted."""
        return np.unique(np.concatenate([self.labelled, self.asked, self.barred]))


def to_label(situation: Situation, count: int) -> tuple[str, list[Suggestion]]:
    """Choose images whose labels would help most; return the strategy's name too."""
    pack, labels = situation.pack, situation.labels
    pool = open_pool(situation.bundle, pack, situation.work)
    excluded = np.zeros(len(pool.rows), np.bool_)
    inside = pool.positions(situation.taken)
    excluded[inside[inside >= 0]] = True
    found = _probabilities(pool, labels)
    known = np.union1d(situation.labelled, situation.asked)
    chosen = choose(
        pool.features,
        count,
        labelled=_features(situation, pool, known),
        excluded=excluded,
        weight=None if found is None else uncertainty(found),
        seed=situation.seed,
    )
    suggestions = []
    for position, share in zip(chosen.row.tolist(), chosen.stands_for.tolist(), strict=True):
        images = share * len(pack)
        if found is None or labels is None:
            reason = covering_reason(images)
        else:
            reason = uncertain_reason(found[position], labels.names, images)
        alike = tuple(pool.rows[_neighbours(pool, position)].tolist())
        suggestions.append(Suggestion(int(pool.rows[position]), reason, alike=alike))
    return "coverage" if found is None else "uncertainty", suggestions


def to_audit(situation: Situation, count: int) -> list[Suggestion]:
    """Draw images for honest figures, all of the pack equally likely."""
    digests = np.load(situation.pack.root / DIGESTS, mmap_mode="r", allow_pickle=False)
    rows = different(digests, situation.taken)
    chosen = draw(rows, count, seed=situation.seed)
    low, high = expected_interval(len(chosen))
    if len(chosen):
        _log.info(
            "where 90 %% of the answers are right, %d labels will say: %.0f to %.0f %% (95 %%)",
            len(chosen), 100 * low, 100 * high,
        )  # fmt: skip
    reason = f"drawn at random among {len(rows):,} different images without a label"
    return [Suggestion(row, reason) for row in chosen.tolist()]


def to_doubt(situation: Situation, count: int) -> list[Suggestion]:
    """Find labels that a head which did not see them disputes.

    Raises:
        InputError: there are not two classes with two labels each.
    """
    if situation.labels is None:
        raise InputError("--doubts looks at labels; give them by --labels")
    labels = _judged(situation.labels)
    embeddings = embed_rows(situation.bundle.encoder, situation.pack.images, labels.index).embedding
    pool = open_pool(situation.bundle, situation.pack, situation.work)
    fitted = fit_head(
        embeddings,
        labels.target,
        labels.names,
        HeadConfig(),
        pool=pool,
        positions=pool.positions(labels.index),
        seed=situation.seed,
    )
    assert fitted.out_of_fold is not None  # each class has two labels
    found = find_doubts(fitted.out_of_fold, labels.target)
    _log.info(
        "%d of %d labels are disputed, of which about %d are likely wrong",
        len(found.place), len(labels), found.likely_wrong,
    )  # fmt: skip
    suggestions = []
    for i, proposed, share, given in zip(
        *(part[:count].tolist() for part in found[:4]), strict=True
    ):
        name, other = labels.names[labels.target[i]], labels.names[proposed]
        suggestions.append(
            Suggestion(
                int(labels.index[i]),
                doubted_reason(name, given, other, share),
                label=name,
                more=(("proposed", other), ("probability", f"{share:.4f}")),
            )
        )
    return suggestions


def _probabilities(pool: Pool, labels: Labels | None) -> NDArray[np.float32] | None:
    """Return what the labels say of each image of the pool; None where they say too little."""
    if labels is None:
        return None
    position = pool.positions(labels.index)
    inside = position >= 0
    if len(np.unique(labels.target[inside])) < 2:
        return None
    return spread(pool.graph, position[inside], labels.target[inside], len(labels.names))


def _features(situation: Situation, pool: Pool, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return W of rows of the pack, whether the pool has them or not."""
    position = pool.positions(rows)
    features = np.array(pool.features[np.maximum(position, 0)])
    if len(outside := np.flatnonzero(position < 0)):
        found = embed_rows(situation.bundle.encoder, situation.pack.images, rows[outside])
        features[outside] = pool.whitening(found.embedding)
    return features


def _neighbours(pool: Pool, position: int) -> NDArray[np.int32]:
    """Return the images of the pool that are most like one of it, the nearest first."""
    weights = pool.graph.weights
    links = slice(weights.indptr[position], weights.indptr[position + 1])
    order = np.argsort(-weights.data[links], kind="stable")[:ALIKE]
    found: NDArray[np.int32] = weights.indices[links][order]
    return found


def _judged(labels: Labels) -> Labels:
    """Return the labels of classes that have two or more: only these can be held out."""
    counts = np.bincount(labels.target, minlength=len(labels.names))
    if (counts > 1).sum() < 2:
        raise InputError(
            "--doubts needs two labels of two classes or more: each label is judged by the others"
        )
    kept = labels.of_classes(np.flatnonzero(counts > 1))
    if lost := len(labels) - len(kept):
        _log.warning("%d labels are the only one of their class and cannot be judged", lost)
    return kept
