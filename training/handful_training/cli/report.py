"""The command that says whether the VAE is worth it: report."""

from pathlib import Path
from typing import Annotated

import typer

from handful_training.cli.options import (
    Json,
    LabelsOption,
    PerClass,
    Reference,
    Seed,
    choice_of,
    show,
)

app = typer.Typer()


@app.command()
def report(
    name: Reference,
    images: Annotated[
        str | None,
        typer.Option("--images", help="Measure anew on these, given as IMAGES of other commands."),
    ] = None,
    labels: LabelsOption = None,
    labels_per_class: PerClass = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The HTML file to write.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write one HTML page: is the VAE worth it on these images, and how far may one trust it."""
    choice = choice_of(labels, labels_per_class, seed)
    from handful_training.pipeline import report as pipeline  # noqa: PLC0415 - keeps --help quick

    show(pipeline.report(name, images, choice, output=output), as_json=json_)
