"""What a decoder can show, as views of a page. Knows no files."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_bundle.decoder import Decoder
from handful_training.explore import words
from handful_training.explore.path import path
from handful_training.explore.plane import Plane
from handful_training.explore.pool import Pool
from handful_training.likelihood import ACTIVE_NATS
from handful_training.pages.view import Strip, View

SHOWN = 12  # images whose reconstructions are shown
TRAVERSED = 12  # dimensions
TRAVERSAL = np.linspace(-3, 3, 11, dtype=np.float32)  # standard deviations of the prior
PER_CLASS = 8
MAX_CLASSES = 40
SAMPLED = (5, 14)  # rows and columns of draws from the prior
LIKELIHOOD_BYTES = 64 * 2**20  # of float32 parameters, at most six a pixel, at once
STEPS = 9  # of an interpolation, ends included


@dataclass(frozen=True, eq=False)
class End:
    """An image that an interpolation starts or ends at."""

    name: str
    image: NDArray[np.uint8]  # [H, W, C]
    mean: NDArray[np.float32]  # of q(z|x), [D]


def reconstructions(pool: Pool, decoder: Decoder, seed: int) -> View:
    """Show images above what is left of them after encoding and decoding."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(pool), min(SHOWN, len(pool)), replace=False))
    keys = [pool.keys[row] for row in rows.tolist()]
    return View(
        "reconstructions",
        "Images and their reconstructions",
        "each image, and below it decode(posterior mean)",
        words.RECONSTRUCTIONS.format(dimensions=decoder.latent_dim),
        (
            Strip("image", pool.images[rows], alt=keys),
            Strip(
                "rebuilt",
                decode(decoder, pool.mean[rows]),
                alt=[f"{key}, rebuilt" for key in keys],
            ),
        ),
    )


def traversals(pool: Pool, decoder: Decoder) -> View | None:
    """Show what single latent dimensions do; None where none is active."""
    order = np.argsort(-pool.kl, kind="stable")
    active = order[pool.kl[order] > ACTIVE_NATS]
    if not len(active):
        return None
    shown = active[:TRAVERSED]
    start = pool.typical
    latents = np.tile(pool.mean[start], (len(shown), len(TRAVERSAL), 1))
    for row, dimension in enumerate(shown.tolist()):
        latents[row, :, dimension] = TRAVERSAL
    images = decode(decoder, latents)
    heads = tuple(map(_signed, TRAVERSAL))
    return View(
        "traversals",
        "What single latent dimensions do",
        "one dimension varied per row, in standard deviations of the prior; others held fixed",
        words.TRAVERSALS.format(
            start=pool.keys[start],
            active=len(active),
            dimensions=len(pool.kl),
            threshold=ACTIVE_NATS,
        ),
        tuple(
            Strip(
                f"z{dimension}",
                images[row],
                f"{pool.kl[dimension]:.2f} nats",
                [f"z{dimension} at {head}" for head in heads],
            )
            for row, dimension in enumerate(shown.tolist())
        ),
        heads,
    )


def class_samples(pool: Pool, bundle: Bundle, decoder: Decoder, seed: int) -> View | None:
    """Show draws from each class beside images of it; None where nothing is known of classes."""
    labels, classes = bundle.manifest.labels, bundle.classes
    if labels is None or classes is None:
        return None
    rng = np.random.default_rng(seed)
    kind = "labelled" if pool.known_by == "labels" else "classified as it"
    rows: list[Strip] = []
    for k, label in enumerate(labels[:MAX_CLASSES]):
        noise = rng.standard_normal((PER_CLASS, decoder.latent_dim))
        latents = classes.mean[k] + np.sqrt(classes.variance[k]) * noise
        drawn = decode(decoder, latents.astype(np.float32))
        count = int(classes.count[k])
        rows.append(Strip(label, drawn, f"drawn; {count} label{'s' * (count != 1)}"))
        members = np.flatnonzero(pool.target == k)
        members = rng.choice(members, min(PER_CLASS, len(members)), replace=False)
        if len(members):
            alt = [pool.keys[row] for row in members.tolist()]
            rows.append(Strip(label, pool.images[members], f"images {kind}", alt))
    real = words.BY_LABELS if pool.known_by == "labels" else words.BY_HEAD
    if len(labels) > MAX_CLASSES:
        real += f" {len(labels) - MAX_CLASSES} more classes are not shown."
    return View(
        "class_samples",
        "Samples by class",
        "decode(z), z drawn from the mean and variance of each class's labelled latents",
        words.CLASS_SAMPLES.format(real=real),
        tuple(rows),
    )


def prior_samples(decoder: Decoder, seed: int) -> View:
    """Show draws from the prior."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((*SAMPLED, decoder.latent_dim), np.float32)
    return View(
        "samples",
        "Samples from the prior",
        "decode(z), z drawn from the prior N(0, I)",
        words.SAMPLES,
        tuple(Strip("", row) for row in decode(decoder, latents)),
        sheet=True,
        alt=f"{SAMPLED[0] * SAMPLED[1]} images that the model drew by itself",
    )


def interpolations(ends: list[tuple[End, End]], decoder: Decoder) -> View:
    """Show the way through latent space between pairs of images."""
    heads = ("image", *(f"{t:.0%}" for t in np.linspace(0, 1, STEPS)), "image")
    rows = []
    for first, second in ends:
        way = decode(decoder, path(first.mean, second.mean, STEPS))
        images = np.concatenate([first.image[None], way, second.image[None]])
        between = [f"{head} of the way" for head in heads[1:-1]]
        rows.append(
            Strip(first.name, images, f"to {second.name}", [first.name, *between, second.name])
        )
    return View(
        "interpolations",
        "From one image to another",
        "image, its reconstruction, the way to the other's reconstruction, the other image",
        words.INTERPOLATIONS,
        tuple(rows),
        heads,
    )


def plane_view(plane: Plane, decoder: Decoder, corners: tuple[str, ...] = ()) -> View:
    """Show what lies on a plane through latent space."""
    images = decode(decoder, plane.grid)
    if plane.share is None:
        a, b, c = corners
        title = "The plane through three images"
        caption = "decode(a + u (b − a) + v (c − a)); u to the right, v downwards"
        text = words.PLANE_OF_THREE.format(a=a, b=b, c=c)
    else:
        title = "A plane through latent space"
        caption = "decode(latents) on the plane of the first two principal components"
        text = words.PRINCIPAL_PLANE.format(first=plane.share[0], second=plane.share[1])
    return View(
        "plane",
        title,
        caption,
        text,
        tuple(Strip(_signed(v), row) for v, row in zip(plane.down, images, strict=True)),
        tuple(map(_signed, plane.across)),
        sheet=True,
        alt=f"a grid of {images.shape[0]} by {images.shape[1]} decoded thumbnails",
    )


def pairs(pool: Pool, seed: int, count: int = 4) -> list[tuple[End, End]]:
    """Draw pairs of images to interpolate between, of different classes where these are known."""
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    found: list[tuple[End, End]] = []
    while len(order) >= 2 and len(found) < count:
        first = order.pop()
        other = (i for i in order if pool.target[i] != pool.target[first])
        second = next(other, order[0])
        order.remove(second)
        found.append((_end(pool, first), _end(pool, second)))
    return found


def chain(ends: list[End]) -> list[tuple[End, End]]:
    """Return the pairs to interpolate between of images that the user chose: each two of three."""
    return list(pairwise([*ends, ends[0]] if len(ends) == 3 else ends))


def _end(pool: Pool, row: int) -> End:
    return End(pool.keys[row], pool.images[row], pool.mean[row])


def decode(decoder: Decoder, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return images [..., H, W, C] of latents [..., D], keeping no more of p(x|z) than need be."""
    flat = latents.reshape(-1, latents.shape[-1])
    size = max(1, LIKELIHOOD_BYTES // (24 * math.prod(decoder.spec.shape[:2])))
    parts = [decoder(flat[i : i + size]).images for i in range(0, len(flat), size)]
    return np.concatenate(parts).reshape(*latents.shape[:-1], *decoder.spec.shape)


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-6 else f"{value:+.3g}".replace("-", "−")
