"""The ways in which labels reach unlabelled images over the graph."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from handful_training.graph.poisson import poisson, poisson_out_of_fold
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.prior import Prior
from handful_training.graph.spreading import spread, spread_out_of_fold

LearnerName = Literal["spreading", "poisson"]


class Learn(Protocol):
    """Labels of some nodes → p(class) of all."""

    def __call__(
        self,
        graph: PoolGraph,
        rows: NDArray[np.integer],
        target: NDArray[np.integer],
        classes: int,
        *,
        prior: Prior = None,
    ) -> NDArray[np.float32]:
        """Return [N, K], see `spreading.spread`."""


class LearnOutOfFold(Protocol):
    """Labels of some nodes → p(class) of each without its fold's labels."""

    def __call__(
        self,
        graph: PoolGraph,
        rows: NDArray[np.integer],
        target: NDArray[np.integer],
        classes: int,
        fold: NDArray[np.integer],
        *,
        prior: Prior = None,
    ) -> NDArray[np.float32]:
        """Return [R, n, K], see `spreading.spread_out_of_fold`."""


class GraphLearner(NamedTuple):
    """One way."""

    learn: Learn
    out_of_fold: LearnOutOfFold


GRAPH_LEARNERS: dict[LearnerName, GraphLearner] = {
    "spreading": GraphLearner(spread, spread_out_of_fold),
    "poisson": GraphLearner(poisson, poisson_out_of_fold),
}
