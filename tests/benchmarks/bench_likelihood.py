"""log p(x) of test images: what the objective's settings cost and gain, by the IWAE bound.

Fashion-MNIST, dynamically binarised in training and once (seed 0) for the test; colour images
(CIFAR-10) as they are, if they are named. Everything is trained by `handful-train export`, which
finds a training again that was done before: rows may be measured one by one.

make bench ARGS="likelihood --minutes 5 --rows plain,invariance,free-bits"
make bench ARGS="likelihood --rows colour --colour train.tar --colour-test test.tar"
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from handful_train import HandfulTrain, fashion
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_training.binarise import binarise
from handful_training.iwae import Estimate, bits_per_dimension, iwae_bounds
from handful_training.likelihood import held_out_elbo
from handful_training.pipeline.inputs import read_inputs

command = HandfulTrain(Path("handful-work/bench/likelihood"))
PLAIN = "objective.invariance_weight=0"
GREY_ROWS: dict[str, tuple[str, ...]] = {
    "plain": (PLAIN,),
    "invariance": (),  # the default objective
    "free-bits": (PLAIN, "objective.free_bits=0.05"),
    "beta-half": (PLAIN, "objective.beta=0.5"),
    "beta-two": (PLAIN, "objective.beta=2"),
}
COLOUR_ROWS: dict[str, tuple[str, ...]] = {
    "colour-plain": (PLAIN,),
    "colour-invariance": (),
}
DEFAULT_ROWS = ("plain", "invariance", "free-bits", *COLOUR_ROWS)
LATENT_DIM = 64


class Task(NamedTuple):
    """What one table is about."""

    train: str  # IMAGES
    test: str  # IMAGES
    count: int  # test images that are measured
    samples: tuple[int, ...]  # k of the IWAE bounds
    settings: tuple[str, ...]
    binarised: bool


def main(arguments: Sequence[str] = ()) -> None:
    """Train and measure the rows that are asked for, and print a table for grey and for colour."""
    parser = argparse.ArgumentParser(description=__doc__)
    rows = (*GREY_ROWS, *COLOUR_ROWS)
    parser.add_argument("--minutes", type=float, default=5, help="of training, per row")
    parser.add_argument("--rows", default=",".join(DEFAULT_ROWS), help=f"of {', '.join(rows)}")
    parser.add_argument("--images", type=int, help="test images; else 1,000 grey, 500 colour")
    parser.add_argument("--colour", help="colour images to train on, as IMAGES of handful-train")
    parser.add_argument("--colour-test", help="colour images to measure, likewise")
    options = parser.parse_args(arguments)
    chosen = options.rows.split(",")
    if unknown := set(chosen) - set(rows):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    seconds = round(60 * options.minutes)
    if grey := {name: GREY_ROWS[name] for name in chosen if name in GREY_ROWS}:
        data = fashion()
        task = Task(
            data.train,
            data.test,
            options.images or 1000,
            (5, 50, 500),
            ("objective.binarise=true",),
            binarised=True,
        )
        print("Fashion-MNIST, each pixel drawn from Bernoulli(x/255): nats per image.\n")
        _table(task, grey, seconds)
    if colour := {name: COLOUR_ROWS[name] for name in chosen if name in COLOUR_ROWS}:
        if not (options.colour and options.colour_test):
            print("\nColour is left out: name images with --colour and --colour-test.")
            return
        task = Task(
            options.colour, options.colour_test, options.images or 500, (50,), (), binarised=False
        )
        print("\nColour, discretised logistic over the 256 values: bits per dimension.\n")
        _table(task, colour, seconds)


def _table(task: Task, rows: dict[str, tuple[str, ...]], seconds: int) -> None:
    """Print the protocol, and a row as soon as it is measured."""
    for number, (name, settings) in enumerate(rows.items()):
        bundle, epochs = _trained(task, settings, seconds)
        images = _test_images(task, bundle)
        if number == 0:
            print(
                f"{seconds} s of training per row, latent {LATENT_DIM}; {len(images)} test images, "
                f"evenly spread{', binarised once (seed 0)' if task.binarised else ''}; bounds by "
                f"{max(task.samples)} latents per image from q(z|x); ± one standard error over "
                f"images.\n"
            )
            bounds = " | ".join(f"−IWAE_{k}" for k in task.samples)
            print(f"| row | settings | epochs | −ELBO | {bounds} | active dimensions |")
            print("|---" * (len(task.samples) + 5) + "|")
        measured = _measured(task, bundle, images)
        print(f"| {name} | {_said(settings)} | {epochs} | {measured} |", flush=True)


def _measured(task: Task, bundle: Bundle, images: NDArray[np.uint8]) -> str:
    """Return the cells of a row: -ELBO, the bounds, active dimensions."""
    assert bundle.decoder is not None
    shape = bundle.manifest.image.shape
    elbo = held_out_elbo(images, bundle.encoder, bundle.decoder)
    bounds = iwae_bounds(images, bundle.encoder, bundle.decoder, task.samples)
    estimates = [Estimate(elbo.neg_elbo, elbo.standard_error)]
    estimates += [Estimate.of(-bound) for bound in bounds.values()]
    if task.binarised:
        cells = [f"{mean:.2f} ± {error:.2f}" for mean, error in estimates]
    else:
        bits = [[bits_per_dimension(value, shape) for value in pair] for pair in estimates]
        cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in bits]
    return " | ".join([*cells, f"{len(elbo.active)} of {len(elbo.kl)}"])


def _test_images(task: Task, bundle: Bundle) -> NDArray[np.uint8]:
    inputs = read_inputs(task.test, command.work.absolute(), spec=bundle.manifest.image, minimum=1)
    pixels = inputs.pack.images
    rows = np.linspace(0, len(pixels) - 1, min(task.count, len(pixels))).astype(np.int64)
    images = np.array(pixels[rows])
    return binarise(images, 0) if task.binarised else images


def _said(settings: tuple[str, ...]) -> str:
    return ", ".join(setting.removeprefix("objective.") for setting in settings) or "default"


def _trained(task: Task, settings: tuple[str, ...], seconds: int) -> tuple[Bundle, int]:
    """Train with the real commands, or find that training again; returns the epochs it took."""
    fixed = (f"model.latent_dim={LATENT_DIM}", *task.settings, *settings)
    arguments = (
        task.train, "--time-budget", f"{seconds}s", *(f"--set={setting}" for setting in fixed),
    )  # fmt: skip
    folder = Path(command("pretrain", *arguments)["folder"])
    history = json.loads((folder / "done.json").read_bytes())["history"]
    bundle = command("export", *arguments)["bundle"]  # goes on from there
    return Bundle.load(Path(bundle), device="cpu"), len(history)
