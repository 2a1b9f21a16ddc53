"""`handful-train`: the commands, their options, and what becomes of errors.

stdout carries results only; with `--json`, one JSON object as its last line and nothing else.
Exit status: 0 success, 1 failure, 2 bad usage or input, with one line on stderr for the remedy.
"""

import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, overload

import typer

from handful_bundle.errors import HandfulError
from handful_bundle.session import Device
from handful_training.config import load_config
from handful_training.errors import InputError
from handful_training.labels.choice import LabelChoice

if TYPE_CHECKING:
    from handful_training.pipeline import run as pipeline

app = typer.Typer(
    name="handful-train",
    help="Turn unlabelled images and a handful of labels into a registered classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Images = Annotated[
    Path, typer.Argument(help="A folder, a CSV with a `path` column, or the images of an idx pair.")
]
Reference = Annotated[
    str, typer.Argument(metavar="NAME", help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")
]
LABELS = "FILE.csv (path,label), `folders`, a folder of class folders, or an idx labels file."
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
        help="Bounds all optimisation: 90s, 10m, 2h. Default 10m, unless --epochs is given.",
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Bounds pretraining.")]
Adapt = Annotated[
    str, typer.Option("--adapt", help="auto, yes or no: train the encoder on after the head.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="block.key=value, as in model.latent_dim=32.")
]
TrainSeed = Annotated[int, typer.Option("--train-seed", min=0, help="Seeds the training.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Do not skip stages that are unchanged.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def main() -> None:
    """Run the command line and exit with its status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatter in (
        "lightning_fabric",
        "mlflow",
        "alembic",
        "torch",
        "matplotlib",
        "onnxscript",
        "onnx_ir",
    ):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    try:
        app()
    except InputError as error:
        sys.exit(_say(error, 2))
    except HandfulError as error:
        sys.exit(_say(error, 1))
    except KeyboardInterrupt:
        sys.exit(_say(HandfulError("interrupted; start it again to go on"), 130))


@app.command()
def run(
    images: Images,
    labels: LabelsOption = None,
    labels_per_class: PerClass = None,
    seed: Seed = 0,
    name: NameOption = "handful",
    time_budget: TimeBudget = None,
    epochs: Epochs = None,
    adapt: Adapt = "auto",
    config: ConfigFile = None,
    set_: Settings = None,
    train_seed: TrainSeed = 0,
    device: DeviceOption = "auto",
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train, fit a head, evaluate, register. Unchanged stages are skipped."""
    if adapt not in ("auto", "no"):
        raise InputError(
            f"--adapt {adapt}: this release trains no encoder on after the head; "
            "leave the option out or use --adapt no"
        )
    choice = _choice(labels, labels_per_class, seed)
    request = _request(
        images, choice, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    _print(pipeline.run(request), as_json=json_)


@app.command()
def pretrain(
    images: Images,
    name: NameOption = "handful",
    time_budget: TimeBudget = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    set_: Settings = None,
    train_seed: TrainSeed = 0,
    device: DeviceOption = "auto",
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train the VAE alone; `export` and `run` with the same options go on from there."""
    request = _request(
        images, None, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    _print(pipeline.pretrain(request), as_json=json_)


@app.command()
def export(
    images: Images,
    name: NameOption = "handful",
    time_budget: TimeBudget = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    set_: Settings = None,
    train_seed: TrainSeed = 0,
    device: DeviceOption = "auto",
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train the VAE unless that is done, and register it without a head."""
    request = _request(
        images, None, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    _print(pipeline.run(request), as_json=json_)


@app.command()
def head(
    name: Reference,
    images: Images,
    labels: Annotated[str, typer.Option("--labels", help=LABELS)],
    labels_per_class: PerClass = None,
    seed: Seed = 0,
    config: ConfigFile = None,
    set_: Settings = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Fit a new head on an encoder that is trained already: seconds."""
    settings = load_config(config, set_ or ())
    choice = _choice(labels, labels_per_class, seed)
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    _print(commands.head(name, images, choice, settings, force=force), as_json=json_)


@app.command()
def evaluate(
    name: Reference,
    images: Annotated[Path, typer.Option("--images", help="What IMAGES may be elsewhere.")],
    labels: Annotated[str, typer.Option("--labels", help=LABELS)],
    device: DeviceOption = "auto",
    json_: Json = False,
) -> None:
    """Score a version on labelled images that it was not fitted on."""
    choice = _choice(labels, None, 0)
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    _print(commands.evaluate(name, images, choice, device=_device(device)), as_json=json_)


@app.command()
def embed(
    name: Reference,
    images: Images,
    output: Annotated[Path, typer.Option("-o", "--output", help="OUT.npy, .parquet or .csv.")],
    device: DeviceOption = "auto",
    json_: Json = False,
) -> None:
    """Write the embedding of every image to a file."""
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    _print(commands.embed(name, images, output, device=_device(device)), as_json=json_)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its version.")],
    json_: Json = False,
) -> None:
    """Make a version the champion, whatever the gate said."""
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    _print(commands.promote(name, version), as_json=json_)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    json_: Json = False,
) -> None:
    """Make the previous champion the champion again."""
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    _print(commands.rollback(name), as_json=json_)


def read_budget(time_budget: str | None, epochs: int | None) -> tuple[int | None, float | None]:
    """Return epochs and seconds; 10 minutes where neither is given.

    Raises:
        InputError: the time is not like 90s, 10m or 2h.
    """
    if time_budget is None:
        return epochs, None if epochs is not None else 600.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", time_budget.strip())
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"--time-budget {time_budget}: write 90s, 10m or 2h")
    return epochs, seconds


def _request(
    images: Path,
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
    checked = load_config(config, settings or ())
    limits = read_budget(time_budget, epochs)
    kind = _device(device)
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds
    from handful_training.pretrain import Budget  # noqa: PLC0415 - the same

    budget = Budget(*limits)
    return pipeline.Request(name, images, checked, choice, budget, train_seed, kind, force)


@overload
def _choice(labels: str, per_class: int | None, seed: int) -> LabelChoice: ...
@overload
def _choice(labels: str | None, per_class: int | None, seed: int) -> LabelChoice | None: ...
def _choice(labels: str | None, per_class: int | None, seed: int) -> LabelChoice | None:
    if labels is None:
        if per_class is not None:
            raise InputError("--labels-per-class needs --labels to choose from")
        return None
    return LabelChoice(labels, per_class, seed)


def _device(name: str) -> Device:
    if name not in get_args(Device):
        raise InputError(f"--device {name}: choose {', '.join(get_args(Device))}")
    return cast("Device", name)


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))  # noqa: T201 - this is the command's output
        return
    for key, value in result.items():
        if key != "per_class":
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{key.replace('_', ' ')}: {shown}")  # noqa: T201 - this is the command's output


def _say(error: Exception, status: int) -> int:
    print(f"handful-train: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - stderr
    return status


if __name__ == "__main__":
    main()
