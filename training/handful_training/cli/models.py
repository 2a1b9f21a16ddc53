"""The commands that take a model which exists: head, adapt, evaluate, embed, promote, rollback."""

from pathlib import Path
from typing import Annotated

import typer

from handful_training.cli.options import (
    LABELS,
    ConfigFile,
    DeviceOption,
    Epochs,
    Force,
    Images,
    Json,
    PerClass,
    Reference,
    Seed,
    Settings,
    TimeBudget,
    TrainSeed,
    choice_of,
    device_of,
    read_budget,
    show,
)
from handful_training.config import load_config

app = typer.Typer()


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
    choice = choice_of(labels, labels_per_class, seed)
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    show(commands.head(name, images, choice, settings, force=force), as_json=json_)


@app.command()
def adapt(
    name: Reference,
    images: Images,
    labels: Annotated[str, typer.Option("--labels", help=LABELS)],
    labels_per_class: PerClass = None,
    seed: Seed = 0,
    time_budget: TimeBudget = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    set_: Settings = None,
    train_seed: TrainSeed = 0,
    device: DeviceOption = "auto",
    force: Force = False,
    control: Annotated[
        bool,
        typer.Option(
            "--control",
            help="Do the same from a random start, as long again: the report compares them.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Train an encoder on for the classes of the labels: minutes, 5 unless told otherwise."""
    settings = load_config(config, set_ or ())
    choice = choice_of(labels, labels_per_class, seed)
    limits = read_budget(time_budget, epochs, seconds=300.0)
    kind = device_of(device)
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick
    from handful_training.pretrain import Budget  # noqa: PLC0415 - torch takes seconds

    budget = Budget(*limits)
    found = commands.adapt(
        name, images, choice, settings, budget,
        train_seed=train_seed, device=kind, force=force, control=control,
    )  # fmt: skip
    show(found, as_json=json_)


@app.command()
def evaluate(
    name: Reference,
    images: Annotated[str, typer.Option("--images", help="To score; as IMAGES of other commands.")],
    labels: Annotated[str, typer.Option("--labels", help=LABELS)],
    device: DeviceOption = "auto",
    json_: Json = False,
) -> None:
    """Score a version on labelled images that it was not fitted on."""
    choice = choice_of(labels, None, 0)
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    show(commands.evaluate(name, images, choice, device=device_of(device)), as_json=json_)


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

    show(commands.embed(name, images, output, device=device_of(device)), as_json=json_)


@app.command()
def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its version.")],
    json_: Json = False,
) -> None:
    """Make a version the champion, whatever the gate said."""
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    show(commands.promote(name, version), as_json=json_)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    json_: Json = False,
) -> None:
    """Make the previous champion the champion again."""
    from handful_training.pipeline import commands  # noqa: PLC0415 - keeps --help quick

    show(commands.rollback(name), as_json=json_)
