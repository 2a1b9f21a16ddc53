"""Tables, checks and the picture of the bench of accuracy per label. Knows records alone."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from labels_plan import ECE_LIMIT, ELBO_MARGIN, FEWER_ERRORS, PRIOR_COST, TOLERANCE, Row

from handful_training.ladder.catalogue import CONTROLS, ENTRIES
from handful_training.ladder.paired import over_draws
from handful_training.plots.canvas import PALETTE, canvas, percent, save, tidy

TITLES = {key: entry.title for key, entry in ENTRIES.items()}


@dataclass(frozen=True)
class Record:
    """What a rung reached on one draw."""

    set: str
    per_class: int
    labels: int
    draw: int
    recipe: str  # "" for what learns nothing
    prior: str  # "given" or "estimated"
    rung: str
    accuracy: float
    low: float
    high: float
    log_loss: float
    ece: float
    seconds: float

    @property
    def row(self) -> str:
        """The key of its row."""
        return f"{self.set}-{self.per_class}"


class Records(list[Record]):
    """All that was measured."""

    def of(self, row: str, rung: str, recipe: str = "", prior: str = "estimated") -> "Records":
        """Return a rung's draws, in order."""
        chosen = [
            r for r in self
            if (r.row, r.rung, r.recipe, r.prior) == (row, rung, recipe, prior)
        ]  # fmt: skip
        return Records(sorted(chosen, key=lambda r: r.draw))

    def accuracies(self, *key: str) -> np.ndarray:
        """Return their accuracies, [D]."""
        return np.array([record.accuracy for record in self.of(*key)])

    def labels(self, row: str) -> int:
        """Return how many labels a row has in all, 0 where nothing of it was measured."""
        return next((record.labels for record in self if record.row == row), 0)

    def write(self, path: Path) -> None:
        """Write all as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(Record.__dataclass_fields__))
            writer.writeheader()
            writer.writerows(asdict(record) for record in self)


def prior_of(row: Row) -> str:
    """Return the prior that the row's figures to reach are meant with."""
    return "given" if row.both_priors else "estimated"


def accuracy_table(records: Records, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of all rungs: mean ± sd over draws, test %."""
    yield "| test %, mean ± sd over draws | " + " | ".join(_name(records, r) for r in rows) + " |"
    yield "|---" * (len(rows) + 1) + "|"
    kinds = dict.fromkeys((r.rung, r.recipe) for r in records)
    for rung, recipe in kinds:
        cells = [_spread(records.accuracies(row.key, rung, recipe, prior_of(row))) for row in rows]
        # What is given the prior elsewhere and cannot use it stands under "estimated" too.
        if any(cell != "–" for cell in cells):
            title = TITLES[rung] + (f" ({recipe})" if recipe not in {"", "default"} else "")
            yield f"| {title} | {' | '.join(cells)} |"


def targets_table(records: Records, rows: Sequence[Row]) -> Iterator[str]:
    """Yield what was to be reached beside what was."""
    yield (
        "| | best without learning, known / measured | VAE as served | VAE, best of graph and both "
        "| reach / stretch | adapted, as served | reach / stretch |"
    )
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        prior = prior_of(row)
        without = [_mean(records.accuracies(row.key, key, "", prior)) for key in CONTROLS]
        known = "–" if row.without_learning is None else f"{row.without_learning:.1f}"
        served = _mean(records.accuracies(row.key, "vae_served", "default", prior))
        inside = _best(
            _mean(records.accuracies(row.key, key, "default", prior))
            for key in ("vae_graph", "vae_both")
        )
        adapted = _mean(records.accuracies(row.key, "adapted_served", "default", "estimated"))
        frozen = _met(row.frozen, _best((served, inside)))
        yield (
            f"| {_name(records, row)} | {known} / {_number(_best(without))} "
            f"| {_number(served)} | {_number(inside)} | {frozen} "
            f"| {_number(adapted)} | {_met(row.adapted, adapted)} |"
        )


def pairs_table(records: Records, rows: Sequence[Row]) -> Iterator[str]:
    """Yield paired comparisons over draws, each with the errors that the second does not make."""
    yield "| row | first | second | difference, points (95 %) | p | fewer errors | asked for |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        prior = prior_of(row)
        for first, second, wanted in (
            (("pixels_graph_whitened", "", prior), ("vae_graph", "default", prior), FEWER_ERRORS),
            (("pixels_linear", "", prior), ("vae_linear", "default", prior), FEWER_ERRORS),
            (("vae_graph", "plain", prior), ("vae_graph", "default", prior), None),
            (("vae_graph", "no-elbo", prior), ("vae_graph", "default", prior), None),
            (("random_served", "", "estimated"), ("adapted_served", "default", "estimated"), 0.0),
            (
                ("vae_graph", "default", "estimated"),
                ("adapted_served", "default", "estimated"),
                0.0,
            ),
        ):
            yield from _pair(records, row, first, second, wanted)


def _pair(
    records: Records,
    row: Row,
    first: tuple[str, str, str],
    second: tuple[str, str, str],
    wanted: float | None,
) -> Iterator[str]:
    sides = [{r.draw: r.accuracy for r in records.of(row.key, *key)} for key in (first, second)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        return
    a, b = (np.array([side[draw] for draw in shared]) for side in sides)
    found = over_draws(a, b)
    asked = (
        "–" if wanted is None else f"≥ {100 * wanted:.0f} %: {_yes(found.fewer_errors >= wanted)}"
    )
    if wanted == 0.0:
        asked = f"better: {_yes(found.difference > 0)}"
    spread = "one draw" if found.draws < 2 else f"{100 * found.low:+.1f} … {100 * found.high:+.1f}"
    yield (
        f"| {_name(records, row)} | {_said(first)} | {_said(second)} "
        f"| {100 * found.difference:+.1f} ({spread}) | {found.p_value:.2g} "
        f"| {100 * found.fewer_errors:.0f} % | {asked} |"
    )


def prior_table(records: Records, rows: Sequence[Row]) -> Iterator[str]:
    """Yield what it costs not to know the class prior."""
    yield "| row | way | prior given | estimated | costs, points | at most 2 |"
    yield "|---|---|---|---|---|---|"
    for row in (row for row in rows if row.both_priors):
        for rung, recipe in (("pixels_graph_whitened", ""), ("vae_graph", "default"),
                             ("vae_served", "default")):  # fmt: skip
            given, estimated = (
                records.accuracies(row.key, rung, recipe, prior) for prior in ("given", "estimated")
            )
            if len(given) and len(estimated):
                cost = 100 * (given.mean() - estimated.mean())
                yield (
                    f"| {_name(records, row)} | {TITLES[rung]} | {_spread(given)} "
                    f"| {_spread(estimated)} | {cost:.1f} | {_yes(cost <= PRIOR_COST)} |"
                )


def calibration_table(records: Records, rows: Sequence[Row]) -> Iterator[str]:
    """Yield calibration error and log loss of what is served."""
    yield "| row | as served | ECE | log loss, nats | ECE at most 3 % |"
    yield "|---|---|---|---|---|"
    for row in rows:
        for rung, recipe in (("vae_served", "default"), ("adapted_served", "default")):
            found = records.of(row.key, rung, recipe, "estimated")
            if found:
                ece = mean(record.ece for record in found)
                loss = mean(record.log_loss for record in found)
                yield (
                    f"| {_name(records, row)} | {TITLES[rung]} | {100 * ece:.1f} % | {loss:.3f} "
                    f"| {_yes(ece <= ECE_LIMIT)} |"
                )


def elbo_table(elbos: dict[tuple[str, str], float]) -> Iterator[str]:
    """Yield -ELBO of test images by set and recipe."""
    yield "| set | recipe | −ELBO of test images, nats | against weight 0 | within 5 % |"
    yield "|---|---|---|---|---|"
    for (name, recipe), value in elbos.items():
        plain = elbos.get((name, "plain"))
        if recipe == "no-elbo":  # its decoder has learnt nothing
            continue
        beside = "–" if plain is None else f"{100 * (value / plain - 1):+.1f} %"
        within = "–" if plain is None else _yes(value <= (1 + ELBO_MARGIN) * plain)
        yield f"| {name} | {recipe} | {value:.1f} | {beside} | {within} |"


def broken_controls(records: Records, rows: Iterable[Row]) -> list[str]:
    """Return which known figures were not reproduced: then nothing else may be believed."""
    broken = []
    for row in rows:
        for rung, known in row.controls.items():
            found = records.accuracies(row.key, rung, "", prior_of(row))
            if len(found) and abs(100 * found.mean() - known) > TOLERANCE:
                broken.append(
                    f"{row.key}, {TITLES[rung]}: {100 * found.mean():.1f} %, known {known} ± "
                    f"{TOLERANCE} over draws 0 to 4"
                )
    return broken


def draw(records: Records, rows: Sequence[Row], name: str, path: Path) -> None:
    """Draw accuracy against the number of labels of one set."""
    chosen = [row for row in rows if row.set == name and records.labels(row.key)]
    figure = canvas(
        7.6, 4.8, f"Accuracy per label, {name}", "mean over draws; bars: one standard deviation"
    )
    axes = figure.subplots()
    lines = dict.fromkeys((r.rung, r.recipe) for r in records if r.set == name)
    for i, (rung, recipe) in enumerate(lines):
        points = [
            (records.labels(row.key), values)
            for row in chosen
            if len(values := records.accuracies(row.key, rung, recipe, prior_of(row)))
        ]
        if not points:
            continue
        label = TITLES[rung] + (f" ({recipe})" if recipe not in {"", "default"} else "")
        axes.errorbar(
            [labels for labels, _ in points],
            [values.mean() for _, values in points],
            yerr=[values.std(ddof=1) if len(values) > 1 else 0 for _, values in points],
            color=PALETTE[i % len(PALETTE)],
            linestyle="--" if rung in CONTROLS else "-",
            marker="osD^vPX*"[i % 8],
            markersize=4, linewidth=1.4, elinewidth=0.8, label=label,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("labels", fontsize=9)
    axes.yaxis.set_major_formatter(percent(0))
    tidy(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=7.5)
    save(figure, path)


def _name(records: Records, row: Row) -> str:
    labels = records.labels(row.key)
    return f"{row.set}, {labels or f'{row.per_class} per class'} labels"


def _said(key: tuple[str, str, str]) -> str:
    rung, recipe, _ = key
    return TITLES[rung] + (f" ({recipe})" if recipe not in {"", "default"} else "")


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "–"
    found = (100 * values).tolist()
    return f"{mean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def _mean(values: np.ndarray) -> float:
    return 100 * float(values.mean()) if len(values) else float("nan")


def _best(values: Iterable[float]) -> float:
    return max((value for value in values if not np.isnan(value)), default=float("nan"))


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1f}"


def _met(goals: tuple[float, float] | None, value: float) -> str:
    if goals is None or np.isnan(value):
        return "–" if goals is None else f"{goals[0]} / {goals[1]}"
    said = "stretch" if value >= goals[1] else "reach" if value >= goals[0] else "missed"
    return f"{goals[0]} / {goals[1]}: {said}"


def _yes(holds: object) -> str:
    return "yes" if holds else "**no**"
