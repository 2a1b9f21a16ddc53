"""What a head says of a label that had no part in choosing it.

Every candidate's out-of-fold logits are honest about its weights. The choice among a dozen of them,
and the factors of a graph and a linear part, are made on the same rows, and flatter the winner: of
100 labels it looks surer than it is, so that sets of a nominal 90 % hold the truth in 87 %. So the
choice is made again without each fold, from the logits at hand; only C stays as it is. The
temperature and what the gate and the prediction sets look at come from there (Varma & Simon 2006,
"Bias in error estimation when using cross-validation for model selection", BMC Bioinformatics 7).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from handful_training.config import HeadConfig
from handful_training.head.calibration import fit_temperature
from handful_training.head.choice import Judged
from handful_training.head.selection import cross_folds, judged, row_weights

Decide = Callable[[NDArray[np.bool_] | None], Judged]
"""Chooses by the rows of a mask, [n]; None: by all that can be held out."""


def cross(
    decide: Decide,
    target: NDArray[np.int64],
    config: HeadConfig,
    judges: NDArray[np.bool_] | None,
    *,
    seed: int,
) -> Judged:
    """Choose by all rows, and again without each fold.

    Args:
        decide: chooses.
        target: class of each row, [n].
        config: folds.
        judges: rows that may choose at all, [n]; None: all.
        seed: of the folds that the logits were made in.

    Returns:
        What all rows choose, as sure as it may be. Its logits are what each row was told by those
        that were chosen without it; where nothing can be held out, there are none.
    """
    chosen, scored = decide(judges), judged(target)
    if chosen.logits is None or scored is None:
        return chosen
    allowed = scored if judges is None else scored & judges
    fold = cross_folds(target, config, seed)
    repeats = len(chosen.logits)
    logits = chosen.logits.copy()
    for f in range(int(fold.max()) + 1):
        for r in range(repeats):
            out = fold[r] == f
            if not (allowed & ~out).any():
                continue
            without = decide(allowed & ~out)
            assert without.logits is not None
            # Another candidate may have been judged in fewer repeats than this one.
            logits[r, out] = without.logits[r % len(without.logits), out]
    weight = row_weights(target[allowed], config)
    temperature = fit_temperature(logits[:, allowed], target[allowed], weight)
    scale = 1 / temperature.value
    return chosen._replace(
        linear_scale=scale * chosen.linear_scale,
        graph_scale=scale * chosen.graph_scale,
        logits=scale * logits,
        log_loss=temperature.log_loss,
    )
