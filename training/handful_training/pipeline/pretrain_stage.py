"""Fit the VAE, or find that exactly this one has been fitted already."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device
from handful_training import (
    augment,
    batch_norm,
    batches,
    binarise,
    draws,
    learner,
    loss,
    meter,
    model,
    neighbours,
    objective,
    presets,
    pretrain,
    schedule,
    stem,
    unit_tensor,
)
from handful_training.checkpoint import load_checkpoint
from handful_training.config import Config
from handful_training.distributed import current_team, leave
from handful_training.errors import TrainingError
from handful_training.meter import Epoch
from handful_training.model import Vae
from handful_training.packs.pack import Pack
from handful_training.pipeline.teller import Teller, extent, log_row
from handful_training.pipeline.work import DONE, Stage, code_digest, open_stage
from handful_training.plots import learning_curves
from handful_training.pretrain import CHECKPOINT, Budget, Watcher
from handful_training.progress import Progress, progress
from handful_training.sizing import WANTED_EPOCHS
from handful_training.tracking import Run
from handful_training.views_sheet import draw_views

_CODE = (
    augment,
    batch_norm,
    batches,
    binarise,
    draws,
    learner,
    loss,
    meter,
    model,
    neighbours,
    objective,
    presets,
    pretrain,
    schedule,
    stem,
    unit_tensor,
)
VIEWS = "views.png"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedVae:
    """A fitted network and how its training went."""

    model: Vae  # on the CPU, in evaluation mode
    checkpoint: Path
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
    settings = _settings(config)
    stage = _open(pack, spec, config, budget, work, seed=seed, device=device, force=force)
    run.params({**settings, "seed": seed, "device": device, "budget": asdict(budget)})
    run.tags(
        {
            "handful.stage": stage.key,
            "handful.device": "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu",
            "handful.world_size": str(current_team().size),
        }
    )
    trained = _found(stage, config, run)
    # The other processes train along, or go home.
    current_team().share(None if trained else (pack.content_digest, config, budget))
    if trained is None:
        if force:
            (stage.folder / CHECKPOINT).unlink(missing_ok=True)
        trained = _train(pack, spec, config, budget, stage, run, seed=seed, device=device)
    leave()
    return trained


def is_trained(
    pack: Pack,
    spec: ImageSpec,
    config: Config,
    budget: Budget,
    work: Path,
    *,
    seed: int,
    device: Device,
) -> bool:
    """Whether `train_vae` would find it all done."""
    stage = _open(pack, spec, config, budget, work, seed=seed, device=device, force=False)
    return (stage.folder / DONE).exists()


def load_vae(checkpoint: Path, config: Config) -> Vae:
    """Return the averaged network of a checkpoint, on the CPU, in evaluation mode."""
    state = load_checkpoint(checkpoint)
    network = Vae(
        ImageSpec.model_validate(state["identity"]["spec"]),
        config.model,
        config.objective.projection_dim,
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


def _settings(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", include={"model", "objective", "augment", "optimiser"})


def _open(
    pack: Pack,
    spec: ImageSpec,
    config: Config,
    budget: Budget,
    work: Path,
    *,
    seed: int,
    device: Device,
    force: bool,
) -> Stage:
    return open_stage(
        work,
        "encoders",
        {
            "pixels": pack.content_digest,
            "spec": spec.model_dump(),
            "config": _settings(config),
            "budget": asdict(budget),
            "seed": seed,
            "device": device,
            "code": code_digest(*_CODE),
        },
        force=force,
    )


def _found(stage: Stage, config: Config, run: Run) -> TrainedVae | None:
    """Return what an earlier run has finished, and tell `run` of it."""
    result, checkpoint = stage.result(), stage.folder / CHECKPOINT
    if result is None:
        return None
    try:
        network = load_vae(checkpoint, config)
    except TrainingError:  # the training looks at it again, and says so
        stage.forget()
        return _found(stage, config, run)
    for row in result["history"]:
        log_row(run, Epoch(**row))
    run.tags({"handful.skipped": "true"})
    run.artifacts(stage.folder / "plots", folder="plots")
    return TrainedVae(network, checkpoint, result["seconds"], skipped=True, folder=stage.folder)


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
    total, unit = extent(budget)
    with run.system_metrics(), progress(total, desc="Pretraining", unit=unit) as bar:
        teller = _Teller(bar, total, run, pack, config, stage.folder / "plots")
        trained = pretrain.pretrain(
            pack.images,
            spec,
            config,
            budget,
            stage.folder,
            seed=seed,
            device=device,
            resume=True,
            watcher=teller,
        )
        teller.progress(1.0)
    plots = stage.folder / "plots"
    plots.mkdir(exist_ok=True)
    history = [asdict(row) for row in trained.history]
    learning_curves(history, plots / "learning_curves.png")
    result: dict[str, Any] = {"seconds": trained.seconds, "history": history}
    stage.finish(result)  # before anything that needs a server: it may be gone by now
    run.artifacts(plots, folder="plots")
    return TrainedVae(
        trained.model,
        trained.checkpoint,
        trained.seconds,
        skipped=False,
        folder=stage.folder,
    )


class _Teller(Teller[Epoch], Watcher):
    """Tells of each epoch, and of what came before the first."""

    def __init__(
        self, bar: Progress[None], total: int, run: Run, pack: Pack, config: Config, plots: Path
    ) -> None:
        super().__init__(bar, total, run, "epoch")
        self._pack, self._config, self._plots = pack, config, plots

    def begun(self, rows: NDArray[np.int64], neighbours: NDArray[np.int32] | None) -> None:
        if self._config.objective.invariance_weight == 0:
            return
        self._plots.mkdir(exist_ok=True)
        path = self._plots / VIEWS
        draw_views(self._pack.images, rows, self._config.augment, path, neighbours=neighbours)
        self._run.artifacts(path, folder="plots")
        _log.info("what invariance is taught is drawn in %s", path)

    def pace(self, epochs: float) -> None:
        if epochs < WANTED_EPOCHS:
            _log.warning(
                "the budget shows each image only about %.2g times; raise --time-budget, use a "
                "GPU, or set image.height and image.width to fewer pixels than %dx%d",
                epochs,
                *self._pack.images.shape[1:3],
            )

    def epoch(self, row: Epoch) -> None:
        self.finished(row.epoch, row)
