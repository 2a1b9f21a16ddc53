"""What is fitted on each subset: a linear classifier, the graph, or both.

All are the kinds that the head may be of. Which kind, and its parameters, are those that all
labels chose: choosing anew for every subset would take a minute and ask cross-validation of a
handful of labels. A graph answers for its own nodes, and by its first round; the served head is a
network that has learnt to answer like the second, and is a little better (`head/teaching.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handful_training.config import LearnerName
from handful_training.graph.learners import GRAPH_LEARNERS
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import alpha_for
from handful_training.head.linear import Family, Linear, Prior, Standardised
from handful_training.head.stacking import combine, graph_logits

NOT_ASKED = -1


class Method(Protocol):
    """A way to classify q images, some of which are labelled in each of J subsets."""

    def logits(
        self, inside: NDArray[np.bool_], asked: NDArray[np.bool_], target: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [J, q, K]; meaningful where asked.

        Args:
            inside: which images' labels are given, [J, q].
            asked: which images' classes are to be told, [J, q]; never one that is inside.
            target: index of every image's class, [q]; used inside only.
        """
        ...


def predict(
    method: Method,
    inside: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    target: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the class of each image that is asked for, [J, q], and `NOT_ASKED` elsewhere."""
    found = method.logits(inside, asked, target).argmax(axis=-1)
    return np.where(asked, found, NOT_ASKED)


@dataclass(frozen=True, eq=False)
class LinearMethod:
    """A linear classifier fitted on each subset.

    Attributes:
        features: of the q images, [q, d].
        family: what is fitted.
        prior: of the classes.
        standardise: centre, and scale by the RMS deviation, as the head does; the pixel control
            is better without.
    """

    features: NDArray[np.floating]
    family: Family
    prior: Prior = "estimated"
    standardise: bool = True

    def logits(
        self, inside: NDArray[np.bool_], asked: NDArray[np.bool_], target: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [J, q, K]."""
        classes = int(target.max()) + 1
        found = np.zeros((*inside.shape, classes), np.float32)
        for j, (known, wanted) in enumerate(zip(inside, asked, strict=True)):
            fitted = self._fit(self.features[known], target[known], classes)
            found[j, wanted] = fitted.logits(self.features[wanted])
        return found

    def _fit(self, rows: NDArray[np.floating], target: NDArray[np.int64], classes: int) -> Linear:
        if not self.standardise:
            return self.family(rows.astype(np.float64), target, classes, self.prior)
        standardised = Standardised.of(rows)
        fitted = self.family(standardised.rows, target, classes, self.prior)
        return standardised.unfold(fitted)


@dataclass(frozen=True, eq=False)
class GraphMethod:
    """Labels of each subset reach the others over a graph in which all q images are nodes.

    Spreading is linear in the labels, so all subsets with walks of one length cost together at most
    one solution per label; Poisson learning costs one per subset and class.

    Attributes:
        graph: of N nodes.
        nodes: of the q images, all different, [q].
        prior: of the classes.
        learner: how labels reach other images.
    """

    graph: PoolGraph
    nodes: NDArray[np.int64]
    prior: Prior = "estimated"
    learner: LearnerName = "spreading"

    def logits(
        self, inside: NDArray[np.bool_], asked: NDArray[np.bool_], target: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [J, q, K]."""
        del asked  # each image that is not inside is told anyway
        classes = int(target.max()) + 1
        found = np.empty((*inside.shape, classes), np.float32)
        options: dict[str, Any] = {"prior": "uniform" if self.prior == "uniform" else None}
        for alpha, alike in _walks(inside, classes):
            if self.learner == "spreading":
                options["alpha"] = alpha
            found[alike] = GRAPH_LEARNERS[self.learner].out_of_fold(
                self.graph,
                self.nodes,
                target,
                classes,
                np.where(inside[alike], -1, 0),
                **options,
            )
        return graph_logits(found).astype(np.float32)


@dataclass(frozen=True, eq=False)
class BothMethod:
    """What a graph and a linear classifier say together, each with the weight that it was given."""

    graph: GraphMethod
    linear: LinearMethod
    scales: tuple[float, float]

    def logits(
        self, inside: NDArray[np.bool_], asked: NDArray[np.bool_], target: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [J, q, K]."""
        experts = [
            method.logits(inside, asked, target).astype(np.float64)
            for method in (self.graph, self.linear)
        ]
        return combine(experts, self.scales).astype(np.float32)


def graph_columns(inside: NDArray[np.bool_], target: NDArray[np.int64]) -> int:
    """Return how many linear systems a `GraphMethod` solves at most: its cost.

    Labels of one class that always go together are one column, over all subsets with walks of one
    length or one by one.
    """

    def columns(subsets: NDArray[np.bool_]) -> int:
        return len(np.unique(np.vstack([target, np.where(subsets, -1, 0)]), axis=1).T)

    return sum(
        min(columns(inside[alike]), sum(columns(one) for one in inside[alike]))
        for _, alike in _walks(inside, int(target.max()) + 1)
    )


def _walks(inside: NDArray[np.bool_], classes: int) -> Iterator[tuple[float, NDArray[np.bool_]]]:
    """Yield each alpha that subsets [J, q] of labels ask for, and which of them do, [J]."""
    alphas = np.array([alpha_for(int(count), classes) for count in inside.sum(axis=1)])
    for alpha in np.unique(alphas):
        yield float(alpha), alphas == alpha
