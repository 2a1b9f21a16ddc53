"""The torch network behind an encoder: kept where it was made, and with the run in MLflow.

A bundle holds ONNX files, which cannot be trained on. The network lies in the work folder under
the space of its encoder; elsewhere it comes from the run that brought the encoder into the model.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from handful_bundle.manifest import ImageSpec
from handful_training.atomic_file import write_whole
from handful_training.checkpoint import load_checkpoint, save_checkpoint
from handful_training.config import Config
from handful_training.errors import TrainingError
from handful_training.model import Vae
from handful_training.tracking import Run, Tracker, Version

FORMAT = 1
FOLDER, FILE = "network", "network.pt"


@dataclass(frozen=True)
class Network:
    """A fitted network, and the settings that it was fitted with."""

    model: Vae  # on the CPU, in evaluation mode
    config: Config

    def settings(self, given: Config) -> Config:
        """Return the network's own settings with those that were `given` explicitly on top.

        What made the network what it is, its sizes and its objective, stays. A preset that is given
        starts from nothing: the network's own settings hold a value for every transform.
        """
        changed = {
            name: getattr(self.config, name).model_copy(
                update=getattr(given, name).model_dump(exclude_unset=True)
            )
            for name in ("augment", "optimiser", "adapt", "head")
        }
        if "preset" in given.augment.model_fields_set:
            changed["augment"] = given.augment
        return self.config.model_copy(update=changed)


def keep_network(work: Path, space: str, model: Vae, config: Config) -> None:
    """Keep the network of the encoder of `space` in the work folder.

    Raises:
        TrainingError: it cannot be written.
    """
    path = _place(work, space)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "format": FORMAT,
        "spec": model.spec.model_dump(mode="json"),
        "config": config.model_dump_json(),
        "weights": model.state_dict(),
    }
    save_checkpoint(path, state)


def log_network(tracker: Tracker, name: str, space: str, work: Path, run: Run) -> None:
    """Log the kept network with `run`, unless the run that brought the encoder into `name` did.

    Raises:
        TrainingError: MLflow failed.
    """
    if tracker.registry.encoder_run(name, space) is not None:
        return
    with tempfile.TemporaryDirectory() as folder:  # there it goes by a name that can be guessed
        copy = Path(shutil.copyfile(_place(work, space), Path(folder) / FILE))
        run.artifacts(copy, folder=FOLDER)


def find_network(tracker: Tracker, version: Version, space: str, work: Path) -> Network:
    """Return the network behind a version whose encoder has `space`.

    Raises:
        TrainingError: it is neither here nor in MLflow, or was written by another release.
    """
    path = _place(work, space)
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            fetched = tracker.registry.fetch_run_file(
                version, f"{FOLDER}/{FILE}", Path(folder), of_encoder=True
            )
            if fetched is None:
                raise TrainingError(
                    f"the network of {version.name}/{version.version} is neither in {work} nor "
                    "with its run in MLflow, and ONNX files cannot be trained on; set "
                    "HANDFUL_WORK to the folder that it was trained in, or train it again by "
                    "`handful-train run`"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, fetched.read_bytes())
    return _read(path)


def _read(path: Path) -> Network:
    state: dict[str, Any] = load_checkpoint(path)
    try:
        if state["format"] != FORMAT:
            raise ValueError(state["format"])  # noqa: TRY301 - told with the others
        config = Config.model_validate_json(state["config"])
        spec = ImageSpec.model_validate(state["spec"])
        model = Vae(spec, config.model, config.objective.projection_dim)
        model.load_state_dict(state["weights"])
    except (KeyError, ValueError, RuntimeError, ValidationError) as error:
        raise TrainingError(
            f"{path} was written by another release and cannot be trained on; train it again by "
            "`handful-train run`"
        ) from error
    return Network(model.eval(), config)


def _place(work: Path, space: str) -> Path:
    return work / "networks" / f"{space.removeprefix('sha256:')[:32]}.pt"
