"""The same answers on a GPU, and a GPU that is really used (`make test-gpu`)."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from handful_bundle import page_locked
from handful_bundle.batches import GPU_BUCKETS, Bound, Plain
from handful_bundle.bundle import Bundle
from handful_bundle.encoder import Encoder
from handful_bundle.errors import DeviceOutOfMemory
from handful_bundle.manifest import ImageSpec
from handful_bundle.runner import REOPEN_AFTER
from handful_bundle.session import open_session

pytestmark = pytest.mark.gpu

MEBIBYTE = 2**20
OUTPUTS = ["embedding", "mean", "log_variance"]
SPEC = ImageSpec(height=64, width=64, channels=3)
ODD = (3, 7, 33, 65, 200, 255, 300)
MIXED_BATCHES = 10_000


def encoder_onnx(channels: int = 32, spec: ImageSpec = SPEC) -> bytes:
    """Two 3x3 convolutions at the image's own size, means over places, three linear outputs."""
    rng = np.random.default_rng(0)
    weights = {
        "scale": np.float32(1 / 255),
        "w0": rng.normal(0, 0.3, (channels, 3, 3, 3)).astype(np.float32),
        "w1": rng.normal(0, 0.1, (channels, channels, 3, 3)).astype(np.float32),
        **{f"to_{name}": rng.normal(size=(channels, 8)).astype(np.float32) for name in OUTPUTS},
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["x0"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x0", "w0"], ["y0"], **same),
        helper.make_node("Relu", ["y0"], ["x1"]),
        helper.make_node("Conv", ["x1", "w1"], ["y1"], **same),
        helper.make_node("Relu", ["y1"], ["x2"]),
        helper.make_node("GlobalAveragePool", ["x2"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", f"to_{name}"], [name]) for name in OUTPUTS),
    ]
    shape = ["batch", *spec.shape]
    graph = helper.make_graph(
        nodes, "encoder",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 8]) for n in OUTPUTS],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def images(count: int, spec: ImageSpec = SPEC, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *spec.shape), np.uint8)


def opened(device: str, spec: ImageSpec = SPEC, **options: int) -> Encoder:
    return Encoder.open(encoder_onnx(spec=spec), spec, 8, 8, device, 2, **options)


@pytest.fixture(scope="module")
def gpu() -> Encoder:
    found = opened("cuda")
    found.warm_up(GPU_BUCKETS[-1])
    return found


@pytest.fixture(scope="module")
def cpu() -> Encoder:
    return opened("cpu")


def test_cuda_is_what_runs_when_it_is_asked_for(bundle_dir: Path) -> None:
    """Loading on CUDA ends with CUDA as the provider, golden examples checked on it."""
    assert Bundle.load(bundle_dir, device="cuda").provider == "cuda"


def test_auto_takes_the_gpu(bundle_dir: Path) -> None:
    """Where CUDA runs, `auto` uses it."""
    assert Bundle.load(bundle_dir).provider == "cuda"


def test_the_whole_graph_runs_on_cuda_as_it_was_asked_to(caplog: pytest.LogCaptureFixture) -> None:
    """The session is opened with fall-back to the CPU forbidden, and with our options."""
    session = open_session(encoder_onnx(), "cuda", gpu_memory_bytes=512 * MEBIBYTE)
    assert "run:" not in caplog.text
    found = session.get_provider_options()["CUDAExecutionProvider"]
    wanted = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "do_copy_in_default_stream": "1",
        "gpu_mem_limit": str(512 * MEBIBYTE),
    }
    assert wanted == {key: found[key] for key in wanted}


@pytest.mark.parametrize("count", [1, 7, 64, 200])
def test_gpu_and_cpu_agree(bundle_dir: Path, count: int) -> None:
    """Embeddings, probabilities and decoded likelihoods differ by at most 1e-3."""
    cpu, gpu = (Bundle.load(bundle_dir, device=device) for device in ("cpu", "cuda"))
    batch = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    one, other = cpu.encoder(batch), gpu.encoder(batch)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)
    assert cpu.head is not None
    assert gpu.head is not None
    np.testing.assert_allclose(cpu.head(one.embedding), gpu.head(other.embedding), atol=1e-3)
    assert cpu.decoder is not None
    assert gpu.decoder is not None
    np.testing.assert_allclose(
        cpu.decoder(one.mean).likelihood, gpu.decoder(one.mean).likelihood, atol=1e-3
    )


@pytest.mark.parametrize("count", sorted({*GPU_BUCKETS, *ODD}))
def test_convolutions_agree_in_every_bucket(cpu: Encoder, gpu: Encoder, count: int) -> None:
    """In each batch size, and in odd ones that are padded, CUDA and CPU differ by at most 1e-3, and
    a row on CUDA from the same row alone.
    """
    batch = images(count, seed=count)
    found = gpu(batch)
    for mine, theirs in zip(found, cpu(batch), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
    alone = gpu(batch[-1:])
    for mine, single in zip(found, alone, strict=True):
        np.testing.assert_allclose(mine[-1:], single, rtol=1e-3, atol=1e-3)


def test_bound_buffers_give_what_a_plain_run_gives() -> None:
    """On one session, bindings and plain runs of equal batch sizes give equal numbers, a thousand
    times over: no copy is read before it has ended.
    """
    session = open_session(encoder_onnx(), "cuda")
    bound, plain = Bound(session, "images"), Plain(session, "images")
    rng = np.random.default_rng(0)
    for seed, count in enumerate(rng.integers(1, 65, 1000)):
        batch = images(int(count), seed=seed)
        pairs = zip(bound.run([batch], OUTPUTS), plain.run([batch], OUTPUTS), strict=True)
        for mine, theirs in pairs:
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_buffers_are_page_locked(gpu: Encoder) -> None:
    """CUDA knows what batches are copied from and to, and no other memory of ours."""
    way = gpu._runner._way
    assert isinstance(way, Bound)
    assert way._buffers.keys() == {"images", *OUTPUTS}
    assert all(is_locked(buffer) for buffer in way._buffers.values())
    assert not is_locked(np.zeros(2**20, np.uint8))


def is_locked(array: np.ndarray) -> bool:
    """Whether CUDA knows the pages of `array` as locked."""
    runtime = page_locked._runtime()
    assert runtime is not None
    flags = ctypes.c_uint()
    address = ctypes.c_void_p(array.ctypes.data)
    if runtime.cudaHostGetFlags(ctypes.byref(flags), address) == 0:
        return True
    runtime.cudaGetLastError()  # forgets it: else onnxruntime's next check would find it
    return False


def test_out_of_memory_is_told_and_passes() -> None:
    """With little memory allowed, a large batch is refused as such each time, also after the
    session was opened anew, and small ones run in between.
    """
    spec = ImageSpec(height=128, width=128, channels=3)  # 2 MiB a row in each layer
    cpu, gpu = opened("cpu", spec), opened("cuda", spec, gpu_memory_bytes=96 * MEBIBYTE)
    few = images(2, spec)
    expected = cpu(few).embedding
    for _ in range(2 * REOPEN_AFTER):
        np.testing.assert_allclose(gpu(few).embedding, expected, rtol=1e-3, atol=1e-3)
        with pytest.raises(DeviceOutOfMemory):
            gpu(images(256, spec))
    for _ in range(REOPEN_AFTER + 1):
        with pytest.raises(DeviceOutOfMemory):
            gpu(images(256, spec))
    np.testing.assert_allclose(gpu(few).embedding, expected, rtol=1e-3, atol=1e-3)


def test_memory_does_not_grow(gpu: Encoder) -> None:
    """Once every batch size has run, 10,000 batches of mixed sizes take no more of the GPU."""
    rows, rng = images(GPU_BUCKETS[-1]), np.random.default_rng(0)
    sizes = rng.integers(1, GPU_BUCKETS[-1] + 1, MIXED_BATCHES)
    for size in sizes[:200]:
        gpu(rows[:size])
    before = free_bytes()
    for size in sizes:
        gpu(rows[:size])
    grown = before - free_bytes()
    print(f"\n{grown / MEBIBYTE:.1f} MiB more after {MIXED_BATCHES} batches")
    assert grown <= 2 * MEBIBYTE


def free_bytes() -> int:
    runtime = page_locked._runtime()
    assert runtime is not None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value


LOSE_THE_CONTEXT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_gpu
from handful_bundle.errors import DeviceFailed

encoder = test_gpu.opened("cuda")
encoder.warm_up(8)
import torch

table = torch.zeros(4, device="cuda")
try:
    table[torch.tensor([10**6], device="cuda")].cpu()  # an assertion on the device: error 710
except RuntimeError:
    pass
for _ in range(2):
    try:
        encoder(test_gpu.images(8))
    except DeviceFailed as error:
        print("failed:", error.__cause__, flush=True)
    else:
        print("it runs on", flush=True)
"""


def test_a_lost_context_is_known(tmp_path: Path) -> None:
    """After a real sticky error, made by torch in the same process, the encoder says for good that
    its device has failed.
    """
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA to lose a context with")
    done = subprocess.run(
        [sys.executable, "-c", LOSE_THE_CONTEXT, str(Path(__file__).parent)],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.count("failed:") == 2, done.stdout + done.stderr
