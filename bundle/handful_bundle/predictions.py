"""From probabilities and novelty to the answers that users read. The one place that decides them.

The service and the client without a service both answer by this code, so they say the same.
"""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from handful_bundle.head import Judgement
from handful_bundle.manifest import HeadInfo


class Prediction(TypedDict):
    """What is said of one image."""

    label: str  # the most probable class
    confidence: float  # its probability
    probabilities: dict[str, float]  # in the order of the manifest's labels
    prediction_set: list[str] | None  # the most probable first; None: the head tells none
    novelty: float | None  # share of pool images that are less novel; None: the head tells none
    abstained: bool
    reason: str | None  # why it abstained


def predict(judgement: Judgement, labels: tuple[str, ...], info: HeadInfo) -> list[Prediction]:
    """Return one prediction per row of `judgement`.

    Args:
        judgement: of N embeddings, finite.
        labels: names of the classes, [K].
        info: the manifest's block about the head, which holds both thresholds.
    """
    if not len(judgement.probabilities):
        return []
    probabilities = np.clip(judgement.probabilities, 0, 1)
    # A stable order puts the class first that argmax would name.
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = probabilities.tolist()
    sets = _prediction_sets(probabilities, order, labels, info)
    novelty, reasons = _novelty(judgement.novelty, len(rows), info)
    return [
        {
            "label": labels[top],
            "confidence": row[top],
            "probabilities": dict(zip(labels, row, strict=True)),
            "prediction_set": prediction_set,
            "novelty": novel,
            "abstained": reason is not None,
            "reason": reason,
        }
        for top, row, prediction_set, novel, reason in zip(
            order[:, 0].tolist(), rows, sets, novelty, reasons, strict=True
        )
    ]


def _prediction_sets(
    probabilities: NDArray[np.float32],
    order: NDArray[np.intp],
    labels: tuple[str, ...],
    info: HeadInfo,
) -> list[list[str]] | list[None]:
    if info.conformal is None:
        return [None] * len(order)
    ranked: list[list[str]] = np.array(labels, dtype=object)[order].tolist()
    threshold = info.conformal.threshold
    if threshold is None:
        return ranked
    # What fits is a prefix of the order, and the most probable class is always in.
    fits = 1 - probabilities.astype(np.float64) <= threshold
    sizes = np.maximum(fits.sum(axis=1), 1).tolist()
    return [names[:size] for names, size in zip(ranked, sizes, strict=True)]


def _novelty(
    novelty: NDArray[np.float32] | None, count: int, info: HeadInfo
) -> tuple[list[float] | list[None], list[str | None]]:
    reasons: list[str | None] = [None] * count
    if novelty is None:
        return [None] * count, reasons
    clipped = np.clip(novelty, 0, 1)
    values: list[float] = clipped.tolist()
    threshold = None if info.novelty is None else info.novelty.threshold
    if threshold is not None:
        for row in np.flatnonzero(clipped.astype(np.float64) > threshold).tolist():
            reasons[row] = (
                f"novelty {values[row]:.4g} is above the threshold {threshold:.4g}: the image is "
                "unlike those that the model was trained on"
            )
    return values, reasons
