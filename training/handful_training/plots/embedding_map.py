"""A 2-D map of embeddings, labelled ones in colour."""

import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from handful_training.plots.canvas import FAINT, INK, PALETTE, canvas, save, shorten

MAX_POINTS = 2500  # t-SNE takes some 10 s for them on one core
FEWEST_FOR_TSNE = 50
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MAX_WRITTEN = 25  # classes whose names stand on the map itself
MAX_NAMED = len(PALETTE) * len(MARKERS)  # classes that colour and marker can tell apart


def embedding_map(
    embedding: NDArray[np.floating],
    path: Path,
    *,
    target: NDArray[np.integer] | None = None,
    names: tuple[str, ...] | None = None,
    seed: int = 0,
) -> None:
    """Draw embeddings as points of a plane: near in the embedding, near on the map.

    Of more than 2,500 rows a sample is shown, all labelled ones first.

    Args:
        embedding: [n, E], n >= 1.
        path: where the PNG goes.
        target: index of each row's class, [n]; -1: unlabelled.
        names: of the classes; needed where `target` is given.
        seed: of the sample and of t-SNE.
    """
    classes = np.full(len(embedding), -1) if target is None else target
    rows = _choose(classes, np.random.default_rng(seed))
    plane, method = project(embedding[rows], seed=seed)
    classes = classes[rows]
    labelled = int((classes >= 0).sum())
    figure = canvas(
        8.4, 7.2, "Map of the embeddings",
        f"{method}; {len(rows):,} images, {labelled:,} of them labelled",
    )  # fmt: skip
    axes = figure.subplots()
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    axes.set_aspect("equal", adjustable="datalim")
    grey = classes < 0
    if grey.any():
        axes.scatter(
            plane[grey, 0], plane[grey, 1], s=7, color="#c4c4c4", linewidths=0, label="unlabelled"
        )
    if labelled:
        _draw_classes(axes, plane, classes, names or ())
        handles, labels = axes.get_legend_handles_labels()
        if 1 < len(labels) <= MAX_NAMED:
            legend = figure.legend(
                handles, labels, loc="outside right upper", frameon=False, fontsize=8.5,
                ncols=1 + len(labels) // 33, labelcolor=INK, handletextpad=0.4,
            )  # fmt: skip
            legend.set_in_layout(True)
    save(figure, path)


def project(embedding: NDArray[np.floating], *, seed: int = 0) -> tuple[NDArray[np.float64], str]:
    """Return a plane [n, 2] that keeps neighbours near, and how it was found.

    t-SNE (van der Maaten & Hinton 2008) on at most 50 principal components, started from the
    first two; these alone where fewer than 50 rows leave no neighbourhoods to keep.
    """
    rows = np.asarray(embedding, np.float64)
    count = min(50, *rows.shape)
    if len(rows) < 2 or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 2)), "all alike"
    components = PCA(count, svd_solver="full").fit_transform(rows)
    if len(rows) < FEWEST_FOR_TSNE or count < 3:
        width = max(0, 2 - components.shape[1])
        return np.pad(components, ((0, 0), (0, width)))[:, :2], "PCA"
    tsne = TSNE(perplexity=min(30, len(rows) / 4), init="pca", max_iter=500, random_state=seed)
    return tsne.fit_transform(components).astype(
        np.float64
    ), f"t-SNE of {count} principal components"


def _choose(classes: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return at most `MAX_POINTS` rows in order, labelled ones before others."""
    shuffled = rng.permutation(len(classes))
    first = shuffled[np.argsort(classes[shuffled] < 0, kind="stable")]
    return np.sort(first[:MAX_POINTS])


def _draw_classes(
    axes: Axes, plane: NDArray[np.float64], classes: NDArray[np.integer], names: tuple[str, ...]
) -> None:
    styles = [(colour, marker) for marker, colour in itertools.product(MARKERS, PALETTE)]
    # Few points may be large; many must leave each other room.
    size = float(np.clip(9000 / max(1, (classes >= 0).sum()), 9, 60))
    for k, name in enumerate(names):
        points = plane[classes == k]
        if not len(points):
            continue
        colour, marker = styles[k % len(styles)]
        axes.scatter(
            points[:, 0], points[:, 1], s=size, color=colour, marker=marker,
            linewidths=size / 60, edgecolors=INK, label=shorten(name), zorder=2,
        )  # fmt: skip
    if len(names) <= MAX_WRITTEN:
        _write_names(axes, plane, classes, names)


def _write_names(
    axes: Axes, plane: NDArray[np.float64], classes: NDArray[np.integer], names: tuple[str, ...]
) -> None:
    """Write each class's name at its median, moved up where another stands already."""
    span = np.ptp(plane, axis=0).max()
    present = np.unique(classes[classes >= 0])
    medians = np.array([np.median(plane[classes == k], axis=0) for k in present])
    placed: list[tuple[float, float]] = []
    for i in np.argsort(medians[:, 1], kind="stable"):
        x, y = medians[i]
        while any(abs(x - u) < 0.14 * span and abs(y - v) < 0.025 * span for u, v in placed):
            y += 0.005 * span
        placed.append((x, y))
        axes.text(
            x, y, shorten(names[present[i]], 18), fontsize=9, fontweight="bold", color=INK,
            ha="center", va="center", zorder=3,
            path_effects=[withStroke(linewidth=2.6, foreground="white", alpha=0.85)],
        )  # fmt: skip
