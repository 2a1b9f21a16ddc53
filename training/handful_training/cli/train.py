"""The commands that train: run, pretrain, export."""

from dataclasses import replace

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
    adapt_of,
    choice_of,
    request_of,
    show,
)

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
    choice = choice_of(labels, labels_per_class, seed)
    wanted = adapt_of(adapt, choice)
    request = request_of(
        images, choice, name, time_budget, epochs, config, set_, train_seed, device, force
    )
    from handful_training.pipeline import run as pipeline  # noqa: PLC0415 - torch takes seconds

    show(pipeline.run(replace(request, adapt=wanted)), as_json=json_)


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
