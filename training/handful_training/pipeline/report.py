"""The command that makes the report of a version: what its run stored, or measured anew."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from handful_bundle.bundle import Bundle
from handful_training.config import HeadConfig
from handful_training.errors import InputError
from handful_training.labels.choice import LabelChoice
from handful_training.pages.write import check_file, write_file
from handful_training.pipeline.fetch import fetch
from handful_training.pipeline.findings import find, keep
from handful_training.pipeline.finish import run_folder
from handful_training.pipeline.head_stage import Base, add_head
from handful_training.pipeline.inputs import read_inputs
from handful_training.pipeline.work import work_folder
from handful_training.report.findings import FOLDER, NUMBERS, PICTURES, Findings, Pictures, load
from handful_training.report.page import report_page
from handful_training.report.verdict import verdict
from handful_training.tracking import Tracker, Version, origin


def report(
    reference: str, images: str | None, choice: LabelChoice | None, *, output: Path | None
) -> dict[str, Any]:
    """Write the report of a version: what its run stored, or anew from the images that are named.

    Args:
        reference: of the version.
        images: what IMAGES names; None: what the run stored.
        choice: labels of those images.
        output: the file; None: one in the work folder.

    Raises:
        InputError: the run stored no report, or images and labels do not fit the version.
    """
    if images is None and choice is not None:
        raise InputError("--labels speaks of images; name them with --images")
    check_file(output)
    work = work_folder()
    tracker = Tracker.open(work=work)
    version, bundle = fetch(tracker, reference, work, "cpu")
    if images is None:
        findings, pictures = _stored(tracker, version)
    else:
        findings, pictures = _anew(tracker, version, bundle, images, choice, work)
    path = output or _place(work, version)
    write_file(report_page(*version, bundle.manifest, findings, pictures), path)
    found = verdict(findings)
    return {
        "name": version.name,
        "version": version.version,
        "report": str(path),
        "answer": found.answer,
        "verdict": found.sentence,
        **findings.model_dump(mode="json", include={"ladder", "sets", "novelty", "curve"}),
    }


def _place(work: Path, version: Version) -> Path:
    folder = work / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{version.name}-{version.version}.html"


def _stored(tracker: Tracker, version: Version) -> tuple[Findings, Pictures]:
    with TemporaryDirectory() as temporary:
        paths = [
            tracker.registry.fetch_run_file(version, f"{FOLDER}/{file}", Path(temporary))
            for file in (NUMBERS, PICTURES)
        ]
        if paths[0] is None or paths[1] is None:
            raise InputError(
                f"{version.name}/{version.version} was registered without a report; name the "
                f"images and labels to make it: `handful-train report {version.name}/"
                f"{version.version} --images IMAGES --labels ...`"
            )
        return load(paths[0], paths[1])


def _anew(
    tracker: Tracker,
    version: Version,
    bundle: Bundle,
    images: str,
    choice: LabelChoice | None,
    work: Path,
) -> tuple[Findings, Pictures]:
    """Measure the encoder of `version` on other images and labels; nothing is registered."""
    inputs = read_inputs(images, work, choice=choice, spec=bundle.manifest.image, minimum=2)
    seed, config = choice.seed if choice else 0, HeadConfig()
    with tracker.run(version.name, title="report", tags=origin()) as run:
        run.params({"version": version.version})
        tracker.registry.used(version, run)
        fitted = None
        if inputs.labels is not None:
            with run.child("head") as child:
                base = Base(bundle, tracker.registry.seen(version))
                fitted = add_head(
                    base, inputs.pack, inputs.labels, config, work, child,
                    name=version.name, seed=seed, force=False,
                )  # fmt: skip
            bundle = Bundle.load(fitted.bundle, device="cpu", reuse=bundle)
        folder = run_folder(work, version.name, run)
        findings, pictures = find(
            bundle, inputs, fitted, folder, work, config=config, seed=seed,
        )  # fmt: skip
        keep(run, version, bundle, findings, pictures, folder)
    return findings, pictures
