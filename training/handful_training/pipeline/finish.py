"""How every training command ends: a head where there are labels, a version, the gate, a report."""

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful_bundle.bundle import Bundle
from handful_training.baseline import PixelBaseline
from handful_training.config import Config
from handful_training.pipeline.curve_stage import draw_curve
from handful_training.pipeline.evaluation import predict_unseen
from handful_training.pipeline.findings import find, keep
from handful_training.pipeline.head_stage import Base, HeadBundle, add_head
from handful_training.pipeline.inputs import Inputs
from handful_training.pipeline.work import disk_errors, work_folder
from handful_training.report.verdict import verdict
from handful_training.tracking import Run, Tracker, Version

BASELINE = "baseline.npz"

_log = logging.getLogger(__name__)


def run_folder(work: Path, name: str, run: Run) -> Path:
    """Make the folder that a run's plots go to."""
    folder = work / "runs" / f"{name}-{run.id[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def collect_plots(source: Path, folder: Path) -> None:
    """Copy a stage's plots to the run's folder."""
    for plot in sorted(source.glob("*.png")):
        shutil.copyfile(plot, folder / plot.name)


@dataclass(frozen=True)
class Ending:
    """What a command has come to when its encoder is there.

    Attributes:
        tracker: where the version is registered.
        run: of the command.
        base: the encoder.
        inputs: images, and labels if there are any.
        config: of the head.
        folder: that the run's plots go to.
        name: of the model.
        seed: decides folds and samples.
        force: fit the head also where it has been fitted.
        control: the same adaptation from a random start with a head of its own; None: there is
            none to compare with.
    """

    tracker: Tracker
    run: Run
    base: Base
    inputs: Inputs
    config: Config
    folder: Path
    name: str
    seed: int
    force: bool
    control: HeadBundle | None = None

    @disk_errors()
    def reach(self) -> dict[str, Any]:
        """Fit a head where there are labels, evaluate, register, and ask the gate.

        Returns:
            What the command says of it.
        """
        bundle, fitted, result = self.base.bundle, None, dict[str, Any]()
        if self.inputs.labels is not None:
            fitted, bundle, result = self._fit(len(self.inputs.labels))
        version, promoted, reason = self._register(bundle, fitted)
        # What takes longer comes when the version is live.
        if fitted is not None:
            result["next_labels"] = self._curve(bundle, fitted)
        report, sentence = self._report(bundle, fitted, version)
        return {
            "name": self.name,
            "version": version.version,
            "run_id": self.run.id,
            "promoted": promoted,
            "reason": reason,
            "bundle": str(bundle.root),
            "folder": str(self.folder),
            "report": str(report),
            "verdict": sentence,
            **result,
        }

    def _fit(self, labels: int) -> tuple[HeadBundle, Bundle, dict[str, Any]]:
        """Return the head, its bundle, and what is to be said of them."""
        assert self.inputs.labels is not None
        with self.run.child("head") as child:
            fitted = add_head(
                self.base, self.inputs.pack, self.inputs.labels, self.config.head, work_folder(),
                child, name=self.name, seed=self.seed, force=self.force,
            )  # fmt: skip
        bundle = Bundle.load(fitted.bundle, device="cpu", reuse=self.base.bundle)
        result = {
            "head_seconds": fitted.seconds,
            "labels": labels,
            "accuracy": None,
            "accuracy_ci": None,
            "baseline_pca_accuracy": None,
        }
        with self.run.child("evaluate") as child:
            return fitted, bundle, result | self._evaluate(bundle, fitted, child)

    def _evaluate(self, bundle: Bundle, fitted: HeadBundle, run: Run) -> dict[str, Any]:
        inputs = self.inputs
        assert inputs.labels is not None
        baseline = PixelBaseline.fit(
            inputs.pack.images, inputs.labels.index, inputs.labels.target, inputs.labels.names,
            seed=self.seed,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as temporary:  # for `handful-train evaluate`, anywhere
            path = Path(temporary) / BASELINE
            path.write_bytes(baseline.pack())
            self.run.artifacts(path, folder="baseline")
        predictions = predict_unseen(
            bundle, inputs.pack, inputs.labels, inputs.unused, fitted.out_of_fold, baseline,
            folds=self.config.head.folds, seed=self.seed,
        )  # fmt: skip
        if predictions is None:
            _log.warning(
                "a class has one label: nothing is left to measure accuracy on; give each class two"
            )
            return {}
        evaluation = predictions.evaluate()
        predictions.draw(self.folder)
        run.metrics(evaluation.metrics())
        return evaluation.to_json()

    def _register(self, bundle: Bundle, fitted: HeadBundle | None) -> tuple[Version, bool, str]:
        """Return the version, whether it is champion now, and why."""
        registry, root = self.tracker.registry, bundle.root
        number = registry.find(self.name, root)  # the same bundle is not registered twice
        if number is None:
            out_of_fold = None if fitted is None else fitted.out_of_fold
            number = registry.register(self.name, root, self.run, out_of_fold=out_of_fold)
        version = Version(self.name, number)
        if self.base.refusal is not None:
            registry.refuse(version, self.base.refusal)
        decision = registry.consider(self.name, number)
        said = "is champion" if decision.promoted else "is not promoted"
        _log.info("%s version %s %s: %s", self.name, number, said, decision.reason)
        return version, decision.promoted, decision.reason

    def _curve(self, bundle: Bundle, fitted: HeadBundle) -> dict[str, Any]:
        """Draw the learning curve; return what the next labels are expected to bring."""
        with self.run.child("curve") as child:
            curve = draw_curve(
                bundle, self.inputs, fitted.choice, self.config.head.class_prior, self.folder,
                work_folder(), child, adapted=bool(self.base.seen), seed=self.seed,
            )  # fmt: skip
        return {"sentence": curve["sentence"], **(curve["forecast"] or {})}

    def _report(
        self, bundle: Bundle, fitted: HeadBundle | None, version: Version
    ) -> tuple[Path, str]:
        """Write the report; return its place and what it says in one sentence."""
        findings, pictures = find(
            bundle,
            self.inputs,
            fitted,
            self.folder,
            work_folder(),
            config=self.config.head,
            frozen=self.base.before,
            control=self.control,
            seed=self.seed,
        )
        self.run.artifacts(self.folder, folder="plots")
        report = keep(self.run, version, bundle, findings, pictures, self.folder)
        return report, verdict(findings).sentence
