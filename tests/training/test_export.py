"""What is exported computes what torch computed, and is a bundle that loads."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import HeadInfo, ImageSpec, digest
from handful_training.config import EncoderFamily, ModelConfig
from handful_training.embedding import embed_parts, embed_rows
from handful_training.errors import TrainingError
from handful_training.export import (
    PARITY,
    ServedHead,
    export,
    exported_of,
    make_bundle,
    open_decoder,
    open_encoder,
)
from handful_training.head.classes import class_statistics
from handful_training.head.fit import fit_head, head_info
from handful_training.likelihood import held_out_elbo
from handful_training.model import Vae
from handful_training.objective import elbo, sample

NETWORKS = [
    (28, 28, 1, "convolutional"),
    (33, 41, 3, "convolutional"),
    (33, 41, 3, "residual"),
    (130, 97, 3, "residual"),
]


def network(height: int, width: int, channels: int, family: EncoderFamily = "convolutional") -> Vae:
    torch.manual_seed(0)
    spec = ImageSpec(height=height, width=width, channels=channels)
    model = Vae(spec, ModelConfig(family=family, width=4, embedding_dim=12, latent_dim=5), 8)
    for _ in range(3):  # so that batch statistics are not those of a fresh network
        model(torch.rand(32, channels, height, width))
    return model.eval()


def noise(height: int, width: int, channels: int, count: int = 70) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def exported(request: pytest.FixtureRequest):
    *size, family = request.param
    model, images = network(*size, family), noise(*size)
    return model, images, *export(model, images)


def test_parity_with_torch(exported) -> None:
    """At batch 1, 2, 7 and 64 the graphs differ from torch by at most 1e-4, and so at 70."""
    model, images, files, parity = exported
    assert parity <= PARITY
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    for found, reference in zip(open_encoder(files)(images), expected, strict=True):
        np.testing.assert_allclose(found, reference.numpy(), atol=PARITY)


def test_another_network_fails_parity(exported) -> None:
    """The control: the check refuses graphs that compute something else."""
    model, images, _, _ = exported
    broken = network(*images.shape[1:])
    with torch.no_grad():
        broken.encoder.posterior.bias.add_(1e-2)
    from handful_training import export as module

    with pytest.raises(TrainingError, match="differ from torch"):
        module._check_parity(broken, exported[2], images)
    module._check_parity(model, exported[2], images)


def test_graphs_are_portable(exported) -> None:
    """Opset 20, IR 10, one domain, no path of the machine that exported them."""
    for data in exported[2].files.values():
        model = onnx.load_model_from_string(data)
        assert model.ir_version == 10
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
        assert str(Path(__file__).parents[2]).encode() not in data
        assert b"site-packages" not in data


def test_images_of_the_decoder_are_the_mean_of_its_likelihood(exported) -> None:
    """The uint8 image is 255 x the expectation of p(x|z), rounded."""
    model, _, files, _ = exported
    latent = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    decoded = open_decoder(files)(latent)
    parameters = torch.from_numpy(decoded.likelihood).permute(0, 3, 1, 2)
    mean = model.decoder.expected(parameters).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(decoded.images, 255 * mean, atol=0.51)


def test_the_held_out_elbo_is_that_of_torch(exported) -> None:
    """Computed outside torch, the ELBO is the one that training minimises, up to noise."""
    model, images, files, _ = exported
    found = held_out_elbo(images, open_encoder(files), open_decoder(files))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        _, mean, log_variance = model.encoder(x)
        z = sample(mean, log_variance, torch.randn_like(mean))
        terms = elbo(x, model.decoder(z), mean, log_variance, likelihood=model.likelihood)
    assert found.rate == pytest.approx(terms.rate.mean().item(), rel=1e-4)
    assert found.kl.sum() == pytest.approx(found.rate)
    assert found.neg_elbo == pytest.approx(-terms.value.mean().item(), rel=0.02)
    assert found.neg_elbo == found.distortion + found.rate


def test_a_new_head_leaves_the_space_as_it_is(exported, tmp_path: Path) -> None:
    """Refitting a head keeps encoder, decoder and space byte for byte, and both bundles load."""
    _, images, files, _ = exported
    manifest, content = make_bundle(files, images, name="shapes")
    Bundle.save(tmp_path / "encoder", manifest, content)
    bare = Bundle.load(tmp_path / "encoder")
    encoding = embed_rows(bare.encoder, images, np.arange(20))
    target = np.arange(20) % 2
    fitted = fit_head(encoding.embedding, target, ("a", "b"))
    served = ServedHead(
        fitted.onnx,
        ("a", "b"),
        head_info(fitted, digest(b"labels")),
        class_statistics(encoding.mean, target, 2),
    )
    manifest, content = make_bundle(exported_of(bare), images, name="shapes", served_head=served)
    Bundle.save(tmp_path / "head", manifest, content)
    full = Bundle.load(tmp_path / "head", reuse=bare)
    assert full.manifest.space == bare.manifest.space
    assert full.encoder is bare.encoder
    assert full.head is not None
    assert full.classes is not None
    assert isinstance(full.manifest.head, HeadInfo)


def test_embedding_in_parts_is_embedding_at_once(exported, monkeypatch) -> None:
    """However small the parts, rows come in the order asked for."""
    from handful_training import embedding

    _, images, files, _ = exported
    encoder = open_encoder(files)
    rows = np.random.default_rng(2).permutation(len(images))
    whole = encoder(images[rows]).embedding
    monkeypatch.setattr(embedding, "CHUNK_BYTES", 1)
    parts = list(embed_parts(encoder, images, rows))
    assert len(parts) == 2
    np.testing.assert_allclose(np.concatenate([p.embedding for p in parts]), whole, atol=1e-5)
    assert embed_rows(encoder, images[:0]).embedding.shape == (0, 12)
