"""Small but complete bundles, made with onnx alone, and programs that CI must have."""

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from handful_bundle import classes, decoder, encoder, golden, head
from handful_bundle.bundle import Bundle
from handful_bundle.manifest import HeadInfo, ImageSpec, Manifest, digest, space_digest
from handful_bundle.pixels import PIXELS_VERSION

# A shell starts its background jobs with SIGINT ignored, and processes hand that down: the commands
# that tests interrupt would never hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

EMBEDDING_DIM = 8
LATENT_DIM = 4
MakeBundle = Callable[..., Path]
LoadHelper = Callable[[str], ModuleType]


def _model(nodes: list, inputs: list, outputs: list, weights: dict[str, NDArray]) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _port(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *shape])


def encoder_onnx(spec: ImageSpec, rng: np.random.Generator) -> bytes:
    """A linear encoder with a tanh: every pixel matters, so swapped rows show."""
    pixels = int(np.prod(spec.shape))
    weights = {
        "scale": np.float32(1 / 255),
        "W": rng.normal(0, 4 / np.sqrt(pixels), (pixels, EMBEDDING_DIM)).astype(np.float32),
        "b": rng.normal(0, 0.1, EMBEDDING_DIM).astype(np.float32),
        "M": rng.normal(0, 0.5, (EMBEDDING_DIM, LATENT_DIM)).astype(np.float32),
        "L": rng.normal(0, 0.5, (EMBEDDING_DIM, LATENT_DIM)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Flatten", ["unit"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "b"], ["linear"]),
        helper.make_node("Tanh", ["linear"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "M"], ["mean"]),
        helper.make_node("MatMul", ["embedding", "L"], ["log_variance"]),
    ]
    outputs = [
        _port("embedding", TensorProto.FLOAT, EMBEDDING_DIM),
        _port("mean", TensorProto.FLOAT, LATENT_DIM),
        _port("log_variance", TensorProto.FLOAT, LATENT_DIM),
    ]
    return _model(nodes, [_port("images", TensorProto.UINT8, *spec.shape)], outputs, weights)


def decoder_onnx(spec: ImageSpec, rng: np.random.Generator) -> bytes:
    """A linear Bernoulli decoder."""
    pixels = int(np.prod(spec.shape))
    weights = {
        "W": rng.normal(0, 1, (LATENT_DIM, pixels)).astype(np.float32),
        "shape": np.array([-1, *spec.shape], np.int64),
        "full": np.float32(255),
    }
    nodes = [
        helper.make_node("MatMul", ["latent", "W"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["likelihood"]),
        helper.make_node("Sigmoid", ["likelihood"], ["unit"]),
        helper.make_node("Mul", ["unit", "full"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["images"], to=TensorProto.UINT8),
    ]
    outputs = [
        _port("images", TensorProto.UINT8, *spec.shape),
        _port("likelihood", TensorProto.FLOAT, *spec.shape),
    ]
    return _model(nodes, [_port("latent", TensorProto.FLOAT, LATENT_DIM)], outputs, weights)


def head_onnx(class_count: int, rng: np.random.Generator, *, tells_novelty: bool = False) -> bytes:
    """A linear head. Novelty is the mean size of the embedding's numbers: near 0 for black images,
    near 1 for bright ones.
    """
    weights = {
        "W": rng.normal(0, 1, (EMBEDDING_DIM, class_count)).astype(np.float32),
        "b": rng.normal(0, 1, class_count).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["embedding", "W", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    outputs = [_port("probabilities", TensorProto.FLOAT, class_count)]
    if tells_novelty:
        weights["last"] = np.array([-1])
        nodes.append(helper.make_node("Abs", ["embedding"], ["size"]))
        nodes.append(helper.make_node("ReduceMean", ["size", "last"], ["novelty"], keepdims=0))
        outputs.append(_port("novelty", TensorProto.FLOAT))
    return _model(nodes, [_port("embedding", TensorProto.FLOAT, EMBEDDING_DIM)], outputs, weights)


def write_bundle(
    root: Path,
    *,
    height: int = 16,
    width: int = 16,
    channels: int = 3,
    resize: str = "fit",
    with_head: bool = True,
    with_decoder: bool = True,
    labels: tuple[str, ...] = ("cat", "dog", "owl"),
    seed: int = 0,
    head_seed: int = 0,
    name: str = "animals",
    window: tuple[int, int] | None = None,
    conformal: dict | None = None,
    novelty: dict | None = None,
) -> Path:
    """Write a bundle with fixed random weights; `seed` picks the encoder, `head_seed` the head.

    `conformal` and `novelty` are the manifest's blocks; with a `novelty` the head tells it.
    """
    spec = ImageSpec(height=height, width=width, channels=channels, resize=resize, window=window)
    rng = np.random.default_rng(seed)
    files = {encoder.FILE: encoder_onnx(spec, rng)}
    if with_decoder:
        files[decoder.FILE] = decoder_onnx(spec, rng)
    head_rng = np.random.default_rng(head_seed)
    if with_head:
        files[head.FILE] = head_onnx(len(labels), head_rng, tells_novelty=novelty is not None)
        shape = (len(labels), LATENT_DIM)
        files[classes.FILE] = classes.Classes(
            np.full(len(labels), 5, np.int64),
            head_rng.normal(0, 1, shape).astype(np.float32),
            np.full(shape, 0.1, np.float32),
        ).pack()
    opened = encoder.Encoder.open(files[encoder.FILE], spec, EMBEDDING_DIM, LATENT_DIM, "cpu", 1)
    opened_head = (
        head.Head.open(files[head.FILE], EMBEDDING_DIM, labels, "cpu", 1) if with_head else None
    )
    images = rng.integers(0, 256, (3, *spec.shape), np.uint8)
    files[golden.FILE] = golden.make_golden(images, opened, opened_head)
    digests = {file: digest(data) for file, data in files.items()}
    manifest = Manifest(
        name=name,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        space=space_digest(digests[encoder.FILE], spec, PIXELS_VERSION),
        image=spec,
        pixels_version=PIXELS_VERSION,
        embedding_dim=EMBEDDING_DIM,
        latent_dim=LATENT_DIM,
        likelihood="bernoulli" if with_decoder else None,
        labels=labels if with_head else None,
        files=digests,
        head=HeadInfo(
            kind="logistic",
            digest=digests[head.FILE],
            label_count=15,
            temperature=1.0,
            conformal=conformal,
            novelty=novelty,
        )
        if with_head
        else None,
    )
    Bundle.save(root, manifest, files)
    return root


@pytest.fixture(scope="session")
def load_helper() -> LoadHelper:
    """`load_helper(path)`: a module that holds no tests, by its path in tests/ without `.py`."""

    def load(path: str) -> ModuleType:
        file = Path(__file__).parent / f"{path}.py"
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module  # dataclasses look themselves up, and others import it
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """The function that writes a small bundle; see `write_bundle` for its options."""
    return write_bundle


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle: 16x16x3, E = 8, D = 4, labels cat, dog, owl."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "animals")


@pytest.fixture(scope="session")
def bundle_dir_grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of an encoder alone: 28x28x1, no head, no decoder."""
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "grey",
        height=28,
        width=28,
        channels=1,
        with_head=False,
        with_decoder=False,
        name="grey",
    )


@pytest.fixture(scope="session")
def careful_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The complete bundle with prediction sets and novelty: a dark image is familiar, a bright one
    is novel.
    """
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "careful",
        conformal={"method": "test", "level": 0.9, "threshold": 0.8, "count": 50},
        novelty={"method": "test", "threshold": 0.4, "false_alarm_rate": 0.01, "count": 500},
        name="careful",
    )


@pytest.fixture(scope="session")
def write_tiff(load_helper: LoadHelper) -> Callable[..., bytes]:
    """`write_tiff(samples, …)` of tiff_files.py."""
    return load_helper("tiff_files").write_tiff


@pytest.fixture(scope="session")
def program() -> Callable[..., str]:
    """Return the path of a program; without it CI fails and a user's machine skips."""

    def find(name: str, remedy: str = "`make venv` installs it") -> str:
        beside = Path(sys.executable).with_name(name)
        found = str(beside) if beside.exists() else shutil.which(name)
        if found is None:
            message = f"{name} is not installed; {remedy}"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        return found

    return find


@pytest.fixture(scope="session")
def cutting_proxy(load_helper: LoadHelper) -> type:
    """`Proxy` of the module beside this file."""
    return load_helper("cutting_proxy").Proxy


@pytest.fixture(scope="session")
def mlflow_stack(load_helper: LoadHelper) -> ModuleType:
    """The module beside this file: MLflow as it is deployed, on PostgreSQL."""
    return load_helper("mlflow_stack")


@pytest.fixture(scope="session")
def bad_bundles(load_helper: LoadHelper) -> ModuleType:
    """The module beside this file: bundles that must never answer."""
    load_helper("bad_graphs")  # which it imports
    return load_helper("bad_bundles")
