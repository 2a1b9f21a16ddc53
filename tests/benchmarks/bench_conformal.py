"""How often prediction sets of 90 % hold the truth, over many draws of labels.

Fashion-MNIST's training images: labels are drawn at random, without regard to classes, from the
first 50,000, a head is fitted on each draw as `handful-train head` fits it, and its sets are looked
at on the last 10,000. The encoder is that of `accuracy`, or the one in a bundle that is named. A
draw with a single label of a class has no out-of-fold predictions, hence every class in every set:
it is counted, and left out of the means.

The range is where 95 % of draws shall lie, by Beta(k, n + 1 - k). "Mean first" is the control: the
threshold of predictions averaged over repeats, which are better than the model that is served.

make bench ARGS="conformal --draws 100 --labels 50,100,300"
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from handful_train import HandfulTrain, fashion
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training.head.conformal import coverage_range, fit_conformal, prediction_sets
from handful_training.head.fit import fit_head
from handful_training.labels.choice import LabelChoice
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.pool_stage import Pool, open_pool

WORK = Path("handful-work/bench/accuracy")
DRAWN_FROM = 50_000
COLUMNS = ("labels", "draws", "accuracy", "coverage", "sd", "in range", "range", "size",
           "worst class", "mean first")  # fmt: skip


class Draw(NamedTuple):
    """What one draw of labels gave."""

    accuracy: float
    coverage: float
    size: float
    worst_class: float  # coverage of the class that fares worst
    mean_first: float  # coverage of the control


def main(arguments: Sequence[str] = ()) -> None:
    """Fit heads and print a row for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--labels", default="100", help="numbers of labels, between commas")
    parser.add_argument("--bundle", type=Path, help="an encoder that exists, instead of training")
    options = parser.parse_args(list(arguments))
    data = fashion()
    root = options.bundle
    if root is None:
        root = Path(HandfulTrain(WORK)("run", data.train, "--time-budget", "5m")["bundle"])
    bundle = Bundle.load(root, device="cpu")
    work = WORK / "handful-work"
    inputs = read_inputs(
        data.train, work, choice=LabelChoice(data.train_labels), spec=bundle.manifest.image
    )
    assert inputs.labels is not None
    pool = open_pool(bundle, inputs.pack, work)
    truth = inputs.labels.target[np.argsort(inputs.labels.index)]
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for count in map(int, options.labels.split(",")):
        found = [
            draw(pool, truth, inputs.labels.names, count, seed) for seed in range(options.draws)
        ]
        row(count, [each for each in found if each is not None], len(found))


def row(count: int, draws: list[Draw], tried: int) -> None:
    """Print what the draws of `count` labels gave."""
    low, high = coverage_range(count, 0.9)
    columns = [np.array(column) for column in zip(*draws, strict=True)]
    accuracy, coverage, size, worst, mean_first = columns
    inside = ((coverage >= low) & (coverage <= high)).mean()
    print(
        f"| {count} | {len(draws)} of {tried} | {accuracy.mean():.3f} | {coverage.mean():.3f} | "
        f"{coverage.std(ddof=1):.3f} | {inside:.0%} | {low:.3f} to {high:.3f} | "
        f"{size.mean():.2f} | {worst.mean():.3f} | {mean_first.mean():.3f} |",
        flush=True,
    )


def draw(
    pool: Pool, truth: NDArray[np.int64], names: tuple[str, ...], count: int, seed: int
) -> Draw | None:
    """Fit a head on `count` random labels; None where a class has fewer than two of them."""
    rows = np.sort(np.random.default_rng(seed).choice(DRAWN_FROM, count, replace=False))
    target = truth[rows]
    if np.bincount(target, minlength=len(names)).min() < 2:
        return None
    at = pool.positions(rows)
    fitted = fit_head(
        np.asarray(pool.embedding[at]), target, names, pool=pool, positions=at, seed=seed
    )
    assert fitted.repeats is not None
    session = ort.InferenceSession(fitted.onnx, providers=["CPUExecutionProvider"])
    test = np.arange(DRAWN_FROM, len(truth))
    embedding = np.asarray(pool.embedding[pool.positions(test)])
    (probabilities,) = session.run(["probabilities"], {"embedding": embedding})
    sets = prediction_sets(probabilities, fit_conformal(fitted.repeats, target).threshold)
    control = prediction_sets(probabilities, fit_conformal(fitted.out_of_fold, target).threshold)
    inside = sets[np.arange(len(test)), truth[test]]
    by_class = np.bincount(truth[test], weights=inside) / np.bincount(truth[test])
    return Draw(
        float((probabilities.argmax(1) == truth[test]).mean()),
        float(inside.mean()),
        float(sets.sum(axis=1).mean()),
        float(by_class.min()),
        float(control[np.arange(len(test)), truth[test]].mean()),
    )


if __name__ == "__main__":
    main()
