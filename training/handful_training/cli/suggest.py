"""The command that says what to label next."""

from pathlib import Path
from typing import Annotated

import typer

from handful_training.cli.options import (
    DeviceOption,
    Images,
    Json,
    LabelsOption,
    Reference,
    choice_of,
    device_of,
    show,
)
from handful_training.errors import InputError

app = typer.Typer()


@app.command()
def suggest(
    name: Reference,
    images: Images,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, help="How many images, at most.")
    ] = 20,
    labels: LabelsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The CSV file to fill in, .html beside it. If it is the file that --labels names, "
            "what is filled in there stays.",
        ),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Draw at random, to measure accuracy honestly.")
    ] = False,
    doubts: Annotated[
        bool, typer.Option("--doubts", help="Labels that may be wrong, instead of new images.")
    ] = False,
    except_: Annotated[
        list[Path] | None,
        typer.Option("--except", help="A CSV file of images not to suggest: an audit, open tasks."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seeds everything drawn.")] = 0,
    device: DeviceOption = "auto",
    json_: Json = False,
) -> None:
    """Say which images to label next, as a CSV file to fill in and a contact sheet."""
    choice = choice_of(labels, None, 0)
    kind = device_of(device)
    if audit and doubts:
        raise InputError("--audit and --doubts are two questions; ask one at a time")
    from handful_training.pipeline import suggest as pipeline  # noqa: PLC0415 - keeps --help quick

    purpose: pipeline.Purpose = "audit" if audit else "doubts" if doubts else "label"
    wish = pipeline.Wish(count, purpose, tuple(except_ or ()), output, seed)
    show(pipeline.suggest(name, images, choice, wish, device=kind), as_json=json_)
