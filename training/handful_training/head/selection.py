"""How strongly a logistic regression on few labels is regularised, and how sure it may be.

The inverse strength C and the temperature T are chosen together, by the log loss of
softmax(logits / T) on held-out rows in repeated stratified cross-validation. Choosing C at T = 1
and T afterwards asks C to mend the confidence too: on Fashion-MNIST with 3 labels per class that
loses 0.9 points and 0.04 nats; with 10 per class it gains 0.4 points and loses 0.01 nats.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from handful_training.config import HeadConfig
from handful_training.head.calibration import fit_temperature
from handful_training.head.linear import Family
from handful_training.head.logistic import fit, logistic, logits, stratified_folds

# Where cross-validation cannot see: the variance that a logit has before any label, C times the
# mean squared norm of the features. On Fashion-MNIST with one label per class it has the best log
# loss and needs no temperature (ECE 5 %).
BLIND_LOGIT_VARIANCE = 25.0

# Repeats average out how the folds happened to fall, which only few labels suffer from.
ENOUGH_ROWS = 1000


class Selection(NamedTuple):
    """What cross-validation chose."""

    C: float
    temperature: float
    log_loss: float | None  # nats, on held-out rows; None: nothing could be held out
    out_of_fold: NDArray[np.float32] | None  # calibrated, [n, K]; None: a class has one label
    repeats: NDArray[np.float32] | None = None  # the same before the mean was taken, [R, n, K]
    logits: NDArray[np.float64] | None = None  # of rows held out, over T, [R, n, K]
    objective: float = math.inf  # log_loss and the share of T's prior


def select(
    features: NDArray[np.float64], target: NDArray[np.int64], config: HeadConfig, *, seed: int
) -> Selection:
    """Choose C and T for a logistic regression on `features`.

    A class with one label cannot be held out: without it the classifier would not know that the
    class exists. Such rows stay in every training fold. When they are more than half of all
    rows, or leave fewer than two classes to judge by, nothing is chosen: T = 1, and C is a
    constant (0.1 for 256 standardised features). Out-of-fold predictions are given only where
    every row has them.

    Args:
        features: standardised embeddings, [n, d].
        target: index of each row's class, [n]; each of 0 ... K-1 occurs.
        config: folds, repeats and the candidates for C.
        seed: decides the folds.
    """
    scored = judged(target)
    if scored is None:
        norm = float(np.square(features).sum(axis=1).mean())
        return Selection(BLIND_LOGIT_VARIANCE / (norm or 1.0), 1.0, None, None)
    best, best_objective, worse = None, math.inf, 0
    weight = row_weights(target[scored], config)
    for C, found in _held_out_logits(features, target, config, seed):
        temperature = fit_temperature(found[:, scored], target[scored], weight)
        if temperature.objective < best_objective:
            best, best_objective, worse = (C, temperature, found), temperature.objective, 0
        elif (worse := worse + 1) == 2:  # the loss has one valley, and weak C is slow to fit
            break
    assert best is not None  # the grid is never empty
    C, temperature, found = best
    out_of_fold = repeats = None
    if scored.all():
        repeats = softmax(found / temperature.value, axis=-1).astype(np.float32)
        out_of_fold = repeats.mean(axis=0)
    return Selection(
        C,
        temperature.value,
        temperature.log_loss,
        out_of_fold,
        repeats,
        found / temperature.value,
        best_objective,
    )


def judged(target: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Return which rows can be held out, [n]: those whose class has another one.

    None: they are less than half of all rows, or of one class; nothing can be judged by them.
    """
    counts = np.bincount(target)
    scored: NDArray[np.bool_] = counts[target] > 1
    return None if 2 * scored.sum() < len(target) or (counts > 1).sum() < 2 else scored


def row_weights(target: NDArray[np.int64], config: HeadConfig) -> NDArray[np.float64]:
    """Return what each row counts for, [n], 1 on average: with a uniform prior, classes alike."""
    if config.class_prior == "estimated":
        return np.ones(len(target))
    weight = 1 / np.bincount(target)[target]
    weights: NDArray[np.float64] = weight / weight.mean()
    return weights


def cross_folds(target: NDArray[np.int64], config: HeadConfig, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row in each repeat, [R, n]; -1 for a class's only row.

    Every class is in every fold. More folds than that would train on more rows, but on classes of
    unequal size, and learn to doubt the class whose row is held out.
    """
    counts = np.bincount(target)
    folds = min(config.folds, int(counts[counts > 1].min()))
    repeats = min(config.repeats, math.ceil(ENOUGH_ROWS / len(target)))
    rng = np.random.default_rng(seed)
    return np.stack([stratified_folds(target, folds, rng) for _ in range(repeats)])


def held_out_logits(
    family: Family,
    features: NDArray[np.float64],
    target: NDArray[np.int64],
    config: HeadConfig,
    *,
    seed: int,
) -> NDArray[np.float64]:
    """Return logits [R, n, K] of any family, each row's by models that never saw it."""
    fold = cross_folds(target, config, seed)
    classes = int(target.max()) + 1
    found = np.zeros((*fold.shape, classes))
    for r, repeat in enumerate(fold):
        for f in range(int(repeat.max()) + 1):
            out = repeat == f
            model = family(features[~out], target[~out], classes, config.class_prior)
            found[r, out] = model.logits(features[out])
    return found


def _held_out_logits(
    features: NDArray[np.float64], target: NDArray[np.int64], config: HeadConfig, seed: int
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Yield each C, ascending, with logits [R, n, K] by models that never saw the row."""
    fold = cross_folds(target, config, seed)
    repeats, folds = len(fold), int(fold.max()) + 1
    classes = int(target.max()) + 1
    models = [(r, f, logistic(tol=1e-3)) for r in range(repeats) for f in range(folds)]
    for C in sorted(config.c_grid):
        found = np.zeros((repeats, len(target), classes))
        for r, f, model in models:
            held_out = fold[r] == f
            fit(model, C, features[~held_out], target[~held_out])
            found[r, held_out] = logits(model, features[held_out])
            if config.class_prior == "uniform":
                found[r, held_out] -= np.log(np.bincount(target[~held_out], minlength=classes))
        yield C, found
