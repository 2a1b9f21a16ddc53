"""Heads by number of labels: refit seconds, the graph against what is served, and calibration.

One encoder for all; labels are drawn by seeds 0 to 4; test accuracy is on images that are in no
pool. By default Fashion-MNIST and an encoder that is trained here; or any images:

make bench ARGS="heads --images DIR --labels folders --test-images DIR --test-labels folders"
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from handful_train import HandfulTrain, fashion

from handful_bundle.bundle import Bundle
from handful_bundle.head import Head
from handful_training.baseline import PixelBaseline
from handful_training.config import HeadConfig
from handful_training.embedding import embed_rows
from handful_training.graph.spreading import spread
from handful_training.head.fit import fit_head
from handful_training.labels.choice import LabelChoice
from handful_training.metrics import expected_calibration_error
from handful_training.pipeline.inputs import Inputs, read_inputs
from handful_training.pipeline.pool_stage import Pool, open_pool

WORK = Path("handful-work/bench/heads")
DRAWS = range(5)


class Row(NamedTuple):
    """What one draw gave; accuracies and ECE in percent."""

    kind: str
    seconds: float  # pool read, head fitted, head.onnx written
    graph: float  # of the graph alone on the pool's unlabelled images
    pool: float  # of what is served, on the same images
    test: float  # of what is served
    ece: float
    baseline: float  # PCA + LR, test


def main(arguments: list[str] | None = None) -> None:
    """Print a table: a row for each number of labels per class."""
    options = _options(arguments or [])
    train = HandfulTrain(WORK)
    bundle = options.bundle
    if bundle is None:
        bundle = train("run", options.images, "--time-budget", options.time_budget)["bundle"]
    opened = Bundle.load(Path(bundle), device="cpu")
    test = _read(opened, options.test_images, options.test_labels, None, 0)
    print("| labels per class | head | refit s | graph, pool % | served, pool % | served, test % "
          "| ECE % | PCA + LR, test % |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for per_class in options.per_class:
        rows = []
        for draw in DRAWS:
            given = _read(opened, options.images, options.labels, per_class, draw)
            rows.append(_measure(opened, given, test, options.family, draw))
        kinds = ", ".join(sorted({row.kind for row in rows}))
        cells = [_mean([row[i] for row in rows]) for i in range(1, len(Row._fields))]
        print(f"| {per_class} | {kinds} | {' | '.join(cells)} |", flush=True)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "labels", "test-images", "test-labels"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--bundle", help="folder of a stored encoder; none: one is trained")
    parser.add_argument("--time-budget", default="5m")
    parser.add_argument("--family", default="auto")
    parser.add_argument("--per-class", type=int, nargs="+", default=[1, 4, 10, 100])
    options = parser.parse_args(arguments)
    given = [options.images, options.labels, options.test_images, options.test_labels]
    if not any(given):
        options.images, options.labels, options.test_images, options.test_labels = fashion()
    elif not all(given):
        parser.error("name all of --images, --labels, --test-images and --test-labels")
    return options


def _read(bundle: Bundle, images: str, labels: str, per_class: int | None, seed: int) -> Inputs:
    choice = LabelChoice(labels, per_class, seed)
    return read_inputs(images, WORK, choice=choice, spec=bundle.manifest.image, minimum=1)


def _measure(bundle: Bundle, given: Inputs, test: Inputs, family: str, seed: int) -> Row:
    assert given.labels is not None
    assert given.unused is not None
    assert test.labels is not None
    labels = given.labels
    open_pool(bundle, given.pack, WORK)  # made once, before the clock starts
    start = time.monotonic()
    pool = open_pool(bundle, given.pack, WORK)
    embedding = embed_rows(bundle.encoder, given.pack.images, labels.index).embedding
    positions = pool.positions(labels.index)
    fitted = fit_head(
        embedding, labels.target, labels.names, HeadConfig(family=family),
        pool=pool, positions=positions, seed=seed,
    )  # fmt: skip
    model = fitted.onnx
    seconds = time.monotonic() - start
    head = Head.open(model, embedding.shape[1], labels.names, "cpu")
    unlabelled = pool.positions(given.unused.index)
    truth = given.unused.target[unlabelled >= 0]
    unlabelled = unlabelled[unlabelled >= 0]
    tested = head(embed_rows(bundle.encoder, test.pack.images, test.labels.index).embedding)
    baseline = PixelBaseline.fit(
        given.pack.images, labels.index, labels.target, labels.names, seed=seed
    ).probabilities(test.pack.images, test.labels.index)
    return Row(
        fitted.kind,
        seconds,
        _right(_graph(pool, positions, given)[unlabelled], truth),
        _right(head(np.array(pool.embedding[unlabelled])), truth),
        _right(tested, test.labels.target),
        100 * expected_calibration_error(tested, test.labels.target),
        _right(baseline, test.labels.target),
    )


def _graph(pool: Pool, positions: np.ndarray, given: Inputs) -> np.ndarray:
    assert given.labels is not None
    inside = positions >= 0
    target, names = given.labels.target, given.labels.names
    return spread(pool.graph, positions[inside], target[inside], len(names))


def _right(probabilities: np.ndarray, target: np.ndarray) -> float:
    return 100 * float((probabilities.argmax(1) == target).mean())


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
