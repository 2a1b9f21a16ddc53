"""What a run finds out for its report: the ladder, sets, novelty, and the plots that it shows."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training import plots
from handful_training.config import HeadConfig
from handful_training.head.conformal import prediction_sets
from handful_training.metrics import wilson_interval
from handful_training.packs.pack import Pack
from handful_training.pages.write import write_file
from handful_training.pipeline.curve_stage import stored_curve
from handful_training.pipeline.drawings import RECONSTRUCTED, SAMPLED, draw_map
from handful_training.pipeline.head_stage import HeadBundle
from handful_training.pipeline.inputs import Inputs
from handful_training.pipeline.ladder import (
    Measured,
    Nodes,
    judge_rows,
    measure_ladder,
    open_nodes,
    wanted_rows,
)
from handful_training.pipeline.suggestions import Situation, to_label
from handful_training.report.findings import (
    FOLDER,
    PAGE,
    Data,
    Findings,
    Ladder,
    Novelty,
    Pictures,
    Sets,
    Shown,
    store,
)
from handful_training.report.page import report_page
from handful_training.tracking import Run, Version, fields

SHOWN = 16  # images in a gallery


def find(
    bundle: Bundle,
    inputs: Inputs,
    fitted: HeadBundle | None,
    folder: Path,
    work: Path,
    *,
    config: HeadConfig,
    frozen: Bundle | None = None,
    control: HeadBundle | None = None,
    seed: int = 0,
) -> tuple[Findings, Pictures]:
    """Measure and collect everything that the report of `bundle` says.

    Args:
        bundle: what is served.
        inputs: images and labels.
        fitted: see `measure_ladder`.
        folder: of the run's plots; those that are missing are drawn into it.
        work: the work folder.
        config: of the head.
        frozen: the bundle that an adapted encoder came from.
        control: the same adaptation from a random start.
        seed: decides the folds.
    """
    start = time.monotonic()
    wanted = wanted_rows(inputs.labels, inputs.unused, seed)
    nodes = open_nodes(bundle, inputs.pack, wanted, work)
    pictures = Pictures()
    measured, novelty, novel = None, None, tuple[Shown, ...]()
    if bundle.head is not None and inputs.labels is not None:
        measured = measure_ladder(
            bundle, nodes, inputs, fitted, work,
            frozen=frozen, control=control, seed=seed,
            prior="uniform" if config.class_prior == "uniform" else None,
        )  # fmt: skip
        novelty, novel = _novelty(bundle, nodes, inputs.pack, pictures)
    suggested = _suggested(bundle, inputs, work, seed, pictures)
    _draw_missing(bundle, inputs, folder)
    pictures.add_plots(folder)
    return Findings(
        data=_data(inputs),
        ladder=None
        if measured is None
        else Ladder.of(measured.on, measured.standings, measured.served),
        sets=_sets(bundle, measured),
        novelty=novelty,
        curve=stored_curve(folder),
        novel=novel,
        suggested=suggested,
        seconds=time.monotonic() - start,
    ), pictures


def _data(inputs: Inputs) -> Data:
    pack = inputs.pack
    return Data(
        source=fields.place(inputs.source)[1],  # the last part of a path: it may hold names
        images=len(pack),
        rejected=len(pack.rejected),
        duplicates=pack.duplicates,
        shape=inputs.spec.shape,
        classes={} if inputs.labels is None else inputs.labels.counts(),
        unused=0 if inputs.unused is None else len(inputs.unused),
    )


def _sets(bundle: Bundle, measured: Measured | None) -> Sets | None:
    """Return how often the prediction sets hold the right class, where that can be said."""
    info = bundle.manifest.head
    if measured is None or info is None or info.conformal is None:
        return None
    standing, conformal = measured.standings[measured.served], info.conformal
    sets = prediction_sets(standing.probabilities, conformal.threshold)
    n = len(standing.target)
    held = int(sets[np.arange(n), standing.target].sum())
    return Sets(
        level=conformal.level,
        threshold=conformal.threshold,
        count=conformal.count,
        coverage=held / n,
        coverage_ci=wilson_interval(held, n),
        mean_size=float(sets.sum(axis=1).mean()),
        n=n,
    )


def _novelty(
    bundle: Bundle, nodes: Nodes, pack: Pack, pictures: Pictures
) -> tuple[Novelty | None, tuple[Shown, ...]]:
    info = bundle.manifest.head.novelty if bundle.manifest.head else None
    if info is None or info.method is None or info.threshold is None:
        return None, ()
    _, novelty = judge_rows(bundle, nodes.embedding, np.arange(len(nodes.rows)))
    if novelty is None:
        return None, ()
    most = np.argsort(-novelty, kind="stable")[:SHOWN]
    rows = nodes.rows[most]
    pictures["novel"] = _images(pack, rows)
    found = Novelty(
        method=info.method,
        threshold=info.threshold,
        false_alarm_rate=info.false_alarm_rate,
        above=float((novelty > info.threshold).mean()),
        n=len(novelty),
    )
    notes = [f"novelty {value:.3f}" for value in novelty[most].tolist()]
    return found, _named(pack, rows, notes)


def _suggested(
    bundle: Bundle, inputs: Inputs, work: Path, seed: int, pictures: Pictures
) -> tuple[Shown, ...]:
    none = np.zeros(0, np.int64)
    situation = Situation(bundle, inputs.pack, inputs.labels, none, none, work, seed)
    _, found = to_label(situation, min(SHOWN, len(inputs.pack)))
    if found:
        pictures["suggested"] = _images(inputs.pack, np.array([one.row for one in found]))
    keys = inputs.pack.keys
    return tuple(Shown(key=keys[one.row], note=one.reason) for one in found)


def _images(pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    order = np.argsort(rows)  # ascending, as a memory map is read fastest
    found = np.empty((len(rows), *pack.images.shape[1:]), np.uint8)
    found[order] = pack.images[rows[order]]
    return found


def _named(pack: Pack, rows: NDArray[np.int64], notes: list[str]) -> tuple[Shown, ...]:
    keys = pack.keys
    return tuple(
        Shown(key=keys[row], note=note) for row, note in zip(rows.tolist(), notes, strict=True)
    )


def _draw_missing(bundle: Bundle, inputs: Inputs, folder: Path) -> None:
    """Draw what the run that trained the encoder drew, where this run did not train it."""
    folder.mkdir(parents=True, exist_ok=True)
    images = inputs.pack.images

    def once(name: str, draw: Callable[[Path], None]) -> None:
        path = folder / f"{name}.png"
        if not path.exists():
            draw(path)

    once("embedding_map", lambda path: draw_map(bundle.encoder, inputs.pack, inputs.labels, path))
    if bundle.decoder is None:
        return
    decoder = bundle.decoder
    rows = np.linspace(0, len(images) - 1, min(RECONSTRUCTED, len(images))).astype(np.int64)
    some = np.array(images[rows])
    latent = np.random.default_rng(0).standard_normal((SAMPLED, decoder.latent_dim), np.float32)
    once(
        "reconstructions",
        lambda path: plots.reconstructions(some, decoder(bundle.encoder(some).mean).images, path),
    )
    once("samples", lambda path: plots.samples(decoder(latent).images, path))


def keep(
    run: Run, version: Version, bundle: Bundle, findings: Findings, pictures: Pictures, folder: Path
) -> Path:
    """Write the page beside the run's plots, and keep it and what it is made from with the run."""
    with TemporaryDirectory() as temporary:
        stored = Path(temporary)
        store(findings, pictures, stored)
        page = report_page(*version, bundle.manifest, findings, pictures)
        write_file(page, stored / PAGE)
        run.artifacts(stored, folder=FOLDER)
    path = folder / PAGE
    write_file(page, path)
    return path
