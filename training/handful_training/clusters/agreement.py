"""How well clusters match classes. Pure functions of arrays; knows no model.

What a cluster is called changes no figure.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score


@dataclass(frozen=True)
class Agreement:
    """Of clusters with classes, over the rows whose class is known. Each is 1 at best.

    Attributes:
        nmi: normalised mutual information (arithmetic mean of the entropies); 0: independent.
        ari: adjusted Rand index (Hubert & Arabie 1985); 0 in expectation for random clusters.
        accuracy: share of rows that are right when each cluster is called after one class, no
            class twice, in the best of all ways (Hungarian method). Clusters without a class of
            their own are wrong.
        purity: share of rows that are of their cluster's most frequent class. It rises with the
            number of clusters by itself: compare it at equal numbers only.
    """

    nmi: float
    ari: float
    accuracy: float
    purity: float

    def named(self, prefix: str = "") -> dict[str, float]:
        """Return the figures by name."""
        return {f"{prefix}{name}": float(value) for name, value in asdict(self).items()}


def agreement(cluster: NDArray[np.integer], target: NDArray[np.integer]) -> Agreement:
    """Compare clusters with classes, both int [n], n >= 1."""
    counts = contingency(cluster, target)
    return Agreement(
        nmi=float(normalized_mutual_info_score(target, cluster)),
        ari=float(adjusted_rand_score(target, cluster)),
        accuracy=matched_accuracy(counts),
        purity=float(counts.max(axis=1).sum() / counts.sum()),
    )


def matched_accuracy(counts: NDArray[np.integer]) -> float:
    """Return the accuracy of the best one-to-one matching; `counts` [k, K] as `contingency`.

    Xie et al. 2016, "Unsupervised deep embedding for clustering analysis", eq. 10.
    """
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / counts.sum())


def contingency(
    cluster: NDArray[np.integer], target: NDArray[np.integer], k: int = 0, classes: int = 0
) -> NDArray[np.int64]:
    """Count rows by cluster and class, [k, K]; as many of each as occur, unless given."""
    k = max(k, int(cluster.max(initial=-1)) + 1)
    K = max(classes, int(target.max(initial=-1)) + 1)
    pairs = cluster.astype(np.int64) * K + target
    return np.bincount(pairs, minlength=k * K).reshape(k, K)
