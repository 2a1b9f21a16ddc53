"""The ELBO of images that the training never saw, computed from the exported graphs alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handful_bundle.decoder import Decoder, distortion, rate
from handful_bundle.encoder import Encoder
from handful_training.iwae import Estimate

ACTIVE_NATS = 0.01
_ROWS = 256  # decoded at once: 256 x 256 x 256 x 6 float32 would be 400 MB


@dataclass(frozen=True)
class HeldOutElbo:
    """Means over images, in nats per image, from one sample z ~ q(z|x) each."""

    neg_elbo: float  # distortion + rate, an upper bound on -log p(x) in expectation
    standard_error: float  # of neg_elbo, over images; nan for a single one
    distortion: float
    rate: float
    kl: NDArray[np.float64]  # per latent dimension, [D]; sums to the rate
    images: int

    @property
    def active(self) -> NDArray[np.int64]:
        """Latent dimensions that carry information, the most informative first.

        The others have collapsed: for them q(z|x) is the prior whatever the image, hence no KL.
        Burda et al. 2016 (arXiv:1509.00519, section 5) judge by the variance of the mean instead,
        which calls a dimension active whose noise drowns it.
        """
        order = np.argsort(-self.kl, kind="stable")
        return order[self.kl[order] > ACTIVE_NATS]


def held_out_elbo(
    images: NDArray[np.uint8], encoder: Encoder, decoder: Decoder, *, seed: int = 0
) -> HeldOutElbo:
    """Estimate the ELBO of `images` (Kingma & Welling 2014, arXiv:1312.6114, eq. 3).

    A bound on the log probability of discrete images where the likelihood is the discretised
    logistic, or the images are binary. With the Bernoulli likelihood on grey images it is the
    loss that training minimises, good for comparing like with like, and no likelihood of anything:
    train with `objective.binarise` for one. Tighter bounds: `handful_training.iwae`.

    Args:
        images: uint8 [N, H, W, C], N >= 1, not trained on.
        encoder: exported.
        decoder: exported with it.
        seed: of the latents' noise.
    """
    rng = np.random.default_rng(seed)
    distortions, rates, kls = [], [], []
    for start in range(0, len(images), _ROWS):
        batch = np.asarray(images[start : start + _ROWS])
        encoding = encoder(batch)
        noise = rng.standard_normal(encoding.mean.shape, np.float32)
        latent = encoding.mean + np.exp(0.5 * encoding.log_variance) * noise
        decoded = decoder(latent)
        distortions.append(distortion(batch, decoded.likelihood, decoder.likelihood))
        rates.append(rate(encoding.mean, encoding.log_variance))
        mean, log_variance = (part.astype(np.float64) for part in encoding[1:])
        kls.append(0.5 * (np.square(mean) + np.exp(log_variance) - log_variance - 1))
    d, r = np.concatenate(distortions), np.concatenate(rates)
    return HeldOutElbo(
        neg_elbo=float(d.mean()) + float(r.mean()),
        standard_error=Estimate.of(d + r).standard_error,
        distortion=float(d.mean()),
        rate=float(r.mean()),
        kl=np.concatenate(kls).mean(0),
        images=len(images),
    )
