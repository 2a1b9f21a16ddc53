"""Adapt a network to labels, or find that exactly this has been done already."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device
from handful_training import (
    augment,
    binarise,
    draws,
    learner,
    loss,
    model,
    objective,
    presets,
    schedule,
    stem,
    unit_tensor,
    whitening,
)
from handful_training.adapt import (
    batches,
    graph_labels,
    hold_out,
    pseudo_labels,
    rounds,
    strong,
    student,
)
from handful_training.adapt.rounds import Kept, Labelled, Round
from handful_training.checkpoint import load_checkpoint
from handful_training.config import Config
from handful_training.errors import TrainingError
from handful_training.graph import knn, pool_graph, prior, solve, spreading
from handful_training.image_keys import image_keys
from handful_training.labels.labels import Labels
from handful_training.model import Vae
from handful_training.packs.pack import Pack
from handful_training.pipeline.pretrain_stage import TrainedVae
from handful_training.pipeline.teller import Teller, extent, log_row
from handful_training.pipeline.work import Stage, code_digest, open_stage
from handful_training.pretrain import CHECKPOINT, Budget
from handful_training.progress import progress
from handful_training.tracking import Run

_CODE = (
    augment, batches, binarise, draws, graph_labels, hold_out, knn, learner, loss, model, objective,
    pool_graph, presets, prior, pseudo_labels, rounds, schedule, solve, spreading, stem, strong,
    student, unit_tensor, whitening,
)  # fmt: skip

RANDOM = "random"  # stands for the space of an encoder that has learnt nothing


@dataclass(frozen=True)
class Order:
    """How to adapt."""

    name: str  # of the model
    config: Config
    budget: Budget
    label_seed: int  # draws the labels that are held out, and the folds of heads
    seed: int  # of the training
    device: Device
    force: bool  # also where it has been done


@dataclass(frozen=True)
class AdaptedVae:
    """An adapted network, and which labels it was adapted to."""

    trained: TrainedVae  # as a pretrained one, so that it is exported the same way
    seen: tuple[str, ...]  # keys of the labelled images that took part
    held_out: int  # labelled images that did not: they judge


def adapt_vae(
    start: Vae | ImageSpec,
    space: str,
    pack: Pack,
    labels: Labels,
    order: Order,
    work: Path,
    run: Run,
) -> AdaptedVae:
    """Adapt a network to labels, telling `run` of every round.

    Args:
        start: the network; an `ImageSpec`: one that has learnt nothing, for such images.
        space: of its encoder; `RANDOM` for one that has learnt nothing.
        pack: images, all of which take part.
        labels: rows of `pack`; a part of them is held out.
        order: how.
        work: the work folder.
        run: is told of every round.
    """
    config, budget = order.config, order.budget
    settings = config.model_dump(
        mode="json", include={"model", "objective", "augment", "optimiser", "adapt"}
    )
    depends_on = {
        "space": space,
        "pixels": pack.content_digest,
        "labels": labels.digest,
        "label_seed": order.label_seed,
        "config": settings,
        "budget": asdict(budget),
        "seed": order.seed,
        "device": order.device,
        "code": code_digest(*_CODE),
    }
    stage = open_stage(work, "adaptations", depends_on, force=order.force)
    run.params({**settings, "seed": order.seed, "device": order.device, "budget": asdict(budget)})
    run.tags({"handful.stage": stage.key, "handful.from_space": space})
    held_out = hold_out.hold_out(labels.target, config.adapt.held_out, seed=order.label_seed)
    labelled = Labelled(labels.index[~held_out], labels.target[~held_out])
    trained = _found(start, pack, config, stage, run)
    if trained is None:
        if order.force:
            (stage.folder / CHECKPOINT).unlink(missing_ok=True)
        trained = _adapt(start, space, pack, labelled, order, stage, run)
    seen = image_keys(pack.images, labelled.rows)
    return AdaptedVae(trained, seen, int(np.count_nonzero(held_out)))


def _found(
    start: Vae | ImageSpec, pack: Pack, config: Config, stage: Stage, run: Run
) -> TrainedVae | None:
    """Return what an earlier run has finished, and tell `run` of it."""
    result, checkpoint = stage.result(), stage.folder / CHECKPOINT
    if result is None:
        return None
    like = rounds.fresh(pack.images, start, config) if isinstance(start, ImageSpec) else start
    network = _load(checkpoint, like)
    if network is None:  # damaged since
        stage.forget()
        return _found(start, pack, config, stage, run)
    run.tags({"handful.skipped": "true"})
    for row in result["history"]:
        log_row(run, Round(**row))
    return TrainedVae(network, checkpoint, result["seconds"], skipped=True, folder=stage.folder)


def _adapt(
    start: Vae | ImageSpec,
    space: str,
    pack: Pack,
    labelled: Labelled,
    order: Order,
    stage: Stage,
    run: Run,
) -> TrainedVae:
    total, unit = extent(order.budget)
    with run.system_metrics(), progress(total, desc="Adapting", unit=unit) as bar:
        adapted = rounds.adapt(
            pack.images,
            labelled,
            start,
            order.config,
            order.budget,
            kept=Kept(stage.folder, {"space": space}),
            seed=order.seed,
            device=order.device,
            watcher=_Teller(bar, total, run, "round"),
        )
    history = [asdict(row) for row in adapted.history]
    stage.finish({"seconds": adapted.seconds, "history": history})
    checkpoint = stage.folder / CHECKPOINT
    return TrainedVae(
        adapted.model, checkpoint, adapted.seconds, skipped=False, folder=stage.folder
    )


def _load(checkpoint: Path, like: Vae) -> Vae | None:
    """Return the teacher of a checkpoint, on the CPU, in evaluation mode; None if damaged."""
    try:
        state = load_checkpoint(checkpoint)
    except TrainingError:  # the adaptation looks at it again, and says so
        return None
    return student.teacher_of(state, like)


class _Teller(Teller[Round], rounds.Watcher):
    """Tells of each round."""

    def round(self, row: Round) -> None:
        self.finished(row.round, row)
