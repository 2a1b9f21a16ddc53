"""The learning curve of a head: made once per encoder, labels and head, beside the controls.

Its cost is bounded by the work that it may take, not by a clock, so that the same labels give the
same curve on any machine: about ten seconds of one core for 60,000 images, half of it for the
head's graph and half for the control's.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_bundle import encoder
from handful_bundle.bundle import Bundle
from handful_training import baseline, plots
from handful_training.baseline import pixel_components, project_pixels
from handful_training.embedding import embed_rows
from handful_training.graph import learners, poisson, prior, solve, spreading
from handful_training.head import linear, nodes
from handful_training.head.linear import Family, Lda, Logistic, NearestMean, Prior
from handful_training.head.nodes import place
from handful_training.labels.labels import Labels
from handful_training.learning_curve import curve, forecast, measure, methods, power_law, subsets
from handful_training.learning_curve.measure import LearningCurve, learning_curve
from handful_training.learning_curve.methods import (
    BothMethod,
    GraphMethod,
    LinearMethod,
    Method,
    graph_columns,
)
from handful_training.learning_curve.subsets import (
    MOST,
    POINTS,
    Subsets,
    draw_subsets,
    nested_order,
    repeats_for,
)
from handful_training.packs.pack import Pack
from handful_training.pipeline.controls_stage import open_controls
from handful_training.pipeline.evaluation import sample_unused
from handful_training.pipeline.inputs import Inputs
from handful_training.pipeline.pool_stage import MAX_POOL, Pool, open_pool
from handful_training.pipeline.work import code_digest, open_stage
from handful_training.plots import Line
from handful_training.tracking import Run

CURVE, PLOT = "learning_curve.json", "learning_curve.png"
MAX_UNUSED = 2000  # left-over labels that are asked about: one point of accuracy is seen
MAX_SOLVED = 12_000_000  # columns x nodes solved for a graph: 7 seconds of one core
ENOUGH = 4  # points

_MODULES = (
    baseline, curve, forecast, learners, linear, measure, methods, nodes, poisson, power_law,
    prior, solve, spreading, subsets,
)  # fmt: skip
_log = logging.getLogger(__name__)


class _Images(NamedTuple):
    """The q images of a curve: labelled ones, then those that are only asked about."""

    rows: NDArray[np.int64]  # of the pack, [q]
    target: NDArray[np.int64]  # [q]
    unused: int  # how many of them are never given


def draw_curve(
    bundle: Bundle,
    inputs: Inputs,
    choice: Mapping[str, Any],
    class_prior: Prior,
    folder: Path,
    work: Path,
    run: Run,
    *,
    adapted: bool,
    seed: int,
) -> dict[str, Any]:
    """Measure and draw accuracy by number of labels, into `folder` and `run`.

    Args:
        bundle: with the head.
        inputs: images and labels.
        choice: what was chosen for the head, as `FittedHead.choice`.
        class_prior: as the head was configured.
        folder: gets `learning_curve.json`, and unless there is no curve `learning_curve.png`.
        work: the work folder.
        run: gets metrics.
        adapted: the encoder was itself trained on labels; no subset of them is honest then.
        seed: decides which labels are in which subset.

    Returns:
        The content of `learning_curve.json`.
    """
    assert inputs.labels is not None
    labels, unused, pack = inputs.labels, inputs.unused, inputs.pack
    why = _impossible(labels, unused, adapted=adapted)
    if why is not None:
        nothing = _nothing(labels, why)
        (folder / CURVE).write_text(json.dumps(nothing, indent=1))
        return nothing
    stage = open_stage(
        work,
        "curves",
        {
            "encoder": bundle.manifest.files[encoder.FILE],
            "pixels": pack.content_digest,
            "labels": labels.digest,
            "unused": None if unused is None else unused.digest,
            "recipe": choice["recipe"],
            "kind": choice["kind"],
            "prior": class_prior,
            "seed": seed,
            "code": code_digest(*_MODULES),
        },
    )
    found = stage.result()
    if found is None:
        images = _images(labels, unused, seed)
        pool = open_pool(bundle, pack, work)
        drawn = _subsets(images, pool, seed)
        ways = _methods(bundle, pack, pool, images, drawn, choice, class_prior, work)
        made = learning_curve(ways, drawn, images.target, unused=images.unused)
        found = {"sentence": made.forecast.sentence, **made.to_json()}
        _draw(made, stage.folder / PLOT)
        stage.finish(found)
    (folder / CURVE).write_text(json.dumps(found, indent=1))
    shutil.copyfile(stage.folder / PLOT, folder / PLOT)
    _log_metrics(found, run)
    _log.info("%s", found["sentence"])
    return found


def stored_curve(folder: Path) -> dict[str, Any] | None:
    """Return the `learning_curve.json` of a run's folder; None: there is none."""
    path = folder / CURVE
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _impossible(labels: Labels, unused: Labels | None, *, adapted: bool) -> str | None:
    if adapted:
        return (
            "the encoder was adapted to these labels, so that what a part of them would have done "
            "cannot be seen"
        )
    if unused is None and int(np.bincount(labels.target).max()) < 2:
        return "each class has one label, and none is left to measure accuracy on"
    return None


def _nothing(labels: Labels, why: str) -> dict[str, Any]:
    return {
        "sentence": f"What the next labels will bring cannot be said: {why}.",
        "labels": len(labels),
        "classes": len(labels.names),
        "curves": [],
        "forecast": None,
    }


def _images(labels: Labels, unused: Labels | None, seed: int) -> _Images:
    """Choose the images: of very many labels a stratified part, of left-over ones a draw."""
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(labels))
    if len(labels) > 2 * MOST:
        chosen = np.sort(nested_order(labels.target, chosen, rng)[: 2 * MOST])
    rows, target = [labels.index[chosen]], [labels.target[chosen]]
    extra = 0
    if unused is not None:
        some = sample_unused(unused, seed)
        extra = min(MAX_UNUSED, len(some))
        drawn = np.sort(rng.choice(len(some), extra, replace=False))
        rows, target = [*rows, some.index[drawn]], [*target, some.target[drawn]]
    return _Images(np.concatenate(rows), np.concatenate(target), extra)


def _subsets(images: _Images, pool: Pool, seed: int) -> Subsets:
    """Draw as many subsets as the graphs may cost; the fewest where even they cost too much."""
    count = len(images.rows) - images.unused
    target = images.target[:count]
    plans = [
        (r, p) for p in range(POINTS, ENOUGH - 1, -1) for r in range(repeats_for(count), 1, -1)
    ]
    for repeats, points in plans:
        drawn = draw_subsets(
            target, repeats=repeats, hold_out=not images.unused, seed=seed, points=points
        )
        if _affordable(images, drawn, pool):
            break
    return drawn


def _affordable(images: _Images, drawn: Subsets, pool: Pool) -> bool:
    _, sizes, n = drawn.inside.shape
    hidden = np.zeros((len(drawn.inside), sizes, images.unused), np.bool_)
    inside = np.concatenate([drawn.inside, hidden], axis=2).reshape(-1, n + images.unused)
    return graph_columns(inside, images.target) * pool.graph.size <= MAX_SOLVED


def _methods(
    bundle: Bundle,
    pack: Pack,
    pool: Pool,
    images: _Images,
    drawn: Subsets,
    choice: Mapping[str, Any],
    class_prior: Prior,
    work: Path,
) -> dict[str, tuple[str, Method]]:
    """Return what is compared, the served kind of head first."""
    affordable = _affordable(images, drawn, pool)
    ways: dict[str, tuple[str, Method]] = {
        "served": _served(bundle, pack, pool, images, choice, class_prior, affordable=affordable)
    }
    plain = Logistic(baseline.C, tol=1e-4)
    if len(pack) > MAX_POOL:  # a graph of them all would take long, of a part it would be another
        mean, components = pixel_components(pack.images, 0)
        features = project_pixels(pack.images, images.rows, mean, components)
        ways["pixels_linear"] = _pixels_linear(features, plain)
        return ways
    controls = open_controls(pack, np.arange(len(pack)), work)
    ways["pixels_linear"] = _pixels_linear(controls.features[images.rows], plain)
    if affordable:
        graph = GraphMethod(controls.whitened, images.rows, class_prior)
        ways["pixels_graph_whitened"] = ("whitened PCA of pixels + graph", graph)
    return ways


def _pixels_linear(features: NDArray[np.floating], family: Family) -> tuple[str, Method]:
    return ("PCA of pixels + LR", LinearMethod(features, family, standardise=False))


def _served(
    bundle: Bundle,
    pack: Pack,
    pool: Pool,
    images: _Images,
    choice: Mapping[str, Any],
    class_prior: Prior,
    *,
    affordable: bool,
) -> tuple[str, Method]:
    """Return the kind of head that is served, with the parameters that all labels chose."""
    embedding = _embedding(bundle, pack, pool, images.rows)
    recipe, kind = choice["recipe"], choice["kind"]
    view = pool.whitening(embedding) if recipe["view"] == "whitened" else embedding
    flat = LinearMethod(view, _family(recipe), class_prior)
    if kind not in ("graph", "combined"):
        return f"this model: {choice['chosen']}", flat
    if not affordable:
        return "this model, without its graph: too many labels and classes to spread", flat
    placed = place(pool, pool.positions(images.rows), pool.whitening(embedding))
    graph = GraphMethod(placed.graph, placed.rows, class_prior, recipe["graph"])
    title = f"this model: {choice['chosen']}"
    if kind == "graph":
        return title, graph
    return title, BothMethod(graph, flat, (recipe["graph_scale"], recipe["linear_scale"]))


def _embedding(
    bundle: Bundle, pack: Pack, pool: Pool, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    at = pool.positions(rows)
    found = np.array(pool.embedding[np.maximum(at, 0)])
    if (at < 0).any():
        found[at < 0] = embed_rows(bundle.encoder, pack.images, rows[at < 0]).embedding
    return found


def _family(recipe: Mapping[str, Any]) -> Family:
    closed: dict[str, Family] = {family.name: family for family in (Lda(), NearestMean())}
    C = 1.0 if recipe["C"] is None else float(recipe["C"])
    return closed.get(recipe["family"], Logistic(C, tol=1e-4))


def _draw(made: LearningCurve, path: Path) -> None:
    lines = []
    for each in made.curves:
        points = each.points()
        lines.append(
            Line(
                each.title,
                each.sizes,
                [point.accuracy for point in points],
                [point.low for point in points],
                [point.high for point in points],
            )
        )
    law = None
    if made.forecast.law is not None:
        across = np.geomspace(made.curves[0].sizes[0], 2 * made.labels, 60)
        fitted = made.forecast.law
        law = (across, np.array([float(fitted(n)) for n in across.tolist()]))
    plots.accuracy_by_labels(lines, path, sentence=made.forecast.sentence, law=law)


def _log_metrics(found: Mapping[str, Any], run: Run) -> None:
    """Record each curve with the number of labels as the step, and what is expected."""
    for each in found["curves"]:
        for point in each["points"]:
            name = f"curve_{each['key']}_accuracy"
            run.metrics({name: point["accuracy"]}, step=point["labels"])
    if (expected := found["forecast"]["next"]) is not None:
        low, high = expected["gain_ci"]
        run.metrics(
            {
                "next_labels_gain": expected["gain"],
                "next_labels_gain_low": low,
                "next_labels_gain_high": high,
            }
        )
