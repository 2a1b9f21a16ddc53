"""The encoder that a training on a GPU makes of colour images: deep enough to keep a GPU busy."""

import shutil
from pathlib import Path

import numpy as np
import torch
from pictures import detailed, encode
from serving_cases import PICTURES, Case

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.config import ModelConfig
from handful_training.export import export, make_bundle
from handful_training.model import Vae, default_width
from handful_training.sizing import GPU_WIDTH

SIDE = 64  # to which a training brings larger images unless it is told otherwise


def residual(folder: Path) -> Case:
    """JPEGs of 320x240 pixels shrunk to 64, and a residual encoder with random weights."""
    spec = ImageSpec(height=SIDE, width=SIDE, channels=3)
    draws = [detailed(np.random.default_rng(n), 240, 320) for n in range(PICTURES)]
    files = [encode(draw, "JPEG") for draw in draws]
    pixels = np.stack([decode(file, spec) for file in files])
    torch.manual_seed(0)
    config = ModelConfig(family="residual", width=GPU_WIDTH * default_width(spec))
    model = Vae(spec, config, 64)
    model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)  # batch statistics of these images
    exported, _ = export(model.eval(), pixels)
    encoder_alone = exported._replace(
        likelihood=None, files={"encoder.onnx": exported.files["encoder.onnx"]}
    )
    root = folder / "R" / "bundle"
    shutil.rmtree(root.parent, ignore_errors=True)  # of an earlier run
    Bundle.save(root, *make_bundle(encoder_alone, pixels, name="bench-r"))
    embeddings = Bundle.load(root, device="cpu").encoder(pixels).embedding
    return Case("R", root, files, pixels, embeddings)
