"""The command that says which images to label next, and which labels to look at again."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from handful_bundle.session import Device
from handful_training.atomic_file import write_whole
from handful_training.errors import TrainingError
from handful_training.labels.choice import LabelChoice
from handful_training.labels.named_rows import read_named
from handful_training.packs.pack import Pack
from handful_training.pages.html import render
from handful_training.pipeline.fetch import fetch
from handful_training.pipeline.finish import run_folder
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.suggestions import Situation, to_audit, to_doubt, to_label
from handful_training.pipeline.work import disk_errors, work_folder
from handful_training.sources.store import shown
from handful_training.suggest.audit import expected_interval
from handful_training.suggest.sheet import suggestion_page
from handful_training.suggest.suggestion import Suggestion
from handful_training.suggest.table import (
    check_output,
    filled_rows,
    is_file_of,
    write_suggestions,
)
from handful_training.tracking import Tracker, origin

TABLE = "suggest.csv"

Purpose = Literal["label", "audit", "doubts"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Attributes:
        count: how many images, at most.
        purpose: to label next; to measure honestly; or labels to look at again.
        exceptions: tables of images that are not to be suggested.
        output: the table; None: in the work folder.
        seed: of everything that is drawn.
    """

    count: int
    purpose: Purpose = "label"
    exceptions: tuple[Path, ...] = ()
    output: Path | None = None
    seed: int = 0


@disk_errors()
def suggest(
    reference: str, images: str, choice: LabelChoice | None, wish: Wish, *, device: Device
) -> dict[str, Any]:
    """Write a table of suggestions and a contact sheet beside it.

    Args:
        reference: of a version; its encoder decides which images are alike.
        images: what IMAGES names.
        choice: the labels that are known.
        wish: what is asked for.
        device: where the encoder runs.

    Raises:
        InputError: an input cannot be used, or the output would cost somebody's labels.
    """
    spec = None if choice is None else choice.spec
    check_output(wish.output, spec, extend=wish.purpose != "doubts")
    kept = filled_rows(wish.output) if wish.output and is_file_of(spec, wish.output) else []
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, device)
    inputs = read_inputs(
        images, work, choice=choice, spec=bundle.manifest.image, minimum=1, min_classes=1
    )
    pack, labels = inputs.pack, inputs.labels
    asked, barred = _exceptions(wish.exceptions, images, pack)
    situation = Situation(bundle, pack, labels, asked, barred, work, wish.seed)
    strategy, suggestions = _choose(situation, wish)
    with tracker.run(version.name, title="suggest", tags=origin()) as run:
        run.params(
            {
                "version": version.version,
                "strategy": strategy,
                "count": wish.count,
                "seed": wish.seed,
            }
        )
        tracker.registry.used(version, run)
        run.dataset(
            f"{version.name}-suggest",
            pack.content_digest,
            source=shown(images),
            context="suggest",
            profile={"images": len(pack), "labels": len(situation.labelled)},
        )
        run.metrics({"suggested": len(suggestions)})
        output = wish.output or run_folder(work, version.name, run) / TABLE
        write_suggestions(output, suggestions, pack.keys, strategy, kept)
        facts = (
            ("model", f"{version.name}, version {version.version}"),
            ("images", f"{len(pack):,}"),
            ("labelled", f"{len(situation.labelled):,}"),
            ("seed", f"{wish.seed}"),
        )
        sheet = _write_sheet(output, version.name, strategy, suggestions, pack, facts)
        for path in filter(None, (output, sheet)):
            run.artifacts(path, folder="suggest")
    result = {
        "name": version.name,
        "version": version.version,
        "images": len(pack),
        "rejected": len(pack.rejected),
        "labels": len(situation.labelled),
        "asked_for": wish.count,
        "suggested": len(suggestions),
        "strategy": strategy,
        "output": str(output),
        "sheet": None if sheet is None else str(sheet),
    }
    if strategy == "audit":
        result["expected_interval"] = list(expected_interval(len(suggestions)))
    return result


def _choose(situation: Situation, wish: Wish) -> tuple[str, list[Suggestion]]:
    """Return the strategy's name and what it suggests."""
    strategy: str = wish.purpose
    what = "different images without a label"
    if wish.purpose == "label":
        strategy, found = to_label(situation, wish.count)
    elif wish.purpose == "audit":
        found = to_audit(situation, wish.count)
    else:
        found, what = to_doubt(situation, wish.count), "disputed labels"
    if len(found) < wish.count:
        _log.warning("%d suggestions, not %d: no more %s", len(found), wish.count, what)
    return strategy, found


def _exceptions(
    tables: Sequence[Path], images: str, pack: Pack
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that people were asked about to learn from them, and the other ones."""
    asked: list[int] = []
    barred: list[int] = []
    for table in tables:
        named = read_named(table, shown(images), pack.keys)
        for row, chosen_by in zip(named.rows.tolist(), named.chosen_by, strict=True):
            # An audit's labels teach nobody: images like them are still worth a label.
            (barred if chosen_by == "audit" else asked).append(row)
        if named.unknown:
            _log.warning(
                "%d paths in %s are no readable image of %s: %s",
                len(named.unknown), table, shown(images), ", ".join(named.unknown[:3]),
            )  # fmt: skip
    return np.array(asked, np.int64), np.array(barred, np.int64)


def _write_sheet(
    output: Path,
    name: str,
    strategy: str,
    suggestions: list[Suggestion],
    pack: Pack,
    facts: tuple[tuple[str, str], ...],
) -> Path | None:
    """Write the contact sheet beside the table; None where there is nothing to show."""
    if not suggestions:
        return None
    page = suggestion_page(name, strategy, suggestions, pack.images, pack.keys, facts=facts)
    path = output.with_suffix(".html")
    try:
        write_whole(path, render(page).encode(errors="backslashreplace"))
    except OSError as error:
        raise TrainingError(f"cannot write {path} ({error}); free some space") from error
    return path
