"""How well novelty tells images of another kind: AUROC, and on how many the service abstains.

The encoder is that of `accuracy`, 5 minutes on Fashion-MNIST's training images, or the one in a
bundle that is named (--bundle, --colour-bundle). Novelty is fitted on the same images by the code
that `handful-train` runs; no label plays a part. "Usual" are test
images, which neither saw. Each row ranks images in one way, the last one by the ELBO, which is the
control that novelty must beat. With colour images of your own (named with --colour and
--colour-test) these are a further case for Fashion-MNIST, and get a table with Fashion-MNIST, in
colour, as one of their cases.

make bench ARGS="novelty --colour train.tar --colour-test test.tar"
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench_accuracy import command
from handful_train import fashion
from novelty_cases import cases
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from handful_bundle.bundle import Bundle
from handful_bundle.decoder import distortion, rate
from handful_training.embedding import embed_rows
from handful_training.novelty.detector import normalised
from handful_training.novelty.fit import Distortions, fit_novelty, spread_rows
from handful_training.pipeline.inputs import read_inputs

REBUILT = 4000
USUAL = 4000
REFERENCES = 2000
RATES = (0.01, 0.05)


def main(arguments: Sequence[str] = ()) -> None:
    """Train unless `accuracy` has, and print a table per data set."""
    parser = argparse.ArgumentParser(prog="novelty", description=__doc__)
    parser.add_argument("--budget", default="5m", help="of training; by default that of `accuracy`")
    parser.add_argument("--colour", help="colour images to train on, as IMAGES of handful-train")
    parser.add_argument("--colour-test", help="colour images to measure, likewise")
    parser.add_argument("--bundle", type=Path, help="an encoder that exists, not trained here")
    parser.add_argument("--colour-bundle", type=Path, help="likewise, for the colour images")
    options = parser.parse_args(arguments)
    data = fashion()
    others = {"colour images, grey": options.colour_test} if options.colour_test else {}
    print("Fashion-MNIST\n")
    root = options.bundle or _trained(data.train, options.budget)
    measure(root, data.train, data.test, others)
    if not (options.colour and options.colour_test):
        print("\nColour is left out: name images with --colour and --colour-test.")
        return
    print("\nColour images\n")
    root = options.colour_bundle or _trained(options.colour, options.budget)
    measure(root, options.colour, options.colour_test, {"Fashion-MNIST": data.test})


def _trained(images: str, budget: str) -> Path:
    return Path(command("export", images, "--time-budget", budget)["bundle"])


def measure(root: Path, train: str, test: str, others: dict[str, str]) -> None:
    """Print a table: a row per way to rank images, a column per kind of unusual image.

    Args:
        root: of the bundle whose encoder it is.
        train: the pool, as IMAGES of handful-train.
        test: usual images.
        others: unusual ones, by what to call them.
    """
    bundle = Bundle.load(root, device="cpu")
    pool, usual = _images(train, bundle, None), _images(test, bundle, USUAL)
    looked_at = spread_rows(len(pool), bundle.manifest.embedding_dim)
    embedding = embed_rows(bundle.encoder, pool, looked_at).embedding
    rows = np.linspace(0, len(looked_at) - 1, min(REBUILT, len(looked_at))).astype(np.int64)
    distortions, _ = _elbo(bundle, np.array(pool[looked_at[rows]]))
    fitted = fit_novelty(embedding, Distortions(rows, distortions))
    plain = fit_novelty(embedding)
    assert fitted.detector is not None
    assert plain.detector is not None
    references = normalised(embedding[:: 1 + len(embedding) // REFERENCES].astype(np.float64))

    def ways(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        found = embed_rows(bundle.encoder, images).embedding
        said = fitted.detector.witnesses(found)
        unit = normalised(found.astype(np.float64))
        lost, kl = _elbo(bundle, images)
        return {
            "**served**: the most surprising of the next three": fitted.detector.surprise(found),
            "distance, L2-normalised": said[:, 0],
            "distance": said[:, 1],
            # Left out of what is served where the embedding does not tell it.
            "distortion from the embedding, either way": np.abs(said[:, 2:3]).sum(axis=1),
            "served, where there is no decoder": plain.detector.surprise(found),
            f"nearest of {len(references):,} references": -(unit @ references.T).max(axis=1),
            "distortion by the decoder": lost,
            "control: −ELBO": lost + kl,
        }

    unusual = {name: _images(place, bundle, USUAL) for name, place in others.items()}
    unusual |= cases(usual[: USUAL // 2])
    normal = ways(usual)
    found = {name: ways(images) for name, images in unusual.items()}
    print(f"{len(embedding):,} images looked at, {len(usual):,} usual ones; AUROC.\n")
    print(f"| | {' | '.join(unusual)} |")
    print("|---" * (len(unusual) + 1) + "|")
    for way, low in normal.items():
        aurocs = [f"{_auroc(low, scores[way]):.3f}" for scores in found.values()]
        print(f"| {way} | {' | '.join(aurocs)} |", flush=True)
    _abstained(embedding, Distortions(rows, distortions), bundle, {"usual": usual, **unusual})


def _abstained(
    embedding: NDArray[np.float32],
    known: Distortions,
    bundle: Bundle,
    images: dict[str, NDArray[np.uint8]],
) -> None:
    """Print the share of each kind of image that is above the threshold, by stated rate."""
    print(f"\n| abstained at a stated rate of | {' | '.join(images)} |")
    print("|---" * (len(images) + 1) + "|")
    for stated in RATES:
        fitted = fit_novelty(embedding, known, false_alarm_rate=stated)
        assert fitted.detector is not None
        assert fitted.info.threshold is not None
        novelty = [
            fitted.detector(embed_rows(bundle.encoder, some).embedding) for some in images.values()
        ]
        shares = [f"{(some > fitted.info.threshold).mean():.1%}" for some in novelty]
        print(f"| {stated:.0%} | {' | '.join(shares)} |", flush=True)


def _images(place: str, bundle: Bundle, count: int | None) -> NDArray[np.uint8]:
    """Return images as the encoder takes them, evenly spread; all where `count` is None."""
    pixels = read_inputs(
        place, command.work.absolute(), spec=bundle.manifest.image, minimum=1
    ).pack.images
    if count is None or count >= len(pixels):
        return pixels
    return np.array(pixels[np.linspace(0, len(pixels) - 1, count).astype(np.int64)])


def _elbo(
    bundle: Bundle, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return distortion and rate of images at the mean of q(z|x), [n] nats each."""
    assert bundle.decoder is not None
    nats, kl = [], []
    for start in range(0, len(images), 256):
        part = np.array(images[start : start + 256])
        encoding = bundle.encoder(part)
        likelihood = bundle.decoder(encoding.mean).likelihood
        nats.append(distortion(part, likelihood, bundle.decoder.likelihood))
        kl.append(rate(encoding.mean, encoding.log_variance))
    return np.concatenate(nats), np.concatenate(kl)


def _auroc(usual: NDArray[np.float64], unusual: NDArray[np.float64]) -> float:
    truth = np.repeat([0, 1], [len(usual), len(unusual)])
    return float(roc_auc_score(truth, np.concatenate([usual, unusual])))
