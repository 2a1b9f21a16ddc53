"""Fit a head on the embeddings of a bundle's own encoder, and put both into a new bundle."""

import logging
import shutil
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_bundle import encoder
from handful_bundle.bundle import Bundle
from handful_bundle.encoder import Encoder
from handful_training import export
from handful_training.config import HeadConfig
from handful_training.embedding import embed_rows
from handful_training.gate import OutOfFold
from handful_training.graph import agreement, learners, poisson, prior, solve, spreading
from handful_training.head import (
    calibration,
    choice,
    classes,
    conformal,
    crossing,
    fit,
    lda,
    linear,
    logistic,
    nearest_mean,
    nodes,
    onnx_graph,
    selection,
    stacking,
    student,
    teacher,
    teaching,
)
from handful_training.head.choice import in_words
from handful_training.head.classes import class_statistics
from handful_training.head.conformal import fit_conformal
from handful_training.head.fit import FittedHead, fit_head, head_info
from handful_training.image_keys import image_keys
from handful_training.labels.labels import Labels
from handful_training.packs.pack import Pack
from handful_training.pipeline import novelty_stage
from handful_training.pipeline.export_stage import provenance
from handful_training.pipeline.novelty_stage import open_novelty
from handful_training.pipeline.pool_stage import open_pool
from handful_training.pipeline.work import Stage, code_digest, open_stage
from handful_training.tracking import Run

_MODULES = (  # that a head's outcome depends on
    agreement, calibration, choice, classes, conformal, crossing, export, fit, lda, learners,
    linear, logistic, nearest_mean, nodes, onnx_graph, poisson, prior, selection, solve, spreading,
    stacking, student, teacher, teaching, *novelty_stage.MODULES,
)  # fmt: skip
POOL_IMAGES = 10_000  # enough for a variance
_BUNDLE, _OUT_OF_FOLD = "bundle", "out_of_fold.npz"  # in the stage's folder

_log = logging.getLogger(__name__)


class Base(NamedTuple):
    """What a head is put on.

    Attributes:
        bundle: whose encoder it is; a head that it has is replaced.
        seen: keys of images whose labels the encoder itself was adapted to: no prediction of
            theirs is honest, so they neither choose nor calibrate the head, nor speak for it at
            the gate.
        refusal: why the gate may not promote a version with this encoder; None: it may.
        before: of the encoder that this one was adapted from, for comparison; None: of none.
    """

    bundle: Bundle
    seen: tuple[str, ...] = ()
    refusal: str | None = None
    before: Bundle | None = None


@dataclass(frozen=True)
class HeadBundle:
    """A bundle with a head, and what its labelled images say of it."""

    bundle: Path
    out_of_fold: OutOfFold | None  # None: a class has one label
    seconds: float
    skipped: bool
    choice: dict[str, Any]  # which head it is, and what it stood against


def add_head(
    base: Base,
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
    """Fit a head for `labels`, rows of `pack`, on the encoder of `base`."""
    bundle, seen = base.bundle, base.seen
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
            "seen": sorted(seen),
            "audit": sha256(labels.audit.tobytes()).hexdigest(),
            "code": code_digest(*_MODULES),
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
    if (known := _known(stage, run)) is not None:
        return known

    start = time.monotonic()
    folder, predictions = stage.folder / _BUNDLE, stage.folder / _OUT_OF_FOLD
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted fit
    predictions.unlink(missing_ok=True)
    pool = open_pool(bundle, pack, work)
    encoding = embed_rows(bundle.encoder, pack.images, labels.index)
    keys = image_keys(pack.images, labels.index)
    unseen = ~np.isin(keys, seen)
    fitted = fit_head(
        encoding.embedding,
        labels.target,
        labels.names,
        config,
        pool=pool,
        positions=pool.positions(labels.index),
        judges=unseen if seen else None,
        seed=seed,
    )
    _log.info("%s", in_words(fitted.choice))
    run.params({"head_choice": fitted.choice})
    out_of_fold, sets = None, fit_conformal(None, labels.target)
    if fitted.out_of_fold is not None:
        assert fitted.repeats is not None
        out_of_fold = OutOfFold(keys, fitted.out_of_fold, labels.target, labels.names).without(seen)
        predictions.write_bytes(out_of_fold.pack())
        sets = fit_conformal(
            fitted.repeats[:, unseen], labels.target[unseen], audit=labels.audit[unseen]
        )
    novelty = open_novelty(
        bundle, pack, pool.rows, pool.embedding, work,
        false_alarm_rate=config.novelty_false_alarm_rate,
    )  # fmt: skip
    if novelty.part is not None:
        fitted = fitted.with_part(novelty.part)
    served = export.ServedHead(
        fitted.onnx,
        labels.names,
        head_info(fitted, labels.digest).model_copy(
            update={"conformal": sets, "novelty": novelty.info}
        ),
        class_statistics(
            encoding.mean,
            labels.target,
            len(labels.names),
            pool_variance=_pool_variance(bundle.encoder, encoder_digest, pack, work),
        ),
    )
    metrics = _metrics(fitted, out_of_fold, len(labels))
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
    stage.finish({"metrics": metrics, "seconds": seconds, "choice": fitted.choice})
    return HeadBundle(folder, out_of_fold, seconds, skipped=False, choice=fitted.choice)


def _known(stage: Stage, run: Run) -> HeadBundle | None:
    """Return the head that an earlier command fitted at `stage`, told to `run`; None: none did."""
    found = stage.result()
    if found is None:
        return None
    run.tags({"handful.skipped": "true"})
    run.metrics(found["metrics"])
    run.params({"head_choice": found["choice"]})
    _log.info("%s", in_words(found["choice"]))
    predictions = stage.folder / _OUT_OF_FOLD
    stored = OutOfFold.unpack(predictions.read_bytes()) if predictions.exists() else None
    return HeadBundle(
        stage.folder / _BUNDLE, stored, found["seconds"], skipped=True, choice=found["choice"]
    )


def _metrics(fitted: FittedHead, out_of_fold: OutOfFold | None, labels: int) -> dict[str, float]:
    """Return what is tracked of a head."""
    metrics = {"temperature": fitted.temperature, "labels": float(labels)}
    if fitted.C is not None:
        metrics["C"] = fitted.C
    for name in ("student_agreement", "second_round_changed"):
        if name in fitted.choice:
            metrics[name] = fitted.choice[name]
    if fitted.cv_log_loss is not None:
        metrics["out_of_fold_log_loss"] = fitted.cv_log_loss
    if out_of_fold is not None and len(out_of_fold.keys):
        right = out_of_fold.probabilities.argmax(1) == out_of_fold.target
        metrics["out_of_fold_accuracy"] = float(right.mean())
    return metrics


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
