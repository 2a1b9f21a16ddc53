"""Export the network, prove parity, measure the held-out ELBO and draw what it has learnt."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import Provenance
from handful_training import binarise, export, iwae, likelihood
from handful_training.config import Config
from handful_training.packs.pack import Pack
from handful_training.pipeline import drawings, held_out
from handful_training.pipeline.pretrain_stage import TrainedVae
from handful_training.pipeline.work import code_digest, file_digest, open_stage
from handful_training.pretrain import held_out_rows
from handful_training.tracking import Run
from handful_training.tracking.origin import git_commit

PARITY_IMAGES = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedVae:
    """A bundle without a head, and what is known of it."""

    bundle: Path
    metrics: dict[str, float]  # of `held_out.measure`, and the parity
    plots: Path
    skipped: bool


def export_vae(
    trained: TrainedVae,
    pack: Pack,
    config: Config,
    work: Path,
    run: Run,
    *,
    name: str,
    seed: int,
    force: bool,
) -> ExportedVae:
    """Write the bundle and its plots."""
    stage = open_stage(
        work,
        "exports",
        {
            "checkpoint": file_digest(trained.checkpoint),
            "name": name,
            "code": code_digest(binarise, export, iwae, likelihood, held_out, drawings),
        },
        force=force or not trained.skipped,
    )
    run.tags({"handful.stage": stage.key})
    folder, plots = stage.folder / "bundle", stage.folder / "plots"
    found = stage.result()
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted export
        kept = held_out_rows(len(pack.images), config.optimiser.held_out)
        real = np.array(pack.images[kept])
        exported, parity = export.export(trained.model, real[:PARITY_IMAGES])
        # What the training minimised is measured on images of the kind that it saw.
        alike = binarise.binarise(real, 0) if config.objective.binarise else real
        elbo, metrics = held_out.measure(alike, exported)
        metrics["export_parity"] = parity
        manifest, files = export.make_bundle(
            exported,
            real,
            name=name,
            metrics=metrics,
            provenance=provenance(run, pack, seed),
        )
        Bundle.save(folder, manifest, files)
        drawings.draw_vae(real, exported, elbo, plots)
        found = {"metrics": metrics}
        stage.finish(found)
        skipped = False
    else:
        run.tags({"handful.skipped": "true"})
        skipped = True
    _tell(found["metrics"], trained.model.latent_dim)
    run.metrics(found["metrics"])
    run.artifacts(plots, folder="plots")
    return ExportedVae(folder, found["metrics"], plots, skipped)


def _tell(metrics: dict[str, float], latent_dim: int) -> None:
    _log.info(
        "held-out -ELBO %.1f nats, -IWAE_%d %.1f nats%s; %d of %d latent dimensions are active",
        metrics["neg_elbo_nats"],
        metrics["iwae_samples"],
        metrics["neg_iwae_nats"],
        "" if metrics["is_log_likelihood"] else " (of grey images: losses, no likelihood)",
        metrics["active_dimensions"],
        latent_dim,
    )


def provenance(run: Run, pack: Pack, seed: int) -> Provenance:
    """Return where a bundle comes from."""
    return Provenance(
        run_id=run.id,
        git=git_commit(),
        data=pack.content_digest,
        seed=seed,
        versions=export.versions(),
    )
