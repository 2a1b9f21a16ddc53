"""Graph and linear classifier teach a student, in two rounds.

The student is a function of the embedding, fitted on every image of the pool; so it can tell
neighbours of one class from neighbours of two where the graph cannot. In the second round each link
counts by how far the student of the first, a draft, sees one class at both its ends
(`graph/agreement.py`), and the labels spread once more.

What is out of fold knows the first round alone: a second one for each fold would cost as many
solutions as there are folds. So the second is made as sure, on average over the pool, as the first
was found to be rightly, and says only of which class an image is, not how sure that is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from handful_training.config import HeadConfig
from handful_training.graph.agreement import agreeing
from handful_training.head import teacher
from handful_training.head.calibration import as_sure_as
from handful_training.head.nodes import Nodes, UnlabelledPool
from handful_training.head.onnx_graph import Term, View
from handful_training.head.student import DRAFT_STEPS, distil


class Taught(NamedTuple):
    """The student, and what can be said of how it was taught."""

    term: Term
    graph_scale: float  # what the graph's log probabilities were multiplied by in the end
    agreement: float  # share of nodes kept from the student whose class is the teacher's
    changed: float  # share of the pool's images whose class the second round changed


def teach(
    pool: UnlabelledPool,
    nodes: Nodes,
    labelled: dict[View, NDArray[np.float32]],
    target: NDArray[np.int64],
    config: HeadConfig,
    *,
    graph_scale: float,
    linear: Term | None,
    seed: int,
) -> Taught:
    """Fit the student that is served beside the `linear` classifier, if there is one.

    Args:
        pool: M images.
        nodes: they and the labelled ones.
        labelled: each view of the labelled images, [n, ...].
        target: their classes, [n].
        config: how labels reach the pool.
        graph_scale: what the graph's log probabilities are multiplied by.
        linear: what is served beside the student; its logits are scaled already.
        seed: decides where the student starts.
    """
    size = len(pool.features)
    beside = None if linear is None else teacher.term_logits(pool, linear)

    def ask(graph_and_labels: Nodes) -> NDArray[np.float32]:
        logits = teacher.pool_logits(graph_and_labels, target, size, config)
        logits *= np.float32(graph_scale)
        return logits if beside is None else logits + beside

    first = softmax(ask(nodes), axis=1)
    draft, _ = distil(pool.features, first, beside, seed=seed, steps=DRAFT_STEPS)
    said = teacher.term_logits(pool, draft)
    if beside is not None:
        said += beside
    outside = nodes.rows >= size  # in the order in which they follow the pool's nodes
    if outside.any():
        terms = (draft,) if linear is None else (draft, linear)
        theirs = sum(term(labelled[term.view][outside]) for term in terms)
        said = np.concatenate([said, theirs]).astype(np.float32)
    again = ask(nodes._replace(graph=agreeing(nodes.graph, softmax(said, axis=1))))
    factor = as_sure_as(first, again)
    second = softmax(np.float32(factor) * again, axis=1)
    student, agreement = distil(pool.features, second, beside, seed=seed)
    changed = float((second.argmax(axis=1) != first.argmax(axis=1)).mean())
    return Taught(student, factor * graph_scale, agreement, changed)
