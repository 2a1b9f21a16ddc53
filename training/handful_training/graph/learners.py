"""The ways in which labels reach unlabelled images over the graph."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_training.config import LearnerName
from handful_training.graph.poisson import poisson, poisson_out_of_fold
from handful_training.graph.spreading import spread, spread_out_of_fold

Learn = Callable[..., NDArray[np.float32]]


class GraphLearner(NamedTuple):
    """One way."""

    learn: Learn
    """Arguments and result are those of `spreading.spread`."""
    out_of_fold: Learn
    """Arguments and result are those of `spreading.spread_out_of_fold`."""


GRAPH_LEARNERS: dict[LearnerName, GraphLearner] = {
    "spreading": GraphLearner(spread, spread_out_of_fold),
    "poisson": GraphLearner(poisson, poisson_out_of_fold),
}
