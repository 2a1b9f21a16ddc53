"""The decoder: latent → image and p(x|z), and the two terms of the ELBO outside torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handful_bundle import batches
from handful_bundle.graph import FLOAT, UINT8, Port, check_graph
from handful_bundle.manifest import ImageSpec, Likelihood
from handful_bundle.runner import Runner
from handful_bundle.session import Device

FILE = "decoder.onnx"

PARAMETERS: dict[Likelihood, int] = {"bernoulli": 1, "discretised_logistic": 2}
"""Parameters of p(x|z) per channel, by family."""


class Decoding(NamedTuple):
    """N decoded latents."""

    images: NDArray[np.uint8]  # [N, H, W, C], the mean of p(x|z)
    likelihood: NDArray[np.float32]  # [N, H, W, P], its parameters


class Decoder:
    """Decodes latents. Thread-safe."""

    def __init__(
        self,
        runner: Runner,
        spec: ImageSpec,
        latent_dim: int,
        likelihood: Likelihood,
    ) -> None:
        self._runner = runner
        self.spec = spec
        self.latent_dim = latent_dim
        self.likelihood = likelihood

    @classmethod
    def open(
        cls,
        model: bytes,
        spec: ImageSpec,
        latent_dim: int,
        likelihood: Likelihood,
        device: Device = "auto",
        threads: int | None = None,
        gpu_memory_bytes: int | None = None,
    ) -> "Decoder":
        """Check the graph in `model` and open it.

        Raises:
            BundleCorrupt: the graph does not have the contract's inputs, outputs and operators.
            DeviceUnavailable: `device` does not run here.
        """
        parameters = PARAMETERS[likelihood] * spec.channels
        check_graph(
            model,
            FILE,
            {"latent": Port(FLOAT, (latent_dim,))},
            {
                "images": Port(UINT8, spec.shape),
                "likelihood": Port(FLOAT, (spec.height, spec.width, parameters)),
            },
        )
        runner = Runner.open(model, device, threads, gpu_memory_bytes)
        return cls(runner, spec, latent_dim, likelihood)

    def __call__(self, latent: NDArray[np.float32]) -> Decoding:
        """Decode `latent`, float32 [N, D], N >= 0.

        Raises:
            ValueError: another shape or type.
        """
        if latent.dtype != np.float32 or latent.shape[1:] != (self.latent_dim,):
            raise ValueError(
                f"latents are {latent.dtype} {list(latent.shape)}, "
                f"expected float32 [N, {self.latent_dim}]"
            )
        images, likelihood = self._runner([latent], Decoding._fields)
        return Decoding(images.astype(np.uint8, copy=False), likelihood)

    def warm_up(self, rows: int = batches.BUCKETS[-1]) -> None:
        """Run every batch size up to `rows` once, so that no request pays for the first."""
        self._runner.warm_up(rows)


def distortion(
    images: NDArray[np.uint8], likelihood: NDArray[np.float32], family: Likelihood
) -> NDArray[np.float64]:
    """Return -log p(x|z) of `images` in nats, [N], summed over pixels and channels.

    Bernoulli: the cross entropy at intensity x/255 (Kingma & Welling 2014, arXiv:1312.6114,
    appendix C.1); a likelihood in the strict sense only for binary images.
    Discretised logistic: the mass of the bin of width 1/255 around x, its tails in the outermost
    bins (Salimans et al. 2017, arXiv:1701.05517, section 2.1).

    Args:
        images: [N, H, W, C].
        likelihood: [N, H, W, P]. Bernoulli: P = C logits. Discretised logistic: P = 2C, the means
            in units of full intensity, then the log scales.
        family: which of the two.
    """
    x = images.astype(np.float64) / 255
    parameters = likelihood.astype(np.float64)
    if family == "bernoulli":
        loss = np.logaddexp(0, parameters) - x * parameters
    else:
        mean, log_scale = np.split(parameters, 2, axis=-1)
        upper = np.where(images == 255, np.inf, (x - mean + 0.5 / 255) * np.exp(-log_scale))
        lower = np.where(images == 0, -np.inf, (x - mean - 0.5 / 255) * np.exp(-log_scale))
        loss = -_log_sigmoid_difference(upper, lower)
    total: NDArray[np.float64] = loss.sum(axis=(1, 2, 3))
    return total


def rate(mean: NDArray[np.float32], log_variance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return KL(q(z|x) || N(0, I)) in nats, [N]: Kingma & Welling 2014, appendix B."""
    m, v = mean.astype(np.float64), log_variance.astype(np.float64)
    kl: NDArray[np.float64] = 0.5 * (np.square(m) + np.exp(v) - v - 1).sum(axis=1)
    return kl


def _log_sigmoid_difference(
    upper: NDArray[np.float64], lower: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log(sigmoid(upper) - sigmoid(lower)) for upper > lower, without cancellation.

    sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)).
    """
    return np.asarray(
        -np.logaddexp(0, -upper) - np.logaddexp(0, lower) + np.log(-np.expm1(lower - upper))
    )
