"""Fixed buffers answer as plain runs do, and what a device cannot do is recovered where it can be.

The sessions are onnxruntime's; where a device has to fail, its class fails in its name.
"""

import logging
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from handful_bundle import page_locked, session
from handful_bundle.batches import GPU_BUCKETS, Bound, Plain
from handful_bundle.bundle import Bundle
from handful_bundle.errors import DeviceFailed, DeviceOutOfMemory, DeviceUnavailable
from handful_bundle.runner import REOPEN_AFTER, Runner

FULL = "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9"
LOST = "CUDA failure 700: an illegal memory access was encountered ; GPU=0"
UNCLEAR = "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0"
OUTPUTS = ["embedding", "mean", "log_variance"]


class Gpu:
    """What a pretended GPU can do; its sessions run on the CPU."""

    def __init__(self) -> None:
        self.rows = 10**9  # that fit
        self.text: str | None = None  # of what fails, whatever it is
        self.refuses: str | None = None  # text of what keeps graphs from opening
        self.ran: list[int] = []  # rows of the batches that were tried
        self.opened: list[weakref.ref[ort.InferenceSession]] = []


class GpuSession(ort.InferenceSession):
    def __init__(self, model: bytes, gpu: Gpu) -> None:
        super().__init__(model, providers=["CPUExecutionProvider"])
        self.gpu = gpu
        gpu.opened.append(weakref.ref(self))

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        rows = iobinding._numpy_obj_references["images"].shape[0]
        self.gpu.ran.append(rows)
        if self.gpu.text is not None:
            raise RuntimeError(self.gpu.text)
        if rows > self.gpu.rows:
            raise RuntimeError(FULL)
        super().run_with_iobinding(iobinding, run_options)


@pytest.fixture(scope="module")
def model(bundle_dir: Path) -> bytes:
    return (bundle_dir / "encoder.onnx").read_bytes()


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def runner(model: bytes, gpu: Gpu) -> Runner:
    def reopen() -> ort.InferenceSession:
        if gpu.refuses is not None:
            raise DeviceUnavailable(gpu.refuses)
        return GpuSession(model, gpu)

    made = Runner(GpuSession(model, gpu), reopen)
    made.warm_up(64)
    gpu.ran.clear()
    return made


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


def expected(model: bytes, rows: np.ndarray) -> list[np.ndarray]:
    plain = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return plain.run(OUTPUTS, {"images": rows})


def check(found: list[np.ndarray], model: bytes, rows: np.ndarray) -> None:
    for mine, theirs in zip(found, expected(model, rows), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("way", [Plain, Bound])
def test_any_number_of_rows_runs_in_buckets(model: bytes, way: type[Plain] | type[Bound]) -> None:
    """Up to the largest bucket each row comes out as it does without padding, in whichever order
    the sizes come, and whichever outputs are asked for.
    """
    runs = way(session.open_session(model, "cpu", 1), "images")
    counts = [n for n in (1, 3, 64, 2, 33, 200, 256, 5, 1) if n <= runs.buckets[-1]]
    for count in counts:
        rows = images(count, seed=count)
        check(runs.run([rows], OUTPUTS), model, rows)
        (mean,) = runs.run([rows[:2], rows[2:]], ["mean"])
        np.testing.assert_allclose(mean, expected(model, rows)[1], atol=1e-6)


def test_answers_are_not_written_over(model: bytes) -> None:
    """What one batch gave stays as it is while the same buffers serve the next."""
    bound = Bound(session.open_session(model, "cpu", 1), "images")
    first = bound.run([images(4, seed=1)], OUTPUTS)
    kept = [part.copy() for part in first]
    bound.run([images(4, seed=2)], OUTPUTS)
    bound.run([images(64, seed=3)], OUTPUTS)
    for one, other in zip(first, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_of_another_layout_run(model: bytes) -> None:
    """Rows that do not lie side by side in memory, as slices of larger arrays, run as copies do."""
    rows = images(20)[::3, :, ::-1]
    check(Bound(session.open_session(model, "cpu", 1), "images").run([rows], OUTPUTS), model, rows)


def test_every_batch_size_is_warmed_the_largest_first(model: bytes, gpu: Gpu) -> None:
    """Warming up runs each bucket once, from that of the largest batch on, and no larger one."""
    Runner(GpuSession(model, gpu)).warm_up(40)
    assert gpu.ran == [64, 32, 16, 8, 4, 2, 1]
    gpu.ran.clear()
    Runner(GpuSession(model, gpu)).warm_up(1000)
    assert gpu.ran == list(reversed(GPU_BUCKETS))


def test_a_batch_that_does_not_fit_runs_in_halves(runner: Runner, gpu: Gpu, model: bytes) -> None:
    """Out of memory: each half once, in order, and the session stays."""
    gpu.rows = 16
    check(runner([images(31)], OUTPUTS), model, images(31))
    assert gpu.ran == [32, 16, 16]
    assert len(gpu.opened) == 1


def test_halves_that_do_not_fit_either_are_told(runner: Runner, gpu: Gpu, model: bytes) -> None:
    """The batch is tried once more and no further; a smaller one still runs."""
    gpu.rows = 4
    with pytest.raises(DeviceOutOfMemory, match=r"31 rows .* HANDFUL_MAX_BATCH"):
        runner([images(31)], OUTPUTS)
    assert gpu.ran == [32, 16]
    check(runner([images(4)], OUTPUTS), model, images(4))


def test_one_row_that_does_not_fit_is_told_at_once(runner: Runner, gpu: Gpu) -> None:
    """There is no half of one row."""
    gpu.rows = 0
    with pytest.raises(DeviceOutOfMemory):
        runner([images(1)], OUTPUTS)
    assert gpu.ran == [1]


def test_the_session_is_opened_anew_after_shortages(
    runner: Runner, gpu: Gpu, model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """After several in a row the old session is let go, with all that it held, before the next
    opens; answers are the same afterwards.
    """
    caplog.set_level(logging.WARNING)
    gpu.rows = 1
    kept = []  # as a request keeps its error until it is answered
    for _ in range(REOPEN_AFTER):
        with pytest.raises(DeviceOutOfMemory) as raised:
            runner([images(8)], OUTPUTS)
        kept.append(raised)
    assert gpu.opened[0]() is None
    assert "opening the graph anew" in caplog.text
    gpu.rows = 64
    check(runner([images(8)], OUTPUTS), model, images(8))
    assert len(gpu.opened) == 2


def test_shortages_between_batches_that_fit_do_not_add_up(runner: Runner, gpu: Gpu) -> None:
    """Only shortages in a row open the session anew."""
    for _ in range(2 * REOPEN_AFTER):
        gpu.rows = 1
        with pytest.raises(DeviceOutOfMemory):
            runner([images(8)], OUTPUTS)
        gpu.rows = 64
        runner([images(8)], OUTPUTS)
    assert len(gpu.opened) == 1


def test_a_gpu_that_is_gone_is_not_opened_again(runner: Runner, gpu: Gpu) -> None:
    """Where CUDA does not start any more when the session is to be opened anew, it has failed."""
    gpu.rows, gpu.refuses = 0, "CUDA does not start"
    for _ in range(REOPEN_AFTER):
        with pytest.raises(DeviceOutOfMemory):
            runner([images(1)], OUTPUTS)
    with pytest.raises(DeviceFailed):
        runner([images(1)], OUTPUTS)


def test_a_lost_device_is_not_asked_again(runner: Runner, gpu: Gpu) -> None:
    """After a fatal error nothing is tried in this process any more, whatever comes."""
    gpu.text = LOST
    with pytest.raises(DeviceFailed, match="start it anew"):
        runner([images(8)], OUTPUTS)
    gpu.text = None
    with pytest.raises(DeviceFailed):
        runner([images(1)], OUTPUTS)
    assert gpu.ran == [8]


def test_an_unclear_error_is_followed_by_zeros(runner: Runner, gpu: Gpu) -> None:
    """An error that says nothing of the device is a lost device where rows of zeros, which ran
    before, fail now; where they run it is the batch's own.
    """
    gpu.text = UNCLEAR
    with pytest.raises(DeviceFailed):
        runner([images(8)], OUTPUTS)
    assert gpu.ran == [8, 1]


def test_an_error_of_the_rows_is_theirs(model: bytes, gpu: Gpu) -> None:
    """A batch that fails alone raises what it raised, and the next one runs."""

    class Picky(GpuSession):
        def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
            super().run_with_iobinding(iobinding, run_options)
            if iobinding._numpy_obj_references["images"].max() == 255:
                raise RuntimeError(UNCLEAR)

    runner = Runner(Picky(model, gpu), lambda: Picky(model, gpu))
    runner.warm_up(8)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        runner([np.full((2, 16, 16, 3), 255, np.uint8)], OUTPUTS)
    check(runner([np.full((2, 16, 16, 3), 9, np.uint8)], OUTPUTS), model,
          np.full((2, 16, 16, 3), 9, np.uint8))  # fmt: skip


def test_cuda_is_never_replaced_by_the_cpu_in_silence(model: bytes) -> None:
    """Where CUDA does not start, asking onnxruntime for it alone is an error that says so."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceUnavailable, match="would run on the CPU"):
        session._open_on_gpu(model, None)
    with pytest.raises(DeviceUnavailable, match="no NVIDIA GPU"):
        session.open_session(model, "cuda")


def test_a_failing_run_does_not_move_to_the_cpu(bundle_dir: Path) -> None:
    """Sessions are opened without onnxruntime's own way out, which answers from the CPU after some
    failures of a run, for good and without a word but on stdout.
    """
    encoder = Bundle.load(bundle_dir, device="cpu", threads=1).encoder
    way = encoder._runner._way
    assert isinstance(way, Plain)
    assert way._session._enable_fallback is False


def test_buffers_are_ordinary_memory_without_cuda() -> None:
    """Shape, type and content hold for arrays of any size, page-locked or not."""
    for shape in ((1, 3), (256, 16, 16, 3), (0, 4)):
        array = page_locked.empty(shape, np.float32)
        array[...] = 7
        assert array.shape == shape
        assert array.dtype == np.float32
        assert (array == 7).all()
