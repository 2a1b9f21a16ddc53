"""What the commands have in common: their options, what these mean, and how results are shown."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args, overload

import typer

from handful_bundle.session import Device
from handful_training.config import load_config
from handful_training.errors import InputError
from handful_training.labels.choice import LabelChoice

if TYPE_CHECKING:
    from handful_training.pipeline import run as pipeline

Images = Annotated[
    str,
    typer.Argument(
        help="A folder, a CSV or Parquet file with a `path` column, Parquet files of image bytes, "
        "tars, or the images of an idx pair; or a URL of any of these (s3://bucket/folder/)."
    ),
]
Reference = Annotated[
    str, typer.Argument(metavar="NAME", help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")
]
LABELS = (
    "FILE.csv (path,label), `folders`, a folder of class folders, a .json or .csv export of Label "
    "Studio, `column` or `column:NAME` of Parquet files or tars, or an idx labels file."
)
LabelsOption = Annotated[str | None, typer.Option("--labels", help=LABELS)]
PerClass = Annotated[
    int | None, typer.Option("--labels-per-class", min=1, help="Keep N labels of each class.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Draws those labels, nothing else.")]
NameOption = Annotated[str, typer.Option("--name", help="Name of the registered model.")]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        "--time-budget",
        help="Bounds all optimisation: 90s, 10m, 2h. Default 10m, for `adapt` 5m, unless "
        "--epochs is given.",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Bounds pretraining; with `adapt`, the adaptation."),
]
Adapt = Annotated[
    str,
    typer.Option(
        "--adapt",
        help="auto, yes or no: train the encoder on for the classes; kept if shown to be better.",
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="block.key=value, as in model.latent_dim=32.")
]
TrainSeed = Annotated[int, typer.Option("--train-seed", min=0, help="Seeds the training.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Do not skip stages that are unchanged.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def read_budget(
    time_budget: str | None, epochs: int | None, *, seconds: float = 600.0
) -> tuple[int | None, float | None]:
    """Return epochs and seconds; `seconds` where neither is given.

    Raises:
        InputError: the time is not like 90s, 10m or 2h.
    """
    if time_budget is None:
        return epochs, None if epochs is not None else seconds
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", time_budget.strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"--time-budget {time_budget}: write 90s, 10m or 2h")
    return epochs, seconds


def request_of(
    images: str,
    choice: LabelChoice | None,
    name: str,
    time_budget: str | None,
    epochs: int | None,
    config: Path | None,
    settings: list[str] | None,
    train_seed: int,
    device: str,
    force: bool,
) -> "pipeline.Request":
    """Return what a training command was asked for, its options checked."""
    checked = load_config(config, settings or ())
    limits = read_budget(time_budget, epochs)
    kind = device_of(device)
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds
    from handful_training.pretrain import Budget  # noqa: PLC0415 - the same

    budget = Budget(*limits)
    return pipeline.Request(name, images, checked, choice, budget, train_seed, kind, force)


@overload
def choice_of(labels: str, per_class: int | None, seed: int) -> LabelChoice: ...
@overload
def choice_of(labels: str | None, per_class: int | None, seed: int) -> LabelChoice | None: ...
def choice_of(labels: str | None, per_class: int | None, seed: int) -> LabelChoice | None:
    """Return which labels a command was given, None without `--labels`."""
    if labels is None:
        if per_class is not None:
            raise InputError("--labels-per-class needs --labels to choose from")
        return None
    return LabelChoice(labels, per_class, seed)


def device_of(name: str) -> Device:
    """Return the device that `--device` names."""
    if name not in get_args(Device):
        raise InputError(f"--device {name}: choose {', '.join(get_args(Device))}")
    return cast("Device", name)


def adapt_of(text: str, choice: LabelChoice | None) -> Literal["auto", "yes", "no"]:
    """Return what `--adapt` asks for."""
    if text not in ("auto", "yes", "no"):
        raise InputError(f"--adapt {text}: choose auto, yes, no")
    if text == "yes" and choice is None:
        raise InputError("--adapt yes: there is nothing to adapt to; add --labels")
    return cast("Literal['auto', 'yes', 'no']", text)


def show(result: dict[str, Any] | None, *, as_json: bool) -> None:
    """Print a command's result on stdout, as lines or as one JSON object.

    None, from a process that only trains along with another, is nothing to print.
    """
    if result is None:
        return
    if as_json:
        print(json.dumps(result))  # noqa: T201 - this is the command's output
        return
    for key, value in result.items():
        if key != "per_class":
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{key.replace('_', ' ')}: {shown}")  # noqa: T201 - this is the command's output
