"""IWAE bounds of tiny graphs whose log p(x) is known: exactly, or by quadrature."""

import itertools
import tracemalloc

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from handful_bundle.decoder import PARAMETERS, Decoder
from handful_bundle.encoder import Encoder
from handful_bundle.manifest import ImageSpec
from handful_training import iwae
from handful_training.iwae import Estimate, bits_per_dimension, iwae_bounds, log_mean_exp
from handful_training.likelihood import held_out_elbo

SPEC = ImageSpec(height=2, width=2, channels=1)
PIXELS = 4
WEIGHT = np.array([[1.5, -1.0, 0.5, 2.0]])  # logits = z WEIGHT + BIAS, D = 1
BIAS = np.array([0.3, -0.2, 0.0, -0.5])
SLOPE, LOG_VARIANCE = 0.4, -0.5  # of a posterior that is near the true one, but not it
REPEATS = 400


def graph(nodes: list, inputs: list, outputs: list, weights: dict[str, NDArray]) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def port(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *shape])


def open_encoder(slope: float, log_variance: float, spec: ImageSpec = SPEC) -> Encoder:
    """q(z|x) = N(slope x (number of white pixels - half of all), exp(log_variance)), D = 1."""
    pixels = int(np.prod(spec.shape))
    ones = np.ones((pixels, 1), np.float32)
    weights = {
        "scale": np.float32(1 / 255),
        "W": slope * ones,
        "b": np.float32([-slope * pixels / 2]),
        "zero": 0 * ones,
        "v": np.float32([log_variance]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Flatten", ["unit"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "W", "b"], ["mean"]),
        helper.make_node("Gemm", ["embedding", "zero", "v"], ["log_variance"]),
    ]
    outputs = [
        port("embedding", TensorProto.FLOAT, pixels),
        port("mean", TensorProto.FLOAT, 1),
        port("log_variance", TensorProto.FLOAT, 1),
    ]
    model = graph(nodes, [port("images", TensorProto.UINT8, *spec.shape)], outputs, weights)
    return Encoder.open(model, spec, pixels, 1, "cpu", 1)


def open_decoder(
    weight: NDArray, bias: NDArray, family: str = "bernoulli", spec: ImageSpec = SPEC
) -> Decoder:
    """The parameters of p(x|z) are z x weight + bias; its images, which no bound uses, black."""
    parameters = (spec.height, spec.width, PARAMETERS[family] * spec.channels)
    weights = {
        "W": weight.astype(np.float32),
        "b": bias.astype(np.float32),
        "black": np.zeros((1, int(np.prod(spec.shape))), np.float32),
        "shape": np.array([-1, *parameters], np.int64),
        "size": np.array([-1, *spec.shape], np.int64),
    }
    nodes = [
        helper.make_node("Gemm", ["latent", "W", "b"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["likelihood"]),
        helper.make_node("MatMul", ["latent", "black"], ["dark"]),
        helper.make_node("Reshape", ["dark", "size"], ["picture"]),
        helper.make_node("Cast", ["picture"], ["images"], to=TensorProto.UINT8),
    ]
    outputs = [
        port("images", TensorProto.UINT8, *spec.shape),
        port("likelihood", TensorProto.FLOAT, *parameters),
    ]
    model = graph(nodes, [port("latent", TensorProto.FLOAT, 1)], outputs, weights)
    return Decoder.open(model, spec, 1, family, "cpu", 1)


def all_images() -> NDArray[np.uint8]:
    """Return every binary image of four pixels, [16, 2, 2, 1]."""
    bits = np.array(list(itertools.product((0, 255), repeat=PIXELS)), np.uint8)
    return bits.reshape(-1, *SPEC.shape)


def log_likelihood(images: NDArray[np.uint8], z: NDArray) -> NDArray:
    """Return log p(x|z) of every image at every z, [N, Z]."""
    x = images.reshape(len(images), 1, PIXELS) / 255
    logits = z[:, None] * WEIGHT + BIAS
    return (x * logits - np.log1p(np.exp(logits))).sum(-1)


def quadrature(images: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
    """Return log p(x) and the ELBO of every image, by Gauss and Hermite to machine precision."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    evidence = np.log(np.exp(log_likelihood(images, nodes)) @ weights)
    mean = SLOPE * (images.reshape(len(images), -1) / 255 - 0.5).sum(1)
    deviation = np.exp(0.5 * LOG_VARIANCE)
    expected = [
        (log_likelihood(images[i : i + 1], m + deviation * nodes) @ weights)[0]
        for i, m in enumerate(mean)
    ]
    kl = 0.5 * (mean**2 + np.exp(LOG_VARIANCE) - LOG_VARIANCE - 1)
    return evidence, np.array(expected) - kl


@pytest.fixture(scope="module")
def graphs() -> tuple[Encoder, Decoder]:
    return open_encoder(SLOPE, LOG_VARIANCE), open_decoder(WEIGHT, BIAS)


def repeated(graphs: tuple[Encoder, Decoder], k: int, seed: int) -> NDArray:
    """Return independent estimates of L_k of all 16 images, [REPEATS, 16]."""
    images = np.tile(all_images(), (REPEATS, 1, 1, 1))
    return iwae_bounds(images, *graphs, (k,), seed=seed)[k].reshape(REPEATS, 16)


def standard_error(values: NDArray) -> NDArray:
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("family", ["bernoulli", "discretised_logistic"])
def test_a_latent_that_says_nothing_leaves_the_log_probability_itself(family: str) -> None:
    """Where p(x|z) ignores z and q is the prior, L_k is log p(x) for every k and every draw."""
    images = all_images()
    if family == "bernoulli":
        bias = BIAS
        x = images.reshape(-1, PIXELS) / 255
        expected = (x * BIAS - np.log1p(np.exp(BIAS))).sum(1)
    else:
        bias = np.tile([0.4, -1.0], PIXELS)  # mean and log scale of each pixel
        black, nearly_white = (
            1 / (1 + np.exp(-(edge - 0.4) * np.e)) for edge in (0.5 / 255, 254.5 / 255)
        )
        white = (images.reshape(-1, PIXELS) == 255).sum(1)
        expected = white * np.log(1 - nearly_white) + (PIXELS - white) * np.log(black)
    decoder = open_decoder(np.zeros((1, len(bias))), bias, family)
    found = iwae_bounds(images, open_encoder(0.0, 0.0), decoder, (1, 3, 20))
    for bound in found.values():
        np.testing.assert_allclose(bound, expected, rtol=1e-5)


def test_a_single_sample_estimates_the_elbo(graphs: tuple[Encoder, Decoder]) -> None:
    """E[L_1] is the ELBO with the closed-form KL, though log p(z) - log q(z|x) is sampled."""
    _, elbo = quadrature(all_images())
    found = repeated(graphs, 1, seed=1)
    assert (np.abs(found.mean(0) - elbo) < 5 * standard_error(found)).all()
    sampled = held_out_elbo(np.tile(all_images(), (REPEATS, 1, 1, 1)), *graphs, seed=2)
    assert abs(sampled.neg_elbo + elbo.mean()) < 5 * sampled.standard_error


def test_the_bound_rises_with_k_and_stays_below_log_p(graphs: tuple[Encoder, Decoder]) -> None:
    """Over independent draws, mean L_1 < L_3 < L_10 by more than noise, and none is above log p."""
    evidence, _ = quadrature(all_images())
    draws = {k: repeated(graphs, k, seed=10 + k).mean(axis=1) for k in (1, 3, 10)}
    for less, more in itertools.pairwise(draws.values()):
        noise = np.hypot(standard_error(less), standard_error(more))
        assert more.mean() - less.mean() > 4 * noise
    for bound in draws.values():
        assert bound.mean() < evidence.mean() + 4 * standard_error(bound)
    assert draws[1].mean() < evidence.mean() - 10 * standard_error(draws[1])


def test_many_samples_meet_the_log_probability(graphs: tuple[Encoder, Decoder]) -> None:
    """At k = 5,000, L_k is log p(x) by quadrature, for each image, to its own spread."""
    images = all_images()
    evidence, elbo = quadrature(images)
    found = iwae_bounds(images, *graphs, (5000,), seed=3)[5000]
    np.testing.assert_allclose(found, evidence, atol=0.04)
    assert (evidence - elbo).max() > 0.2  # the ELBO itself would not pass
    assert np.exp(found).sum() == pytest.approx(1, abs=0.02)  # and all images together are certain


def test_weights_average_to_the_probability(graphs: tuple[Encoder, Decoder]) -> None:
    """exp of the estimate is an unbiased estimate of p(x), for k = 1 as for k = 4."""
    evidence, _ = quadrature(all_images())
    for k in (1, 4):
        weights = np.exp(repeated(graphs, k, seed=20 + k))
        error = np.abs(weights.mean(0) - np.exp(evidence))
        assert (error < 5 * standard_error(weights)).all()


def test_nested_samples_rise_for_every_image(graphs: tuple[Encoder, Decoder]) -> None:
    """From one set of latents, L_1 <= L_5 <= L_50 for each image, by Jensen, whatever the seed."""
    for seed in range(5):
        found = iwae_bounds(all_images(), *graphs, (1, 5, 50), seed=seed)
        assert list(found) == [1, 5, 50]
        for less, more in itertools.pairwise(found.values()):
            assert (less < more).all()


def test_groups_out_of_more_samples_have_no_bias(graphs: tuple[Encoder, Decoder]) -> None:
    """L_2 averaged over groups of eight samples is, in the mean, L_2 of two samples; less noisy."""
    images = np.tile(all_images(), (REPEATS, 1, 1, 1))
    grouped = iwae_bounds(images, *graphs, (2, 8), seed=30)[2].reshape(REPEATS, 16)
    alone = repeated(graphs, 2, seed=31)
    noise = np.hypot(standard_error(grouped), standard_error(alone))
    assert (np.abs(grouped.mean(0) - alone.mean(0)) < 5 * noise).all()
    assert (standard_error(grouped) < 0.7 * standard_error(alone)).all()


def test_latents_beyond_the_last_whole_group_are_left_out(graphs: tuple[Encoder, Decoder]) -> None:
    """L_2 out of five samples is that out of the first four."""
    image = all_images()[5:6]
    of_five, of_four = (iwae_bounds(image, *graphs, (2, most))[2] for most in (5, 4))
    np.testing.assert_allclose(of_five, of_four, rtol=1e-6)


def test_the_seed_decides_and_the_size_of_the_blocks_does_not(
    graphs: tuple[Encoder, Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same bounds however few rows are decoded at once; another others."""
    images = all_images()
    whole = iwae_bounds(images, *graphs, (3,), seed=7)[3]
    assert (np.abs(iwae_bounds(images, *graphs, (3,), seed=8)[3] - whole) > 1e-3).any()
    monkeypatch.setattr(iwae, "_VALUES", 5 * 8)
    monkeypatch.setattr(iwae, "_IMAGES", 3)
    np.testing.assert_allclose(iwae_bounds(images, *graphs, (3,), seed=7)[3], whole, rtol=1e-5)


def test_memory_does_not_grow_with_k() -> None:
    """500 samples of ten images would be 164 MB at once as float64; they take less than half."""
    spec = ImageSpec(height=64, width=64, channels=1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (10, *spec.shape), np.uint8) * np.uint8(255)
    graphs = (
        open_encoder(1e-3, 0.0, spec),
        open_decoder(rng.normal(size=(1, 4096)), np.zeros(4096), spec=spec),
    )
    tracemalloc.start()
    try:
        iwae_bounds(images, *graphs, (500,))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80e6


def test_log_mean_exp_survives_any_constant() -> None:
    """log mean exp(v + c) = log mean exp(v) + c, also where exp overflows or vanishes."""
    values = np.random.default_rng(0).normal(size=(4, 9))
    plain = np.log(np.exp(values).mean(axis=-1))
    for constant in (0.0, 1e5, -1e5):
        np.testing.assert_allclose(log_mean_exp(values + constant), plain + constant, rtol=1e-12)


def test_a_uniform_guess_costs_eight_bits() -> None:
    """log 256 nats for each of 3,072 values are 8 bits per dimension."""
    assert bits_per_dimension(3072 * np.log(256), (32, 32, 3)) == pytest.approx(8)


def test_an_estimate_is_a_mean_with_its_standard_error() -> None:
    """The error is the deviation over the root of the count, and unknown for one image."""
    values = np.array([1.0, 2.0, 3.0, 6.0])
    assert Estimate.of(values) == pytest.approx((3.0, np.std(values, ddof=1) / 2))
    assert np.isnan(Estimate.of(values[:1]).standard_error)
