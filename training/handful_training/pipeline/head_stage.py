"""Fit a head on the embeddings of a bundle's own encoder, and put both into a new bundle."""

import shutil
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handful_bundle import encoder
from handful_bundle.bundle import Bundle
from handful_bundle.encoder import Encoder
from handful_training import export
from handful_training.config import HeadConfig
from handful_training.embedding import embed_rows
from handful_training.gate import OutOfFold
from handful_training.head import calibration, classes, fit, graph, logistic, selection
from handful_training.head.classes import class_statistics
from handful_training.head.fit import fit_head, head_info
from handful_training.labels.labels import Labels
from handful_training.packs.pack import Pack
from handful_training.pipeline.export_stage import provenance
from handful_training.pipeline.work import code_digest, open_stage
from handful_training.tracking import Run

POOL_IMAGES = 10_000  # enough for a variance


@dataclass(frozen=True)
class HeadBundle:
    """A bundle with a head, and what its labelled images say of it."""

    bundle: Path
    out_of_fold: OutOfFold | None  # None: a class has one label
    seconds: float
    skipped: bool


def add_head(
    bundle: Bundle,
    pack: Pack,
    labels: Labels,
    config: HeadConfig,
    work: Path,
    run: Run,
    *,
    name: str,
    seed: int,
    force: bool,
) -> HeadBundle:
    """Fit a head for `labels`, rows of `pack`, on the encoder of `bundle`."""
    encoder_digest = bundle.manifest.files[encoder.FILE]
    stage = open_stage(
        work,
        "heads",
        {
            "encoder": bundle.manifest.files,  # the decoder goes along
            "pixels": pack.content_digest,
            "labels": labels.digest,
            "config": config.model_dump(mode="json"),
            "seed": seed,
            "name": name,
            "code": code_digest(calibration, classes, export, fit, graph, logistic, selection),
        },
        force=force,
    )
    run.params({"head": config.model_dump(mode="json"), "seed": seed})
    run.tags({"handful.stage": stage.key, "handful.space": bundle.manifest.space})
    run.dataset(
        f"{name}-labels",
        labels.digest,
        source="labels",
        context="labels",
        profile={"labels": len(labels), "classes": len(labels.names)},
    )
    folder, predictions = stage.folder / "bundle", stage.folder / "out_of_fold.npz"
    found = stage.result()
    if found is not None:
        run.tags({"handful.skipped": "true"})
        run.metrics(found["metrics"])
        stored = OutOfFold.unpack(predictions.read_bytes()) if predictions.exists() else None
        return HeadBundle(folder, stored, found["seconds"], skipped=True)

    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted fit
    predictions.unlink(missing_ok=True)
    encoding = embed_rows(bundle.encoder, pack.images, labels.index)
    fitted = fit_head(
        encoding.embedding,
        labels.target,
        labels.names,
        config,
        seed=seed,
    )
    metrics = {"temperature": fitted.temperature, "C": fitted.C, "labels": float(len(labels))}
    if fitted.cv_log_loss is not None:
        metrics["out_of_fold_log_loss"] = fitted.cv_log_loss
    out_of_fold = None
    if fitted.out_of_fold is not None:
        out_of_fold = OutOfFold(
            _image_digests(pack, labels), fitted.out_of_fold, labels.target, labels.names
        )
        predictions.write_bytes(out_of_fold.pack())
        right = (fitted.out_of_fold.argmax(1) == labels.target).mean()
        metrics["out_of_fold_accuracy"] = float(right)
    served = export.ServedHead(
        fitted.onnx,
        labels.names,
        head_info(fitted, labels.digest),
        class_statistics(
            encoding.mean,
            labels.target,
            len(labels.names),
            pool_variance=_pool_variance(bundle.encoder, encoder_digest, pack, work),
        ),
    )
    manifest, files = export.make_bundle(
        export.exported_of(bundle),
        pack.images[labels.index[: export.GOLDEN_IMAGES]],
        name=name,
        served_head=served,
        metrics={**bundle.manifest.metrics, **metrics},
        provenance=provenance(run, pack, seed),
    )
    Bundle.save(folder, manifest, files)
    seconds = time.monotonic() - start
    run.metrics(metrics)
    stage.finish({"metrics": metrics, "seconds": seconds})
    return HeadBundle(folder, out_of_fold, seconds, skipped=False)


def _image_digests(pack: Pack, labels: Labels) -> tuple[str, ...]:
    """Return what names each labelled image across runs and file names: its pixels."""
    return tuple(sha256(pack.images[row].tobytes()).hexdigest() for row in labels.index.tolist())


def _pool_variance(
    opened: Encoder, encoder_digest: str, pack: Pack, work: Path
) -> NDArray[np.float64]:
    """Return the variance of the unlabelled pool's latents, [D], kept for the next head."""
    stage = open_stage(work, "latents", {"encoder": encoder_digest, "pixels": pack.content_digest})
    found = stage.result()
    if found is None:
        rows = np.linspace(0, len(pack) - 1, min(POOL_IMAGES, len(pack))).astype(np.int64)
        latents = embed_rows(opened, pack.images, rows).mean
        found = {"variance": latents.var(0, dtype=np.float64).tolist()}
        stage.finish(found)
    return np.array(found["variance"])
