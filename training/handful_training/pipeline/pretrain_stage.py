"""Fit the VAE, or find that exactly this one has been fitted already."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device
from handful_training import (
    augment,
    batches,
    loss,
    meter,
    model,
    neighbours,
    objective,
    pretrain,
    schedule,
)
from handful_training.checkpoint import load_checkpoint
from handful_training.config import Config
from handful_training.meter import Epoch
from handful_training.model import Vae
from handful_training.packs.pack import Pack
from handful_training.pipeline.work import Stage, code_digest, open_stage
from handful_training.plots import learning_curves
from handful_training.pretrain import CHECKPOINT, Budget
from handful_training.progress import progress
from handful_training.tracking import Run

_CODE = (augment, batches, loss, meter, model, neighbours, objective, pretrain, schedule)


@dataclass(frozen=True)
class TrainedVae:
    """A fitted network and how its training went."""

    model: Vae  # on the CPU, in evaluation mode
    checkpoint: Path
    history: list[Epoch]
    seconds: float  # of training, also where it was found finished
    skipped: bool
    folder: Path


def train_vae(
    pack: Pack,
    spec: ImageSpec,
    config: Config,
    budget: Budget,
    work: Path,
    run: Run,
    *,
    seed: int,
    device: Device,
    force: bool,
) -> TrainedVae:
    """Train, telling `run` of every epoch."""
    settings = config.model_dump(
        mode="json", include={"model", "objective", "augment", "optimiser"}
    )
    stage = open_stage(
        work,
        "encoders",
        {
            "pixels": pack.content_digest,
            "spec": spec.model_dump(),
            "config": settings,
            "budget": asdict(budget),
            "seed": seed,
            "device": device,
            "code": code_digest(*_CODE),
        },
        force=force,
    )
    run.params({**settings, "seed": seed, "device": device, "budget": asdict(budget)})
    found = stage.result()
    checkpoint = stage.folder / CHECKPOINT
    if found is not None and checkpoint.exists():
        history = [Epoch(**row) for row in found["history"]]
        for row in history:
            _log_epoch(run, row)
        run.tags({"handful.skipped": "true"})
        run.artifacts(stage.folder / "plots", folder="plots")
        return TrainedVae(
            load_vae(checkpoint, config),
            checkpoint,
            history,
            found["seconds"],
            skipped=True,
            folder=stage.folder,
        )
    return _train(pack, spec, config, budget, stage, run, seed=seed, device=device)


def load_vae(checkpoint: Path, config: Config) -> Vae:
    """Return the averaged network of a checkpoint, on the CPU, in evaluation mode."""
    state = load_checkpoint(checkpoint)
    network = Vae(
        ImageSpec.model_validate(state["spec"]), config.model, config.objective.projection_dim
    )
    prefix = "module."
    network.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in state["average"].items()
            if name.startswith(prefix)
        }
    )
    return network.eval()


def _train(
    pack: Pack,
    spec: ImageSpec,
    config: Config,
    budget: Budget,
    stage: Stage,
    run: Run,
    *,
    seed: int,
    device: Device,
) -> TrainedVae:
    total, unit = (
        (budget.epochs, "epoch") if budget.seconds is None else (round(budget.seconds), "second")
    )
    with progress(total, desc="Pretraining", unit=unit) as bar:
        shown = 0

        def advance(share: float) -> None:
            nonlocal shown
            done = int(min(1.0, share) * (total or 0))
            bar.update(done - shown)
            shown = done

        def tell(row: Epoch) -> None:
            bar.note(f"epoch {row.epoch}: -ELBO {row.neg_elbo:.1f} nats, loss {row.loss:.3f}")
            _log_epoch(run, row)

        trained = pretrain.pretrain(
            pack.images,
            spec,
            config,
            budget,
            stage.folder,
            seed=seed,
            device=device,
            on_epoch=tell,
            on_progress=advance,
        )
        advance(1.0)
    plots = stage.folder / "plots"
    plots.mkdir(exist_ok=True)
    history = [asdict(row) for row in trained.history]
    learning_curves(history, plots / "learning_curves.png")
    run.artifacts(plots, folder="plots")
    result: dict[str, Any] = {"seconds": trained.seconds, "history": history}
    stage.finish(result)
    return TrainedVae(
        trained.model,
        trained.checkpoint,
        trained.history,
        trained.seconds,
        skipped=False,
        folder=stage.folder,
    )


def _log_epoch(run: Run, row: Epoch) -> None:
    values = asdict(row)
    step = values.pop("step")
    run.metrics(values, step=step)
