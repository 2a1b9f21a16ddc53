"""The page of a clustering: agreement, sizes, and contact sheets of every cluster."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handful_training.clusters import words
from handful_training.clusters.agreement import Agreement, contingency
from handful_training.clusters.kmeans import Clustering
from handful_training.pages.view import Page, Strip, Table, View

OVERVIEW = 12  # images of a cluster in the overview
PER_STRIP = 14  # on its contact sheet
MAX_SHEETS = 60  # clusters that have one


@dataclass(frozen=True, eq=False)
class Known:
    """What labels say of a clustering.

    Attributes:
        names: of the classes.
        counts: labelled images by cluster and class, [k, K].
        scores: of the embeddings and of the controls, by what they are called.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    scores: dict[str, Agreement]


def known_of(
    clustering: Clustering,
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    names: tuple[str, ...],
    scores: dict[str, Agreement],
) -> Known:
    """Return what the labels of `rows` say."""
    k = len(clustering.sizes)
    counts = contingency(clustering.cluster[rows], target, k, len(names))
    return Known(names, counts, scores)


def clusters_page(
    name: str,
    clustering: Clustering,
    images: NDArray[np.uint8],
    key_of: Callable[[int], str],
    known: Known | None,
    tried: dict[int, float],
    *,
    facts: tuple[tuple[str, str], ...],
) -> Page:
    """Return the page.

    Args:
        name: the model's.
        clustering: of the images.
        images: [N, H, W, C]; a memory map will do, only what is shown is read.
        key_of: name of an image by row.
        known: what labels say, if there are any.
        tried: silhouette by number of clusters, where that was chosen.
        facts: what stands at the page's head.
    """
    members = [_by_distance(clustering, c) for c in range(len(clustering.sizes))]
    sections: list[View | Table] = []
    if known is not None:
        sections.append(_agreement(known))
    sections.append(_overview(clustering, members, images, key_of, known))
    if tried:
        sections.append(_tried(tried))
    sections.append(_sizes(clustering, known))
    sections += [
        _sheet(c, clustering, rows, images, key_of, known)
        for c, rows in enumerate(members[:MAX_SHEETS])
    ]
    return Page(
        f"Clusters found by “{name}”",
        words.LEAD,
        facts,
        tuple(sections),
    )


def _by_distance(clustering: Clustering, cluster: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(clustering.cluster == cluster)
    return rows[np.argsort(clustering.distance[rows], kind="stable")]


def _agreement(known: Known) -> Table:
    return Table(
        "Agreement with the labels",
        words.AGREEMENT.format(labelled=int(known.counts.sum())),
        ("", "NMI", "ARI", "accuracy", "purity"),
        tuple(
            (name, f"{s.nmi:.3f}", f"{s.ari:.3f}", _percent(s.accuracy), _percent(s.purity))
            for name, s in known.scores.items()
        ),
    )


def _overview(
    clustering: Clustering,
    members: list[NDArray[np.int64]],
    images: NDArray[np.uint8],
    key_of: Callable[[int], str],
    known: Known | None,
) -> View:
    strips = []
    for c, rows in enumerate(members[:MAX_SHEETS]):
        note = f"{clustering.sizes[c]:,} images"
        if known is not None and known.counts[c].any():
            note += f", {_majority(known, c)}"
        strips.append(_strip(f"cluster {c}", rows[:OVERVIEW], images, key_of, note))
    hidden = len(members) - len(strips)
    left_out = f"{hidden} smaller clusters are not shown." if hidden else ""
    return View(
        "overview",
        "All clusters",
        "the most central images of each cluster, the largest cluster first",
        words.OVERVIEW + left_out,
        tuple(strips),
    )


def _tried(tried: dict[int, float]) -> Table:
    return Table(
        "How many clusters",
        words.TRIED,
        ("clusters", *(str(k) for k in tried)),
        (("silhouette", *(f"{score:.3f}" for score in tried.values())),),
    )


def _sizes(clustering: Clustering, known: Known | None) -> Table:
    total = len(clustering.cluster)
    distances = np.bincount(clustering.cluster, clustering.distance) / clustering.sizes
    rows = []
    for c, size in enumerate(clustering.sizes.tolist()):
        row = [f"{c}", f"{size:,}", _percent(size / total), f"{distances[c]:.3f}"]
        if known is not None:
            labelled = int(known.counts[c].sum())
            row += [f"{labelled:,}", _majority(known, c) if labelled else "–"]
        rows.append(tuple(row))
    header = ["cluster", "images", "share", "mean distance"]
    if known is not None:
        header += ["labelled", "most frequent class"]
    return Table(
        "Sizes",
        words.SIZES,
        tuple(header),
        tuple(rows),
    )


def _sheet(
    c: int,
    clustering: Clustering,
    rows: NDArray[np.int64],
    images: NDArray[np.uint8],
    key_of: Callable[[int], str],
    known: Known | None,
) -> View:
    size, total = len(rows), len(clustering.cluster)
    text = words.SHEET.format(size=size, total=total)
    if known is not None and known.counts[c].any():
        order = np.argsort(-known.counts[c], kind="stable")[:5]
        labelled = known.counts[c].sum()
        shares = ", ".join(
            f"{known.names[j]}: {_percent(known.counts[c, j] / labelled)}"
            for j in order.tolist()
            if known.counts[c, j]
        )
        text += f"\n{labelled:,} are labelled: {shares}."
    far = rows[::-1][:PER_STRIP]
    return View(
        f"cluster_{c:03}",
        f"Cluster {c}",
        f"{size:,} of {total:,} images ({_percent(size / total)})",
        text,
        (
            _strip("most central", rows[:PER_STRIP], images, key_of),
            _strip("most peripheral", far, images, key_of),
        ),
    )


def _strip(
    name: str,
    rows: NDArray[np.int64],
    images: NDArray[np.uint8],
    key_of: Callable[[int], str],
    note: str = "",
) -> Strip:
    shown = np.stack([images[row] for row in rows.tolist()])
    return Strip(name, shown, note, [key_of(row) for row in rows.tolist()])


def _majority(known: Known, c: int) -> str:
    best = int(known.counts[c].argmax())
    return f"{known.names[best]}: {_percent(known.counts[c, best] / known.counts[c].sum())}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
