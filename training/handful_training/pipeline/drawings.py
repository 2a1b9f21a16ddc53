"""Pictures of what a VAE has learnt, from its exported graphs."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handful_bundle.encoder import Encoder
from handful_training import plots
from handful_training.embedding import embed_rows
from handful_training.export import Exported, open_decoder, open_encoder
from handful_training.labels.labels import Labels
from handful_training.likelihood import HeldOutElbo
from handful_training.packs.pack import Pack

RECONSTRUCTED = 16
SAMPLED = 64
TRAVERSED = 10  # dimensions
TRAVERSAL = np.linspace(-3, 3, 11, dtype=np.float32)  # standard deviations of the prior
MAPPED = 2000  # images on the map


def draw_vae(
    images: NDArray[np.uint8], exported: Exported, elbo: HeldOutElbo, folder: Path
) -> None:
    """Draw reconstructions, samples, traversals and the KL of each dimension into `folder`.

    Args:
        images: [N, H, W, C], N >= 1, not trained on.
        exported: encoder and decoder.
        elbo: of those images; says which dimensions are active.
        folder: made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decoder = open_decoder(exported)
    some = images[:RECONSTRUCTED]
    mean = open_encoder(exported)(some).mean
    plots.reconstructions(some, decoder(mean).images, folder / "reconstructions.png")
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((SAMPLED, exported.latent_dim), np.float32)
    plots.samples(decoder(latent).images, folder / "samples.png")
    plots.kl_per_dimension(elbo.kl, folder / "kl_per_dimension.png")
    active = elbo.active[:TRAVERSED]
    if len(active):
        latents = np.tile(mean[0], (len(active), len(TRAVERSAL), 1))
        for row, dimension in enumerate(active.tolist()):
            latents[row, :, dimension] = TRAVERSAL
        shape = (len(active), len(TRAVERSAL), *exported.spec.shape)
        decoded = decoder(latents.reshape(-1, exported.latent_dim)).images.reshape(shape)
        plots.traversals(decoded, active, elbo.kl[active], folder / "traversals.png")


def draw_map(encoder: Encoder, pack: Pack, labels: Labels | None, path: Path) -> None:
    """Draw a 2-D map of up to `MAPPED` embeddings, labelled ones in colour.

    Labelled images come first, the rest is drawn evenly from the pool.
    """
    count = len(pack.images)
    labelled = labels.index[:MAPPED] if labels is not None else np.zeros(0, np.int64)
    rest = np.linspace(0, count - 1, min(count, MAPPED - len(labelled))).astype(np.int64)
    rows = np.union1d(labelled, rest)
    target = np.full(len(rows), -1)
    if labels is not None:
        known = dict(zip(labels.index.tolist(), labels.target.tolist(), strict=True))
        target = np.array([known.get(row, -1) for row in rows.tolist()])
    embedding = embed_rows(encoder, pack.images, rows).embedding
    plots.embedding_map(
        embedding, path, target=target, names=labels.names if labels is not None else None
    )
