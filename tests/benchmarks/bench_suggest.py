"""What `suggest` gains: accuracy after 10, 20, 40, 100 labels, beside images drawn at random.

The encoder is that of `accuracy`: it sees the training images without labels. Each row labels 10
images, then as many as `suggest` is asked for on top, round by round, and fits a head each time.
"At random" is `suggest --audit`: uniform draws that know no classes, as a person's would be. Test
images of a class that no label names yet count as wrong. All by the real commands.

make bench ARGS="suggest"
make bench ARGS="suggest --train train.tar --test test.tar --seeds 3"
"""

import argparse
import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench_accuracy import command
from handful_train import fashion

from handful_training.labels.labels import read_labels
from handful_training.sources.source import open_source

ROUNDS = (10, 20, 40, 100)
ROWS: dict[str, tuple[str, ...]] = {"suggest": (), "at random": ("--audit",)}
LIST = command.work / "suggest"


def main(arguments: Sequence[str] = ()) -> None:
    """Train unless `accuracy` has, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", help="class folders or tars instead of Fashion-MNIST")
    parser.add_argument("--test", help="their test images")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--time-budget", default="5m")
    given = parser.parse_args(list(arguments))
    if (given.train is None) != (given.test is None):
        parser.error("--train and --test belong together")
    LIST.mkdir(parents=True, exist_ok=True)
    if given.train is None:
        data = fashion()
        train, test = data.train, data.test
        truths = _truth(train, data.train_labels), _truth(test, data.test_labels)
    else:
        train, test = (str(Path(path).absolute()) for path in (given.train, given.test))
        truths = _truth(train, "folders"), _truth(test, "folders")
    trained = command("run", train, "--time-budget", given.time_budget)
    model = f"{trained['name']}/{trained['version']}"
    print(f"| {Path(train).name}, test % | {' | '.join(f'{n} labels' for n in ROUNDS)} |")
    print(f"|---{'|---' * len(ROUNDS)}|")
    for row, options in ROWS.items():
        found = [
            _rounds(model, train, test, truths, (*options, "--seed", str(seed)))
            for seed in range(given.seeds)
        ]
        print(f"| {row} | {' | '.join(map(_mean, zip(*found, strict=True)))} |", flush=True)


def _rounds(
    model: str,
    train: str,
    test: str,
    truths: tuple[Mapping[str, str], Mapping[str, str]],
    options: tuple[str, ...],
) -> list[float]:
    """Label as suggested, round by round; return the accuracy after each."""
    table = LIST / "labels.csv"
    table.unlink(missing_ok=True)
    accuracies = []
    known = 0
    for count in ROUNDS:
        labelled = ("--labels", str(table)) if known else ()
        command(
            "suggest", model, train, "-n", str(count - known), "-o", str(table), *labelled, *options
        )
        classes = _fill_in(table, truths[0])
        known = count
        fitted = command("head", model, train, "--labels", str(table))
        share, answers = _only(truths[1], classes, LIST / "test.csv")
        tested = command(
            "evaluate", f"{fitted['name']}/{fitted['version']}",
            "--images", test, "--labels", str(answers),
        )  # fmt: skip
        accuracies.append(share * tested["accuracy"])
    return accuracies


def _truth(images: str, labels: str) -> dict[str, str]:
    """Return the label of each image by its key."""
    _, found = read_labels(labels, open_source(images, LIST / "lists"), images)
    return {key: found.names[k] for key, k in zip(found.keys, found.target.tolist(), strict=True)}


def _fill_in(table: Path, truth: Mapping[str, str]) -> set[str]:
    """Do a person's part; return the classes seen."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = truth[row["path"]]
        row["chosen_by"] = ""  # random ones are there to be learnt from, not to measure by
    _write(table, list(rows[0]), (list(row.values()) for row in rows))
    return {row["label"] for row in rows}


def _only(truth: Mapping[str, str], classes: set[str], path: Path) -> tuple[float, Path]:
    """Write the answers of `classes` as a table; return their share of all, and the table."""
    kept = [[key, label] for key, label in truth.items() if label in classes]
    _write(path, ["path", "label"], kept)
    return len(kept) / len(truth), path


def _write(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _mean(values: Sequence[float]) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * sd:.1f}"
