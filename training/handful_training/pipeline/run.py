"""`handful-train run`: from images and labels to a registered version, stage by stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from handful_bundle.bundle import Bundle
from handful_bundle.session import Device
from handful_training.config import Config
from handful_training.distributed import Team, join
from handful_training.labels.choice import LabelChoice
from handful_training.pipeline.adapt_plan import Adapt, plan_for
from handful_training.pipeline.adapt_stage import Order
from handful_training.pipeline.adaptation import adapt_and_judge
from handful_training.pipeline.assist import assist
from handful_training.pipeline.drawings import draw_map
from handful_training.pipeline.export_stage import ExportedVae, export_vae
from handful_training.pipeline.finish import Ending, collect_plots, run_folder
from handful_training.pipeline.head_stage import Base
from handful_training.pipeline.inputs import Inputs, read_inputs
from handful_training.pipeline.networks import keep_network, log_network
from handful_training.pipeline.pretrain_stage import TrainedVae, train_vae
from handful_training.pipeline.settle import keep_side, settle
from handful_training.pipeline.work import disk_errors, work_folder
from handful_training.pretrain import Budget
from handful_training.sources.store import shown
from handful_training.tracking import Run, Tracker, origin


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

    def read(self, work: Path) -> Inputs:
        """Read the images and labels, and pack the pixels once."""
        return read_inputs(
            self.images,
            work,
            choice=self.choice,
            config=self.config.image,
            keep_side=partial(keep_side, self.budget, self.device),
        )


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
    request, inputs = _with_inputs(request, team, work)
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
        ending = Ending(
            tracker, parent, base, inputs, request.config, folder,
            name=request.name, seed=seed, force=request.force,
        )  # fmt: skip
        result |= ending.reach()
    return result


@disk_errors()
def pretrain(request: Request) -> dict[str, Any] | None:
    """Train the VAE alone; nothing is registered. Returns as `run`."""
    team, work = join(request.device), work_folder()
    if team.rank > 0:
        assist(request, team)
        return None
    request, inputs = _with_inputs(request, team, work)
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


def _with_inputs(request: Request, team: Team, work: Path) -> tuple[Request, Inputs]:
    """Read what is asked for, and settle with it what the request leaves open."""
    inputs = request.read(work)
    team.packed()
    config, budget = settle(request.config, request.budget, inputs.pack, request.device)
    return replace(request, config=config, budget=budget), inputs


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
