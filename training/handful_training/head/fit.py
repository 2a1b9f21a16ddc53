"""Fit the classifier head: few labelled embeddings in, head.onnx out.

Several families are judged by the labels (`choice.py`); one is fitted on all of them. Where a graph
is part of it, a student learns on the unlabelled pool what the graph says (`teaching.py`), so that
head.onnx needs an embedding and nothing else. Knows no images and no encoder: the embeddings come
from the exported encoder through `handful_bundle`.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from handful_bundle.manifest import HeadInfo, digest
from handful_training.config import HeadConfig
from handful_training.errors import InputError
from handful_training.head import teacher
from handful_training.head.choice import (
    Judged,
    choose,
    describe,
    favourite,
    judge_graph,
    judge_linear,
    judged_by,
    unseen,
)
from handful_training.head.crossing import cross
from handful_training.head.linear import Logistic, Standardised
from handful_training.head.nodes import Nodes, UnlabelledPool, place
from handful_training.head.onnx_graph import (
    Part,
    Term,
    View,
    classifier_part,
    compose,
    whitened_part,
)
from handful_training.head.selection import judged
from handful_training.head.teaching import teach


@dataclass(frozen=True)
class FittedHead:
    """A head and how far it may be trusted on the rows that it was fitted on."""

    labels: tuple[str, ...]  # order of the probabilities
    width: int  # E
    parts: tuple[Part, ...]  # of head.onnx; `probabilities` is the output of the last
    kind: str  # logistic, lda, nearest_mean, graph or combined
    C: float | None  # inverse regularisation strength of the logistic part, if there is one
    temperature: float  # of the graph's or else the linear part's logits
    label_count: int
    cv_log_loss: float | None  # nats, calibrated, on held-out rows; None: too few labels
    out_of_fold: NDArray[np.float32] | None  # calibrated [n, K]; None: a class has one label
    repeats: NDArray[np.float32] | None  # before the mean was taken, [R, n, K]
    choice: dict[str, Any] = field(default_factory=dict)  # what was judged, for logs

    @property
    def onnx(self) -> bytes:
        """`embedding` float32 [batch, E] -> `probabilities` float32 [batch, K], and more."""
        return compose(self.width, self.parts)

    def with_part(self, part: Part) -> Self:
        """Return the head with a part more: it may read `embedding` and, if there, `whitened`."""
        return replace(self, parts=(*self.parts, part))


def fit_head(
    embeddings: NDArray[np.float32],
    target: NDArray[np.int64],
    labels: tuple[str, ...],
    config: HeadConfig | None = None,
    *,
    pool: UnlabelledPool | None = None,
    positions: NDArray[np.int64] | None = None,
    judges: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> FittedHead:
    """Fit a head on labelled embeddings. The same arguments give the same bytes.

    `out_of_fold` predicts each row by models that did not see its label, averaged over repeats. One
    number, the temperature, was fitted on these rows, and so was C; all else is honest. With a
    graph it is what the graph says of the row in its first round, which the student comes close to.

    Args:
        embeddings: [n, E], computed by the exported encoder.
        target: index of each row's label, [n].
        labels: names of the classes; each has at least one row.
        config: the family, folds, repeats and the candidates for C.
        pool: embeddings of images with and without labels. Where it has fewer unlabelled than
            labelled ones, or fewer than 100, it is not used.
        positions: of the labelled rows in the pool, [n], -1 where it is not in it; None: of none.
        judges: rows whose labels the encoder itself has not seen, [n]: where any of them can be
            held out, they alone choose and calibrate. None: it has seen no label.
        seed: decides the folds and where the student starts.

    Raises:
        InputError: fewer than two classes, a class without a row, or unusable embeddings; a graph
            is asked for, and there is no pool.
    """
    _check(embeddings, target, labels)
    config = config or HeadConfig()
    target = target.astype(np.int64)
    if not teacher.usable(pool, len(target)):
        pool = None
    if pool is None and config.family in ("graph", "combined"):
        raise InputError(
            f"head.family={config.family} learns from unlabelled images, at least "
            f"{teacher.MIN_UNLABELLED} and as many as are labelled; name the folder of all images, "
            "or choose another family"
        )
    views: dict[View, Standardised] = {"embedding": Standardised.of(embeddings)}
    nodes = None
    if pool is not None:
        features = pool.whitening(embeddings)
        views["whitened"] = Standardised.of(features)
        if config.family in ("auto", "graph", "combined"):
            if positions is None:
                positions = np.full(len(target), -1)
            nodes = place(pool, positions, features)
    if judges is not None and not (judges & (np.bincount(target) > 1)[target]).any():
        judges = None
    chosen, choice = _choose(views, nodes, target, config, judges, seed)

    terms: list[Term] = []
    graph_scale = chosen.graph_scale
    if chosen.family is not None:
        standardised = views[chosen.view]
        fitted = chosen.family(standardised.rows, target, len(labels), config.class_prior)
        layer = standardised.unfold(fitted).layer()
        terms.append(Term(chosen.view, (layer,)).scaled(chosen.linear_scale))
    if graph_scale and pool is not None and nodes is not None:
        taught = teach(
            pool, nodes, {"embedding": embeddings, "whitened": features}, target, config,
            graph_scale=graph_scale, linear=terms[0] if terms else None, seed=seed,
        )  # fmt: skip
        terms.append(taught.term)
        graph_scale = taught.graph_scale
        choice["student_agreement"] = taught.agreement
        choice["second_round_changed"] = taught.changed

    whitened = [whitened_part(pool.whitening)] if pool is not None else []
    repeats = None
    if chosen.logits is not None and (np.bincount(target) > 1).all():
        repeats = softmax(chosen.logits, axis=-1).astype(np.float32)
    return FittedHead(
        labels=labels,
        width=embeddings.shape[1],
        parts=(*whitened, classifier_part(terms)),
        kind=chosen.kind,
        C=chosen.family.C if isinstance(chosen.family, Logistic) else None,
        temperature=1 / (graph_scale or chosen.linear_scale),
        label_count=len(target),
        cv_log_loss=chosen.log_loss,
        out_of_fold=None if repeats is None else repeats.mean(axis=0),
        repeats=repeats,
        choice=choice,
    )


def head_info(fitted: FittedHead, labels_digest: str | None) -> HeadInfo:
    """Return the manifest's block about the head."""
    return HeadInfo(
        kind=fitted.kind,
        digest=digest(fitted.onnx),
        labels_digest=labels_digest,
        label_count=fitted.label_count,
        temperature=fitted.temperature,
    )


def _choose(
    views: dict[View, Standardised],
    nodes: Nodes | None,
    target: NDArray[np.int64],
    config: HeadConfig,
    judges: NDArray[np.bool_] | None,
    seed: int,
) -> tuple[Judged, dict[str, Any]]:
    lines = judge_linear(views, target, config, seed=seed)
    preferred = favourite(target, config, pool=nodes is not None, adapted=judges is not None)
    graph = None
    if nodes is not None and judged(target) is not None:
        graph = teacher.out_of_fold(nodes, target, config, seed=seed)

    def candidates(rows: NDArray[np.bool_] | None) -> tuple[list[Judged], list[Judged]]:
        linear = judged_by(rows, lines, target)
        if nodes is None:
            return linear, linear
        best = choose(linear, "logistic", target, config, rows)
        if graph is None:
            with_graph = [unseen(kind, best) for kind in ("graph", "combined")]
        else:
            with_graph = judge_graph(graph, best, target, config, rows)
        everything = [*linear, *with_graph]
        return (everything if config.family == "auto" else with_graph), everything

    def decide(rows: NDArray[np.bool_] | None) -> Judged:
        return choose(candidates(rows)[0], preferred, target, config, rows)

    chosen = cross(decide, target, config, judges, seed=seed)
    said = describe(candidates(judges)[1], chosen, target, judges)
    said["recipe"]["graph"] = config.graph
    return chosen, said


def _check(
    embeddings: NDArray[np.float32], target: NDArray[np.int64], labels: tuple[str, ...]
) -> None:
    if len(labels) < 2:
        raise InputError(f"{len(labels)} classes among the labels; a head needs at least two")
    if embeddings.ndim != 2 or len(embeddings) != len(target):
        raise InputError(
            f"embeddings {embeddings.shape} for {len(target)} labels; give one row per label"
        )
    if target.min(initial=0) < 0 or target.max(initial=0) >= len(labels):
        raise InputError(f"a label's index lies outside 0 ... {len(labels) - 1}; read them again")
    counts = np.bincount(target, minlength=len(labels))
    if not counts.all():
        missing = ", ".join(name for name, n in zip(labels, counts, strict=True) if n == 0)
        raise InputError(f"no labelled image of: {missing}; label at least one, or drop the class")
    if not np.isfinite(embeddings).all():
        raise InputError("some embeddings are not finite; pretrain the encoder again")
