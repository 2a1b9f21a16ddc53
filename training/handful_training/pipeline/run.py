"""`handful-train run`: from images and labels to a registered version, stage by stage."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from handful_bundle.bundle import Bundle
from handful_bundle.session import Device
from handful_training.baseline import PixelBaseline
from handful_training.config import Config
from handful_training.distributed import join
from handful_training.gate import OutOfFold
from handful_training.labels.choice import LabelChoice
from handful_training.pipeline.adapt_plan import Adapt, plan_for
from handful_training.pipeline.adapt_stage import Order
from handful_training.pipeline.adaptation import adapt_and_judge
from handful_training.pipeline.assist import assist
from handful_training.pipeline.curve_stage import draw_curve
from handful_training.pipeline.drawings import draw_map
from handful_training.pipeline.evaluation import Evaluation, predict_unseen
from handful_training.pipeline.export_stage import ExportedVae, export_vae
from handful_training.pipeline.findings import find, keep
from handful_training.pipeline.head_stage import Base, HeadBundle, add_head
from handful_training.pipeline.inputs import Inputs, read_inputs
from handful_training.pipeline.networks import keep_network, log_network
from handful_training.pipeline.pretrain_stage import TrainedVae, train_vae
from handful_training.pipeline.settle import keep_side, settle
from handful_training.pipeline.work import disk_errors, work_folder
from handful_training.pretrain import Budget
from handful_training.report.verdict import verdict
from handful_training.sources.store import shown
from handful_training.tracking import Run, Tracker, Version, origin

_log = logging.getLogger(__name__)

BASELINE = "baseline.npz"


@dataclass(frozen=True)
class Request:
    """What a training command was asked for."""

    name: str
    images: str
    config: Config
    choice: LabelChoice | None
    budget: Budget
    train_seed: int
    device: Device
    force: bool
    adapt: Adapt = "no"


@disk_errors()
def run(request: Request) -> dict[str, Any] | None:
    """Train, fit, evaluate, register. Unchanged stages are skipped.

    Returns:
        What came of it; None in processes that only train along.
    """
    team, work = join(request.device), work_folder()
    if team.rank > 0:
        assist(request, team)
        return None
    inputs = read_inputs(
        request.images,
        work,
        choice=request.choice,
        config=request.config.image,
        keep_side=partial(keep_side, request.budget, request.device),
    )
    team.packed()
    request = _settled(request, inputs)
    plan = plan_for(request, inputs, work)
    tracker = Tracker.open(work=work)
    with _record(tracker, request, inputs, "run") as parent:
        folder = run_folder(work, request.name, parent)
        trained, exported = _encoder(replace(request, budget=plan.pretrain), inputs, work, parent)
        collect_plots(trained.folder / "plots", folder)
        collect_plots(exported.plots, folder)
        result: dict[str, Any] = {
            "images": len(inputs.pack.images),
            "neg_elbo_nats": exported.metrics["neg_elbo_nats"],
            "neg_iwae_nats": exported.metrics["neg_iwae_nats"],
            "pretrain_seconds": trained.seconds,
        }
        bundle = Bundle.load(exported.bundle, device="cpu")
        keep_network(work, bundle.manifest.space, trained.model, request.config)
        seed = request.choice.seed if request.choice else 0
        result |= {"adapted": False, "adapt_reason": plan.reason}
        base = Base(bundle)
        if plan.adapt is not None:
            order = Order(
                request.name,
                request.config,
                plan.adapt,
                label_seed=seed,
                seed=request.train_seed,
                device=request.device,
                force=request.force,
            )
            adaptation = adapt_and_judge(base, trained.model, inputs, order, work, parent)
            result |= adaptation.to_json()
            if adaptation.decision.promoted:
                base = adaptation.base
                collect_plots(adaptation.plots, folder)
        log_network(tracker, request.name, base.bundle.manifest.space, work, parent)
        draw_map(base.bundle.encoder, inputs.pack, inputs.labels, folder / "embedding_map.png")
        result |= finish(
            tracker,
            parent,
            base,
            inputs,
            request.config,
            folder,
            name=request.name,
            seed=seed,
            force=request.force,
        )
    return result


@disk_errors()
def pretrain(request: Request) -> dict[str, Any] | None:
    """Train the VAE alone; nothing is registered. Returns as `run`."""
    team, work = join(request.device), work_folder()
    if team.rank > 0:
        assist(request, team)
        return None
    inputs = read_inputs(
        request.images,
        work,
        config=request.config.image,
        keep_side=partial(keep_side, request.budget, request.device),
    )
    team.packed()
    request = _settled(request, inputs)
    tracker = Tracker.open(work=work)
    with (
        _record(tracker, request, inputs, "pretrain") as parent,
        parent.child("pretrain") as child,
    ):
        trained = _train(request, inputs, work, child)
        return {
            "name": request.name,
            "run_id": parent.id,
            "images": len(inputs.pack.images),
            "pretrain_seconds": trained.seconds,
            "checkpoint": str(trained.checkpoint),
            "folder": str(trained.folder),
        }


@disk_errors()
def finish(
    tracker: Tracker,
    parent: Run,
    base: Base,
    inputs: Inputs,
    config: Config,
    folder: Path,
    *,
    name: str,
    seed: int,
    force: bool,
) -> dict[str, Any]:
    """Fit a head where there are labels, evaluate, register, and ask the gate."""
    out_of_fold: OutOfFold | None = None
    fitted: HeadBundle | None = None
    root, result, bundle, work = base.bundle.root, dict[str, Any](), base.bundle, work_folder()
    if inputs.labels is not None:
        labels = inputs.labels
        with parent.child("head") as child:
            fitted = add_head(
                base,
                inputs.pack,
                labels,
                config.head,
                work,
                child,
                name=name,
                seed=seed,
                force=force,
            )
        root, out_of_fold = fitted.bundle, fitted.out_of_fold
        bundle = Bundle.load(root, device="cpu", reuse=base.bundle)
        with parent.child("evaluate") as child:
            evaluation = _evaluate(
                bundle,
                inputs,
                out_of_fold,
                config,
                folder,
                parent,
                child,
                seed=seed,
            )
        result = {
            "head_seconds": fitted.seconds,
            "labels": len(labels),
            "accuracy": None,
            "accuracy_ci": None,
            "baseline_pca_accuracy": None,
        }
        if evaluation is not None:
            result |= evaluation.to_json()
    version = tracker.registry.find(name, root)  # the same bundle is not registered twice
    if version is None:
        version = tracker.registry.register(name, root, parent, out_of_fold=out_of_fold)
    if base.refusal is not None:
        tracker.registry.refuse(Version(name, version), base.refusal)
    decision = tracker.registry.consider(name, version)
    _log.info(
        "%s version %s %s: %s",
        name,
        version,
        "is champion" if decision.promoted else "is not promoted",
        decision.reason,
    )
    # What takes longer comes when the version is live.
    if fitted is not None and inputs.labels is not None:
        with parent.child("curve") as child:
            curve = draw_curve(
                bundle,
                inputs,
                fitted.choice,
                config.head.class_prior,
                folder,
                work,
                child,
                adapted=bool(base.seen),
                seed=seed,
            )
        result["next_labels"] = {"sentence": curve["sentence"], **(curve["forecast"] or {})}
    findings, pictures = find(
        bundle,
        inputs,
        out_of_fold,
        folder,
        work,
        config=config.head,
        frozen=base.before,
        seconds=result.get("head_seconds", 0.0),
        seed=seed,
    )
    parent.artifacts(folder, folder="plots")
    report = keep(parent, Version(name, version), bundle, findings, pictures, folder)
    return {
        "name": name,
        "version": version,
        "run_id": parent.id,
        "promoted": decision.promoted,
        "reason": decision.reason,
        "bundle": str(root),
        "folder": str(folder),
        "report": str(report),
        "verdict": verdict(findings).sentence,
        **result,
    }


def run_folder(work: Path, name: str, run: Run) -> Path:
    """Make the folder that a run's plots go to."""
    folder = work / "runs" / f"{name}-{run.id[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def collect_plots(source: Path, folder: Path) -> None:
    """Copy a stage's plots to the run's folder."""
    for plot in sorted(source.glob("*.png")):
        shutil.copyfile(plot, folder / plot.name)


@contextmanager
def _record(tracker: Tracker, request: Request, inputs: Inputs, title: str) -> Iterator[Run]:
    with tracker.run(request.name, title=title, tags=origin()) as parent:
        parent.params({"config": request.config.model_dump(mode="json")})
        _note_images(parent, request, inputs)
        parent.artifacts(inputs.pack.rejected_csv, folder="data")
        yield parent


def _note_images(run: Run, request: Request, inputs: Inputs) -> None:
    run.dataset(
        request.name,
        inputs.pack.content_digest,
        source=shown(request.images),
        profile={
            "images": len(inputs.pack.images),
            "rejected": len(inputs.pack.rejected),
            "duplicates": inputs.pack.duplicates,
            "image": inputs.spec.model_dump(mode="json"),
        },
    )


def _settled(request: Request, inputs: Inputs) -> Request:
    config, budget = settle(request.config, request.budget, inputs.pack, request.device)
    return replace(request, config=config, budget=budget)


def _encoder(
    request: Request, inputs: Inputs, work: Path, parent: Run
) -> tuple[TrainedVae, ExportedVae]:
    with parent.child("pretrain") as child:
        trained = _train(request, inputs, work, child)
    with parent.child("export") as child:
        exported = export_vae(
            trained,
            inputs.pack,
            request.config,
            work,
            child,
            name=request.name,
            seed=request.train_seed,
            force=request.force,
        )
    return trained, exported


def _train(request: Request, inputs: Inputs, work: Path, run: Run) -> TrainedVae:
    _note_images(run, request, inputs)
    return train_vae(
        inputs.pack,
        inputs.spec,
        request.config,
        request.budget,
        work,
        run,
        seed=request.train_seed,
        device=request.device,
        force=request.force,
    )


def _evaluate(
    bundle: Bundle,
    inputs: Inputs,
    out_of_fold: OutOfFold | None,
    config: Config,
    folder: Path,
    parent: Run,
    run: Run,
    *,
    seed: int,
) -> Evaluation | None:
    assert inputs.labels is not None
    baseline = PixelBaseline.fit(
        inputs.pack.images,
        inputs.labels.index,
        inputs.labels.target,
        inputs.labels.names,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as temporary:  # for `handful-train evaluate`, anywhere
        path = Path(temporary) / BASELINE
        path.write_bytes(baseline.pack())
        parent.artifacts(path, folder="baseline")
    predictions = predict_unseen(
        bundle,
        inputs.pack,
        inputs.labels,
        inputs.unused,
        out_of_fold,
        baseline,
        folds=config.head.folds,
        seed=seed,
    )
    if predictions is None:
        _log.warning("a class has one label: nothing is left to measure accuracy on")
        return None
    evaluation = predictions.evaluate()
    predictions.draw(folder)
    run.metrics(evaluation.metrics())
    return evaluation
