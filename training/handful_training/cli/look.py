"""The commands that show what a model has learnt: explore, clusters."""

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

MAX_CLUSTERS = 1_000

app = typer.Typer()

Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the page and the pictures.")
]
DrawSeed = Annotated[int, typer.Option("--seed", min=0, help="Seeds everything that is drawn.")]


@app.command()
def explore(
    name: Reference,
    images: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMAGES]", help="What to look at; the golden images of the bundle if left out."
        ),
    ] = None,
    labels: LabelsOption = None,
    output: Output = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option("--between", metavar="KEY KEY", help="Interpolate between two of IMAGES."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Interpolate between image files: give two or three."),
    ] = None,
    seed: DrawSeed = 0,
    device: DeviceOption = "auto",
    json_: Json = False,
) -> None:
    """Show what the decoder has learnt, as one HTML page and PNG files."""
    choice = choice_of(labels, None, 0)
    kind = device_of(device)
    from handful_training.pipeline import explore as pipeline  # noqa: PLC0415 - keeps --help quick

    ends = pipeline.Ends(between or (), tuple(image or ()))
    show(
        pipeline.explore(name, images, choice, ends, output=output, seed=seed, device=kind),
        as_json=json_,
    )


@app.command()
def clusters(
    name: Reference,
    images: Images,
    k: Annotated[
        str, typer.Option("-k", "--clusters", metavar="K", help="How many; auto: by silhouette.")
    ] = "auto",
    labels: LabelsOption = None,
    output: Output = None,
    seed: DrawSeed = 0,
    device: DeviceOption = "auto",
    json_: Json = False,
) -> None:
    """Group the images without labels, and say how well that matches labels where there are any."""
    number = _number_of(k)
    choice = choice_of(labels, None, 0)
    kind = device_of(device)
    from handful_training.pipeline import clusters as pipeline  # noqa: PLC0415 - as above

    show(
        pipeline.clusters(name, images, number, choice, output=output, seed=seed, device=kind),
        as_json=json_,
    )


def _number_of(k: str) -> int | None:
    if k == "auto":
        return None
    if not (k.isascii() and k.isdigit() and 2 <= int(k) <= MAX_CLUSTERS):
        raise InputError(f"-k {k}: give auto, or a number from 2 to {MAX_CLUSTERS:,}")
    return int(k)
