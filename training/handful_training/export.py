"""Write the network as ONNX, prove that it computes the same, and put a bundle together."""

import io
import logging
import platform
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handful_bundle import classes, decoder, encoder, golden, head
from handful_bundle.bundle import Bundle
from handful_bundle.decoder import Decoder
from handful_bundle.encoder import Encoder
from handful_bundle.graph import BATCH, MAX_IR, MAX_OPSET
from handful_bundle.head import Head
from handful_bundle.manifest import (
    HeadInfo,
    ImageSpec,
    Likelihood,
    Manifest,
    Provenance,
    digest,
    space_digest,
)
from handful_bundle.pixels import PIXELS_VERSION
from handful_training.errors import TrainingError
from handful_training.model import Vae

PARITY = 1e-4
PARITY_BATCHES = (1, 2, 7, 64)
GOLDEN_IMAGES = 8


class Exported(NamedTuple):
    """The network as files, before any head."""

    spec: ImageSpec
    embedding_dim: int
    latent_dim: int
    likelihood: Likelihood | None  # None: no decoder
    files: dict[str, bytes]  # encoder.onnx, and decoder.onnx where there is one


class ServedHead(NamedTuple):
    """A fitted head as it goes into a bundle."""

    onnx: bytes
    labels: tuple[str, ...]
    info: HeadInfo
    classes: bytes  # content of classes.npz


def export(model: Vae, images: NDArray[np.uint8]) -> tuple[Exported, float]:
    """Export encoder and decoder, and compare them with torch on real images.

    Args:
        model: in evaluation mode, on the CPU.
        images: real images, uint8 [N, H, W, C], N >= 1.

    Returns:
        The files, and the largest difference from torch, relative to max(1, |value|).

    Raises:
        TrainingError: the exported graphs compute something else than torch.
    """
    parts = {
        encoder.FILE: (_EncoderGraph(model), "images", encoder.Encoding._fields),
        decoder.FILE: (_DecoderGraph(model), "latent", decoder.Decoding._fields),
    }
    example = torch.from_numpy(np.resize(images, (2, *images.shape[1:])))
    with torch.no_grad():
        posterior = model.encoder(_unit(example))
    inputs = {"images": example, "latent": posterior.mean}
    files = {
        file: _export(graph, name, inputs[name], outputs)
        for file, (graph, name, outputs) in parts.items()
    }
    exported = Exported(
        spec=model.spec,
        embedding_dim=posterior.embedding.shape[1],
        latent_dim=posterior.mean.shape[1],
        likelihood=model.likelihood,
        files=files,
    )
    return exported, _check_parity(model, exported, images)


def exported_of(bundle: Bundle) -> Exported:
    """Return the network of a bundle, whoever made it, so that it can be given another head."""
    manifest = bundle.manifest
    return Exported(
        spec=manifest.image,
        embedding_dim=manifest.embedding_dim,
        latent_dim=manifest.latent_dim,
        likelihood=manifest.likelihood,
        files={
            file: (bundle.root / file).read_bytes()
            for file in (encoder.FILE, decoder.FILE)
            if file in manifest.files
        },
    )


def make_bundle(
    exported: Exported,
    images: NDArray[np.uint8],
    *,
    name: str,
    served_head: ServedHead | None = None,
    metrics: Mapping[str, float] | None = None,
    provenance: Provenance | None = None,
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and files of a bundle, ready for `Bundle.save`.

    Args:
        exported: the network.
        images: a few become golden examples, uint8 [N, H, W, C], N >= 1.
        name: of the registered model.
        served_head: the head, if there is one.
        metrics: go into the manifest.
        provenance: goes into the manifest.
    """
    files = dict(exported.files)
    opened = open_encoder(exported, threads=1)
    opened_head = None
    if served_head is not None:
        files[head.FILE] = served_head.onnx
        files[classes.FILE] = served_head.classes
        opened_head = Head.open(
            served_head.onnx, exported.embedding_dim, served_head.labels, "cpu", 1
        )
    rows = np.linspace(0, len(images) - 1, min(GOLDEN_IMAGES, len(images))).astype(int)
    files[golden.FILE] = golden.make_golden(np.array(images[rows]), opened, opened_head)
    digests = {file: digest(data) for file, data in files.items()}
    manifest = Manifest(
        name=name,
        created=datetime.now(UTC).replace(microsecond=0),
        space=space_digest(digests[encoder.FILE], exported.spec, PIXELS_VERSION),
        image=exported.spec,
        pixels_version=PIXELS_VERSION,
        embedding_dim=exported.embedding_dim,
        latent_dim=exported.latent_dim,
        likelihood=exported.likelihood,
        labels=served_head.labels if served_head else None,
        files=digests,
        head=served_head.info if served_head else None,
        metrics=dict(metrics or {}),
        provenance=provenance or Provenance(),
    )
    return manifest, files


def open_encoder(exported: Exported, threads: int | None = None) -> Encoder:
    """Open the exported encoder on the CPU: the one that heads are fitted on."""
    return Encoder.open(
        exported.files[encoder.FILE],
        exported.spec,
        exported.embedding_dim,
        exported.latent_dim,
        "cpu",
        threads,
    )


def open_decoder(exported: Exported, threads: int | None = None) -> Decoder:
    """Open the exported decoder, which must be there, on the CPU."""
    assert exported.likelihood is not None
    return Decoder.open(
        exported.files[decoder.FILE],
        exported.spec,
        exported.latent_dim,
        exported.likelihood,
        "cpu",
        threads,
    )


def versions() -> dict[str, str]:
    """Return the versions that a bundle's numbers may depend on."""
    packages = ("handful", "torch", "onnx", "numpy", "pillow", "simplejpeg", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


class _EncoderGraph(nn.Module):
    """uint8 [B, H, W, C] → embedding, mean, log variance: scaling and layout live inside."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.encoder(_unit(images)))


class _DecoderGraph(nn.Module):
    """Latent [B, D] → images uint8 [B, H, W, C] and parameters of p(x|z), [B, H, W, P]."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        parameters = self.decoder(latent)
        images = (255 * self.decoder.expected(parameters)).round().to(torch.uint8)
        return images.permute(0, 2, 3, 1), parameters.permute(0, 2, 3, 1)


def _unit(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def _export(graph: nn.Module, name: str, example: Tensor, outputs: tuple[str, ...]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():  # the exporter warns of its own deprecations
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            opset_version=MAX_OPSET,
            external_data=False,
            input_names=[name],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim(BATCH, min=1, max=65_536)},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = MAX_IR
    del model.metadata_props[:]
    for node in model.graph.node:  # stack traces with the paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    buffer = io.BytesIO()
    buffer.write(model.SerializeToString(deterministic=True))
    return buffer.getvalue()


def _check_parity(model: Vae, exported: Exported, images: NDArray[np.uint8]) -> float:
    opened, opened_decoder = open_encoder(exported), open_decoder(exported)
    worst = 0.0
    for count in PARITY_BATCHES:
        batch = np.resize(images, (count, *images.shape[1:]))  # repeats where there are too few
        with torch.no_grad():
            expected = model.encoder(_unit(torch.from_numpy(batch)))
            decoded = _DecoderGraph(model)(expected.mean)
        found = opened(batch)
        seen = [*zip(found, expected, strict=True)]
        seen.append((opened_decoder(expected.mean.numpy()).likelihood, decoded[1]))
        for values, reference in seen:
            difference = np.abs(values - reference.numpy()) / np.maximum(
                1, np.abs(reference.numpy())
            )
            worst = max(worst, float(difference.max()))
        if not worst <= PARITY:
            raise TrainingError(
                f"the exported graphs differ from torch by {worst:.2g} at batch {count}, at most "
                f"{PARITY:g} is allowed; report this with the versions in `pip freeze`"
            )
    return worst
