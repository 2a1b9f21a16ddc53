"""How well the exported graphs explain images that the training never saw, as metrics."""

import numpy as np
from numpy.typing import NDArray

from handful_training.binarise import is_binary
from handful_training.export import Exported, open_decoder, open_encoder
from handful_training.iwae import Estimate, bits_per_dimension, iwae_bounds
from handful_training.likelihood import HeldOutElbo, held_out_elbo

IWAE_SAMPLES = 64
IWAE_IMAGES = 200
IWAE_VALUES = 100_000_000  # values decoded at most: seconds, whatever the images' size


def measure(images: NDArray[np.uint8], exported: Exported) -> tuple[HeldOutElbo, dict[str, float]]:
    """Return the ELBO of `images`, and metrics for manifest and registry.

    `neg_elbo_nats` and its parts are means over all images; `neg_iwae_nats` is a tighter bound,
    on some of them, from `iwae_samples` latents each; `iwae_gain_nats` is what it gains over the
    ELBO of the same images. `is_log_likelihood` is 1 where both are upper bounds on -log p(x) of
    discrete images, and 0 where the images are grey and the likelihood is Bernoulli: then they
    are losses, to be compared with their like alone.

    Args:
        images: uint8 [N, H, W, C], N >= 1; binarised if the training was.
        exported: encoder and decoder.
    """
    shape = exported.spec.shape
    encoder, decoder = open_encoder(exported), open_decoder(exported)
    elbo = held_out_elbo(images, encoder, decoder)
    count = max(
        1, min(IWAE_IMAGES, len(images), IWAE_VALUES // (IWAE_SAMPLES * int(np.prod(shape))))
    )
    some = images[np.linspace(0, len(images) - 1, count).astype(np.int64)]
    bounds = iwae_bounds(some, encoder, decoder, (1, IWAE_SAMPLES))
    iwae = Estimate.of(-bounds[IWAE_SAMPLES])
    gain = (bounds[IWAE_SAMPLES] - bounds[1]).mean()
    is_likelihood = exported.likelihood == "discretised_logistic" or is_binary(images)
    metrics = {
        "neg_elbo_nats": elbo.neg_elbo,
        "neg_elbo_standard_error": elbo.standard_error,
        "distortion_nats": elbo.distortion,
        "rate_nats": elbo.rate,
        "bits_per_dimension": bits_per_dimension(elbo.neg_elbo, shape),
        "active_dimensions": len(elbo.active),
        "neg_iwae_nats": iwae.mean,
        "neg_iwae_standard_error": iwae.standard_error,
        "neg_iwae_bits_per_dimension": bits_per_dimension(iwae.mean, shape),
        "iwae_gain_nats": gain,
        "iwae_samples": IWAE_SAMPLES,
        "iwae_images": count,
        "is_log_likelihood": is_likelihood,
    }
    # With one image there is no standard error, and a manifest holds finite numbers only.
    return elbo, {key: float(value) for key, value in metrics.items() if not np.isnan(value)}
