"""What servers are measured with: pictures, and an encoder whose cost does not matter.

uint8 NHWC in, divided by 255, four 3x3 convolutions of stride 2 with 32, 64, 128 and 256 channels,
two heads of 64 numbers; random weights.
"""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pictures import detailed, encode, photo

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.export import Exported, make_bundle

CHANNELS = (3, 32, 64, 128, 256)
WIDTH = 64
PICTURES = 64


class Case(NamedTuple):
    """Pictures of one size, and the bundle that embeds them."""

    name: str
    root: Path  # of the bundle; the pictures lie in `pictures` beside it
    pictures: list[bytes]  # JPEG files
    pixels: NDArray[np.uint8]  # the same decoded, [n, side, side, 3]
    embeddings: NDArray[np.float32]  # what they are offline, [n, 64]


def small(folder: Path) -> Case:
    """JPEGs of 32x32 pixels and about 0.9 kB, as they are."""
    return of_size(folder, 32)._replace(name="S")


def large(folder: Path) -> Case:
    """JPEGs of 640x480 pixels and about 45 kB, shrunk to 128."""
    files = [encode(detailed(_rng(n), 480, 640), "JPEG") for n in range(PICTURES)]
    return _case("L", folder, 128, files)


def of_size(folder: Path, side: int) -> Case:
    """JPEGs of `side` x `side` pixels, as they are."""
    pictures = [encode(photo(_rng(n), side, side), "JPEG") for n in range(PICTURES)]
    return _case(f"{side}px", folder, side, pictures)


def _case(name: str, folder: Path, side: int, files: list[bytes]) -> Case:
    spec = ImageSpec(height=side, width=side, channels=3)
    exported = Exported(spec, WIDTH, WIDTH, None, {"encoder.onnx": _encoder(side)})
    pixels = np.stack([decode(file, spec) for file in files])
    root = folder / name / "bundle"
    shutil.rmtree(root.parent, ignore_errors=True)  # of an earlier run
    Bundle.save(root, *make_bundle(exported, pixels, name=f"bench-{name.lower()}"))
    embeddings = Bundle.load(root, device="cpu").encoder(pixels).embedding
    root.with_name("pictures").mkdir()
    for n, file in enumerate(files):
        (root.with_name("pictures") / f"{n:03}.jpg").write_bytes(file)
    return Case(name, root, files, pixels, embeddings)


def _encoder(side: int) -> bytes:
    rng, weights, nodes = _rng(0), [], []

    def weight(name: str, *shape: int, scale: float) -> str:
        values = (scale * rng.normal(size=shape)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    weights.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
    nodes.append(helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Mul", ["float", "scale"], ["unit"]))
    nodes.append(helper.make_node("Transpose", ["unit"], ["x0"], perm=[0, 3, 1, 2]))
    for n, (source, target) in enumerate(pairwise(CHANNELS)):
        kernel = weight(f"w{n}", target, source, 3, 3, scale=(2 / (9 * source)) ** 0.5)
        nodes.append(
            helper.make_node(
                "Conv", [f"x{n}", kernel], [f"y{n}"],
                kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"y{n}"], [f"x{n + 1}"]))
    nodes.append(helper.make_node("Flatten", ["x4"], ["flat"]))
    values = CHANNELS[-1] * (side // 16) ** 2
    outputs = []
    for name, of in (("mean", "flat"), ("log_variance", "flat")):
        head = weight(f"to_{name}", values, WIDTH, scale=values**-0.5)
        nodes.append(helper.make_node("MatMul", [of, head], [name]))
    nodes.append(helper.make_node("Identity", ["mean"], ["embedding"]))
    for name in ("embedding", "mean", "log_variance"):
        shape = ["batch", WIDTH]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", side, side, 3])
    graph = helper.make_graph(nodes, "encoder", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
