"""`make bench-labels`: accuracy per label, every rung on the same draws and the same test images.

The encoder sees the training images without labels, one training per set and recipe; N labels of
each class are drawn by seed 0, 1, …; accuracy is on the whole test set. Graphs hold the test images
as unlabelled nodes beside the training images (transductive); “as served” is the head that
/classify would answer with, fitted on training images alone. Adaptation holds out the labels that
the product would hold out.

Hours. What is measured is kept below --out and not measured again, so it can be stopped at any
time and started again; tables are printed and written anew each time.

make bench-labels ARGS="--sets fashion --recipes default,plain --pretrain 10m --adapt 5m"
make bench-labels ARGS="--cifar-train CIFAR/train.tar --cifar-test CIFAR/test.tar --device cuda"
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import labels_tables as tables
from handful_train import HandfulTrain, fashion
from labels_cells import Bench, Data, Encoded
from labels_plan import ADAPT_DRAWS, DRAWS, RECIPES, ROWS, ImageSet, Row
from labels_tables import Record, Records

from handful_bundle.bundle import Bundle
from handful_training.cli.options import read_budget

SMOKE = (
    "model.width=8", "model.embedding_dim=32", "model.latent_dim=8", "image.max_side=16",
    "objective.projection_dim=16", "optimiser.batch_size=32", "optimiser.held_out=8",
    "adapt.rounds=1",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print and write all tables."""
    options = _options(arguments)
    out: Path = options.out
    bench = Bench(
        HandfulTrain(out / "work"),
        options.pretrain,
        float(read_budget(options.adapt, None)[1] or 0),
        options.device,
        SMOKE if options.smoke else (),
    )
    records, elbos = Records(), dict[tuple[str, str], float]()
    rows = [row for row in ROWS if row.set in options.sets and row.key in options.rows]
    for image_set in _sets(options):
        mine = [row for row in rows if row.set == image_set.name]
        if mine:
            _measure(bench, image_set, mine, options, records, elbos)
    measured = [row for row in rows if records.labels(row.key)]
    _write(out, bench, options, records, elbos, measured)
    if broken := [] if options.smoke else tables.broken_controls(records, measured):
        sys.exit("The comparison is broken: " + "; ".join(broken))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def chosen(known: Sequence[str]) -> Callable[[str], list[str]]:
        def read(text: str) -> list[str]:
            names = text.split(",")
            if unknown := sorted(set(names) - set(known)):
                raise argparse.ArgumentTypeError(f"no {', '.join(unknown)} in {', '.join(known)}")
            return names

        return read

    sets = sorted({row.set for row in ROWS})
    keys = [row.key for row in ROWS]
    parser.add_argument("--sets", type=chosen(sets), default=sets, help=", ".join(sets))
    parser.add_argument("--rows", type=chosen(keys), default=keys, help=", ".join(keys))
    parser.add_argument(
        "--recipes", type=chosen(list(RECIPES)), default=list(RECIPES), help=", ".join(RECIPES)
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="of labels, from seed 0 on")
    parser.add_argument("--adapt-draws", type=int, default=ADAPT_DRAWS, help="0: none")
    parser.add_argument("--pretrain", default="10m", help="time budget of each encoder")
    parser.add_argument("--adapt", default="5m", help="time budget of each adaptation")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cifar-train", help="class folders or a tar of them, as IMAGES")
    parser.add_argument("--cifar-test", help="likewise")
    parser.add_argument("--out", type=Path, default=Path("handful-work/bench/labels"))
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny network; checks the bench, measures nothing"
    )
    return parser.parse_args(arguments)


def _sets(options: argparse.Namespace) -> Iterator[ImageSet]:
    if "fashion" in options.sets:
        yield ImageSet("fashion", *fashion())
    if "cifar" in options.sets:
        if options.cifar_train and options.cifar_test:
            yield ImageSet("cifar", options.cifar_train, "folders", options.cifar_test, "folders")
        else:
            _say("cifar is left out: name its images by --cifar-train and --cifar-test")


def _measure(
    bench: Bench,
    image_set: ImageSet,
    rows: Sequence[Row],
    options: argparse.Namespace,
    records: Records,
    elbos: dict[tuple[str, str], float],
) -> None:
    """Measure the rows of one set."""
    data: Data | None = None
    for recipe in options.recipes:
        _say(f"{image_set.name}, {recipe}: encoder")
        said = bench.train(image_set, recipe)
        bundle = Bundle.load(Path(said["bundle"]), device="cpu")
        data = data or bench.data(image_set, bundle.manifest.image)
        elbos[image_set.name, recipe] = bench.elbo(data, bundle)
        encoded = bench.encoded(data, bundle, recipe)
        for row in rows:
            for draw in range(options.draws):
                _say(f"{row.key}, draw {draw}, {recipe}")
                _measure_draw(bench, data, encoded, row, draw, records)
            if row.adapt and recipe == "default":
                for draw in range(options.adapt_draws):
                    for start in (said, None):
                        _say(f"{row.key}, draw {draw}, adapted from {'it' if start else 'random'}")
                        spec = bundle.manifest.image
                        found = bench.adapted(data, start, spec, row.per_class, draw)
                        name = recipe if start else ""
                        records += _records(data, row, draw, name, "estimated", found)


def _measure_draw(
    bench: Bench, data: Data, encoded: Encoded, row: Row, draw: int, records: Records
) -> None:
    wanted = ["given", "estimated"] if row.both_priors else ["estimated"]
    if encoded.recipe != "default":
        wanted = wanted[:1]
    for prior in wanted:
        given = "uniform" if prior == "given" else None
        found = bench.frozen(data, encoded, row.per_class, draw, given)
        records += _records(data, row, draw, encoded.recipe, prior, found)
        controls = records.of(row.key, "pixels_linear", "", prior)
        if draw not in {record.draw for record in controls}:  # the same for every recipe
            found = bench.controls(data, row.per_class, draw, given)
            records += _records(data, row, draw, "", prior, found)


def _records(
    data: Data, row: Row, draw: int, recipe: str, prior: str, found: dict[str, Any]
) -> list[Record]:
    """Return what was found as records."""
    labels = len(data.known(row.per_class, draw, None))
    return [
        Record(
            row.set, row.per_class, labels, draw, recipe, prior, rung,
            scores["accuracy"], *scores["accuracy_ci"], scores["log_loss"], scores["ece"],
            scores["seconds"],
        )
        for rung, scores in found.items()
    ]  # fmt: skip


def _write(
    out: Path,
    bench: Bench,
    options: argparse.Namespace,
    records: Records,
    elbos: dict[tuple[str, str], float],
    rows: Sequence[Row],
) -> None:
    """Write labels.csv, labels.md and a picture per set; print the tables."""
    lines = [
        f"Pretraining {bench.pretrain}, adaptation {options.adapt}, device {options.device}.",
        f"{options.draws} draws of labels, {options.adapt_draws} of them adapted.",
        *("", *tables.accuracy_table(records, rows)),
        *("", *tables.targets_table(records, rows)),
        *("", *tables.pairs_table(records, rows)),
        *("", *tables.prior_table(records, rows)),
        *("", *tables.calibration_table(records, rows)),
        *("", *tables.elbo_table(elbos)),
        "",
        _controls(records, rows),
    ]
    records.write(out / "labels.csv")
    (out / "labels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in dict.fromkeys(row.set for row in rows):
        tables.draw(records, rows, name, out / f"labels-{name}.png")
    shutil.copyfileobj((out / "labels.md").open(encoding="utf-8"), sys.stdout)
    _say(f"written to {out}: labels.csv, labels.md, labels-*.png")


def _controls(records: Records, rows: Sequence[Row]) -> str:
    if not any(row.controls for row in rows):
        return "None of these rows has known controls."
    broken = tables.broken_controls(records, rows)
    return f"**The comparison is broken:** {'; '.join(broken)}" if broken else "Controls: as known."


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
