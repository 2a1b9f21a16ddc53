"""The commands that take a model which exists: head, adapt, evaluate, embed, promote, rollback."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from handful_bundle.session import Device
from handful_training.baseline import PixelBaseline
from handful_training.config import Config
from handful_training.embedding import embed_parts
from handful_training.embedding_files import check_output, write_embeddings
from handful_training.labels.choice import LabelChoice
from handful_training.pipeline.adapt_plan import bounded
from handful_training.pipeline.adapt_stage import Order
from handful_training.pipeline.adaptation import adapt_and_judge, adapt_control
from handful_training.pipeline.evaluation import predict_given
from handful_training.pipeline.fetch import fetch
from handful_training.pipeline.finish import BASELINE, Ending, collect_plots, run_folder
from handful_training.pipeline.head_stage import Base
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.networks import find_network, log_network
from handful_training.pipeline.work import disk_errors, work_folder
from handful_training.pretrain import Budget
from handful_training.progress import progress
from handful_training.sources.store import shown
from handful_training.tracking import Tracker, Version, origin

_log = logging.getLogger(__name__)


def head(
    reference: str, images: str, choice: LabelChoice, config: Config, *, force: bool
) -> dict[str, Any]:
    """Fit a head for new labels on the encoder of `reference`, and register the pair."""
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, "cpu")
    spec = bundle.manifest.image
    inputs = read_inputs(images, work, choice=choice, spec=spec, minimum=1)
    with tracker.run(version.name, title="head", tags=origin()) as parent:
        parent.params({"encoder": f"{version.name}/{version.version}"})
        tracker.registry.used(version, parent)
        folder = run_folder(work, version.name, parent)
        base = Base(bundle, tracker.registry.seen(version), tracker.registry.refusal(version))
        return Ending(
            tracker, parent, base, inputs, config, folder,
            name=version.name, seed=choice.seed, force=force,
        ).reach()  # fmt: skip


@disk_errors()
def adapt(
    reference: str,
    images: str,
    choice: LabelChoice,
    config: Config,
    budget: Budget,
    *,
    train_seed: int,
    device: Device,
    force: bool,
    control: bool,
) -> dict[str, Any]:
    """Train the encoder of `reference` on for new labels, and register it with a head of its own.

    Settings that `config` does not name are those of the encoder's training. `control` does the
    same from a random start besides, for the report.
    """
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, "cpu")
    spec, space = bundle.manifest.image, bundle.manifest.space
    network = find_network(tracker, version, space, work)
    inputs = read_inputs(images, work, choice=choice, spec=spec)
    settings = network.settings(config)
    order = Order(
        version.name,
        settings,
        bounded(budget, len(inputs.pack.images), settings),
        label_seed=choice.seed,
        seed=train_seed,
        device=device,
        force=force,
    )
    frozen = Base(bundle, tracker.registry.seen(version))
    with tracker.run(version.name, title="adapt", tags=origin()) as parent:
        parent.params({"encoder": f"{version.name}/{version.version}"})
        tracker.registry.used(version, parent)
        folder = run_folder(work, version.name, parent)
        adaptation = adapt_and_judge(frozen, network.model, inputs, order, work, parent)
        base = adaptation.base
        collect_plots(adaptation.plots, folder)
        log_network(tracker, version.name, base.bundle.manifest.space, work, parent)
        random = adapt_control(spec, inputs, order, work, parent) if control else None
        ending = Ending(
            tracker, parent, base, inputs, order.config, folder,
            name=version.name, seed=choice.seed, force=force, control=random,
        )  # fmt: skip
        return adaptation.to_json() | ending.reach()


def evaluate(reference: str, images: str, choice: LabelChoice, *, device: Device) -> dict[str, Any]:
    """Score the head of `reference` on labelled images, beside the baseline of its own labels."""
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, device)
    spec = bundle.manifest.image
    inputs = read_inputs(images, work, choice=choice, spec=spec, minimum=1, min_classes=1)
    assert inputs.labels is not None
    predictions = predict_given(bundle, inputs.pack, inputs.labels, _baseline(tracker, version))
    evaluation = predictions.evaluate()
    with tracker.run(version.name, title="evaluate", tags=origin()) as run:
        folder = run_folder(work, version.name, run)
        predictions.draw(folder)
        run.params({"version": version.version})
        tracker.registry.used(version, run)
        run.dataset(
            f"{version.name}-evaluation",
            inputs.pack.content_digest,
            source=shown(images),
            context="evaluation",
            profile={"images": len(inputs.labels)},
        )
        run.metrics(evaluation.metrics())
        run.artifacts(folder, folder="plots")
    return {
        "name": version.name,
        "version": version.version,
        "folder": str(folder),
        **evaluation.to_json(),
    }


def embed(reference: str, images: str, output: Path, *, device: Device) -> dict[str, Any]:
    """Write the embeddings of all readable images to `output`."""
    check_output(output)
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, device)
    inputs = read_inputs(images, work, spec=bundle.manifest.image, minimum=1)
    pack, dim = inputs.pack, bundle.manifest.embedding_dim
    with progress(len(pack), desc="Embedding") as bar:

        def parts() -> Any:
            for part in embed_parts(bundle.encoder, pack.images):
                yield part.embedding
                bar.update(len(part.embedding))

        write_embeddings(output, pack.keys, parts(), dim)
    return {
        "name": version.name,
        "version": version.version,
        "space": bundle.manifest.space,
        "images": len(pack),
        "rejected": len(pack.rejected),
        "dim": dim,
        "output": str(output),
    }


def promote(name: str, version: str) -> dict[str, Any]:
    """Make a version the champion, without asking the gate."""
    Tracker.open(work=work_folder()).registry.promote(name, version)
    return {"name": name, "version": version, "promoted": True}


def rollback(name: str) -> dict[str, Any]:
    """Make the previous champion the champion again."""
    version = Tracker.open(work=work_folder()).registry.rollback(name)
    return {"name": name, "version": version, "promoted": True}


def _baseline(tracker: Tracker, version: Version) -> PixelBaseline | None:
    """Return the baseline that was fitted on the version's own labels, if it was kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = tracker.registry.fetch_run_file(version, f"baseline/{BASELINE}", Path(folder))
        if path is None:
            _log.warning("%s/%s was registered without a baseline", *version)
            return None
        return PixelBaseline.unpack(path.read_bytes())
