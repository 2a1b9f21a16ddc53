"""Plots of how much is not known: sizes of prediction sets, accuracy against labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from handful_training.plots.canvas import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    SOFT,
    VERMILION,
    canvas,
    percent,
    save,
    tidy,
)

MAX_SIZES = 30  # bars
SPREAD = 0.012  # of the axis, sideways, so that intervals of several lines do not hide each other
STYLES = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "^", ":"))


def prediction_set_sizes(
    inside: NDArray[np.bool_],
    target: NDArray[np.integer],
    path: Path,
    *,
    level: float,
    calibrated_here: bool,
) -> None:
    """Draw how many classes prediction sets hold, and how often each size holds the truth.

    Args:
        inside: which classes are in each image's set, [n, K], n >= 1.
        target: index of the right class, [n].
        path: where the PNG goes.
        level: share of sets that shall hold it.
        calibrated_here: the threshold was set on these images, so the share says nothing.
    """
    n, sizes = len(target), inside.sum(axis=1)
    covered = inside[np.arange(n), target]
    share = f"{100 * covered.mean():.1f} % hold the truth" if not calibrated_here else (
        "their threshold was set on these images"
    )  # fmt: skip
    figure = canvas(
        6.4, 4.2, "Prediction sets",
        f"{sizes.mean():.2f} classes on average; {share} (wanted: {100 * level:.0f} %)",
    )  # fmt: skip
    axes = figure.subplots()
    shown = min(inside.shape[1], MAX_SIZES)
    place = np.minimum(sizes, shown)
    hit = np.bincount(place, weights=covered, minlength=shown + 1)[1:] / n
    missed = np.bincount(place, weights=~covered, minlength=shown + 1)[1:] / n
    across = np.arange(1, shown + 1)
    axes.bar(across, hit, color=BLUE, width=0.8, label="hold the truth")
    axes.bar(across, missed, bottom=hit, color=FAINT, width=0.8, label="do not")
    tidy(axes)
    axes.grid(visible=False, axis="x")
    more = " (the last: that many or more)" if shown < inside.shape[1] else ""
    axes.set_xlabel(f"classes in the set{more}", fontsize=9.5, color=INK)
    axes.set_ylabel("share of images", fontsize=9.5, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(percent(0))
    axes.legend(frameon=False, fontsize=8.5, labelcolor=SOFT)
    save(figure, path)


@dataclass(frozen=True)
class Line:
    """One line of `accuracy_by_labels`: at each number of labels, accuracy and its interval."""

    title: str
    labels: Sequence[int]
    accuracy: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def accuracy_by_labels(
    lines: Sequence[Line],
    path: Path,
    *,
    sentence: str,
    law: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> None:
    """Draw accuracy against the number of labels, with 95 % intervals.

    Args:
        lines: at most three; the first is of the head that is served.
        path: where the PNG goes.
        sentence: what further labels may bring; shown below the headline.
        law: numbers of labels and the accuracy that the fitted law expects there; None: no law.
    """
    figure = canvas(7.6, 5.0, "Accuracy by number of labels", sentence)
    axes = figure.subplots()
    for i, (line, (colour, marker, dash)) in enumerate(zip(lines, STYLES, strict=False)):
        place = np.array(line.labels) * np.exp((i - (len(lines) - 1) / 2) * 2 * SPREAD)
        middle = np.array(line.accuracy)
        error = np.maximum(0, [middle - np.array(line.low), np.array(line.high) - middle])
        axes.errorbar(
            place, middle, yerr=error, color=colour, linestyle=dash, linewidth=1.6,
            elinewidth=1, marker=marker, markersize=4.5, label=line.title,
        )  # fmt: skip
    if law is not None:
        axes.plot(*law, color=BLUE, linewidth=1, alpha=0.55, linestyle=(0, (1, 2)))
    tidy(axes)
    _label_counts(axes, sorted({n for line in lines for n in line.labels}))
    axes.set_xlabel("labels, all classes together", fontsize=9.5, color=INK)
    axes.set_ylabel("accuracy on labels not used", fontsize=9.5, color=INK)
    axes.yaxis.set_major_formatter(percent(0))
    axes.legend(frameon=False, fontsize=8.5, labelcolor=SOFT, loc="lower right")
    save(figure, path)


def _label_counts(axes: Axes, counts: list[int]) -> None:
    """Put ticks of a logarithmic axis where there are points."""
    axes.set_xscale("log")
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
