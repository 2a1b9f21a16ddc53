"""Plots of how a head classifies: which classes it confuses, how far its confidence holds."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from handful_training import metrics
from handful_training.plots.canvas import (
    BLUE,
    FAINT,
    INK,
    SOFT,
    canvas,
    percent,
    save,
    shorten,
    tidy,
)

WITH_NUMBERS = 30  # classes up to which a cell holds its number
WITH_NAMES = 100  # classes up to which every row bears its name
_BLUES = LinearSegmentedColormap.from_list("handful", ["#ffffff", "#9cc9e6", BLUE, "#003a5d"])


def confusion_matrix(matrix: NDArray[np.integer], names: tuple[str, ...], path: Path) -> None:
    """Draw counts [K, K] by right class (row) and predicted class (column).

    Colour is the share of the row, so that classes of unequal size can be compared.
    """
    K, n = len(names), int(matrix.sum())
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.46 * K, 4.8, 15))
    accuracy = f"{100 * np.trace(matrix) / n:.1f} % of {n:,} right" if n else "no images"
    figure = canvas(
        side + 0.9, side + 0.5, "Confusion matrix", f"{accuracy}; colour: share of the row"
    )
    axes = figure.subplots()
    shown = axes.imshow(share, cmap=_BLUES, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("predicted", fontsize=10, color=INK)
    axes.set_ylabel("right class", fontsize=10, color=INK)
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    places = np.arange(K)
    if K <= WITH_NAMES:
        size = float(np.clip(260 / K, 5, 9))
        short = [shorten(name) for name in names]
        upright = max(map(len, short)) * K > 90
        axes.set_xticks(places, short, fontsize=size, rotation=90 if upright else 0)
        axes.set_yticks(places, short, fontsize=size)
    if K <= WITH_NUMBERS:
        _write_counts(axes, matrix, share, size=float(np.clip(120 / K, 5, 8.5)))
    bar = figure.colorbar(shown, ax=axes, fraction=0.035, pad=0.02, format=percent())
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=SOFT)
    save(figure, path)


def _write_counts(
    axes: Axes, matrix: NDArray[np.integer], share: NDArray[np.floating], *, size: float
) -> None:
    for row, column in np.argwhere(matrix > 0):
        axes.text(
            column, row, f"{matrix[row, column]}", ha="center", va="center", fontsize=size,
            color="white" if share[row, column] > 0.5 else INK,
        )  # fmt: skip


def reliability(
    probabilities: NDArray[np.floating], target: NDArray[np.integer], path: Path
) -> None:
    """Draw accuracy against confidence, with Wilson intervals, and how often each occurs.

    Args:
        probabilities: [n, K], n >= 1.
        target: index of the right class, [n].
        path: where the PNG goes.
    """
    curve = metrics.reliability(probabilities, target)
    ece = metrics.expected_calibration_error(probabilities, target)
    figure = canvas(
        5.4, 6.0, "Reliability",
        f"calibration error {100 * ece:.1f} % over {len(target):,} images; bars: 95 % intervals",
    )  # fmt: skip
    upper, lower = figure.subplots(2, 1, height_ratios=[3.2, 1], sharex=True)
    filled = curve.rows > 0
    right = np.rint(curve.accuracy * curve.rows).astype(int)
    bounds = [
        metrics.wilson_interval(int(k), int(n))
        for k, n in zip(right[filled], curve.rows[filled], strict=True)
    ]
    accuracy, confidence = curve.accuracy[filled], curve.confidence[filled]
    low, high = np.array(bounds).T
    error = np.maximum(0, [accuracy - low, high - accuracy])
    upper.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    upper.text(0.99, 0.02, "dashed: as right as confident", fontsize=8.5, color=SOFT, ha="right")
    upper.errorbar(
        confidence, accuracy, yerr=error, color=BLUE, linewidth=1.6, elinewidth=1, marker="o",
        markersize=4.5,
    )  # fmt: skip
    upper.set_ylabel("accuracy", fontsize=9.5, color=INK)
    upper.set_ylim(-0.02, 1.02)
    edges = np.linspace(0, 1, len(curve.rows) + 1)
    lower.bar(
        edges[:-1], curve.rows / len(target), width=np.diff(edges), align="edge",
        color=BLUE, edgecolor="white",
    )  # fmt: skip
    lower.set_ylabel("share of images", fontsize=9.5, color=INK)
    lower.set_xlabel("confidence", fontsize=9.5, color=INK)
    lower.set_xlim(-0.01, 1.01)
    for axes in (upper, lower):
        tidy(axes)
        axes.yaxis.set_major_formatter(percent(0))
    lower.xaxis.set_major_formatter(percent(0))
    save(figure, path)
