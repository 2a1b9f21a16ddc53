"""The commands that train: run, pretrain, export."""

import typer

from handful_training.cli.options import (
    Adapt,
    ConfigFile,
    DeviceOption,
    Epochs,
    Force,
    Images,
    Json,
    LabelsOption,
    NameOption,
    PerClass,
    Seed,
    Settings,
    TimeBudget,
    TrainSeed,
    choice_of,
    request_of,
    show,
)
from handful_training.errors import InputError

app = typer.Typer()


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
    choice = choice_of(labels, labels_per_class, seed)
    request = request_of(
        images, choice, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    show(pipeline.run(request), as_json=json_)


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
    request = request_of(
        images, None, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    show(pipeline.pretrain(request), as_json=json_)


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
    request = request_of(
        images, None, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    show(pipeline.run(request), as_json=json_)
