"""A GPU that runs out of memory, and one that is lost: what senders are told, and what goes on."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful_bundle.bundle import Bundle

COMMAND = (sys.executable, Path(__file__).with_name("failing_gpu_server.py"))
FULL = "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9"
LOST = "CUDA failure 719: unspecified launch failure ; GPU=0 ; expr=cudaMemcpyAsync(…)"
UNCLEAR = "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0"


class Gpu:
    """The pretended GPU of one server."""

    def __init__(self, server: Any, fault: Path, bundle: Path) -> None:
        self.server = server
        self.fault = fault
        self.encoder = Bundle.load(bundle, device="cpu", threads=1).encoder

    def fails(self, text: str, above: int = 0, *, lasting: bool = False) -> None:
        """Batches of more than `above` rows fail with `text`; `lasting`: until the process ends."""
        self.fault.write_text(json.dumps({"text": text, "above": above, "lasting": lasting}))

    def recovers(self) -> None:
        self.fault.unlink()

    def embed(self, count: int) -> Any:
        buffer = io.BytesIO()
        np.save(buffer, self.images(count))
        headers = {"Content-Type": "application/x-npy"}
        return self.server.client.post("/embed", content=buffer.getvalue(), headers=headers)

    def series(self, metric: str) -> list[str]:
        text = self.server.client.get("/metrics").text
        return [line for line in text.splitlines() if line.startswith(f"{metric}{{")]

    @staticmethod
    def images(count: int) -> np.ndarray:
        return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), np.uint8)

    def check(self, count: int) -> None:
        """Images are answered, and with their own embeddings."""
        answer = self.embed(count)
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(
            answer.json()["embeddings"], self.encoder(self.images(count)).embedding, atol=1e-5
        )

    def refused(self, count: int, code: str, status: int = 503) -> None:
        """Images are refused with `code`; a 503 says when to come back; no detail is CUDA's."""
        answer = self.embed(count)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["retryable"] is (status == 503)
        assert ("Retry-After" in answer.headers) is (status == 503)
        assert "CU" not in answer.json()["detail"]


@pytest.fixture(scope="module")
def gpu(serve_session: Any, bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Gpu:
    fault = tmp_path_factory.mktemp("gpu") / "fault.json"
    server = serve_session(bundle_dir, command=COMMAND, FAULT=str(fault)).wait_ready()
    return Gpu(server, fault, bundle_dir)


def test_the_provider_that_runs_is_told(gpu: Gpu) -> None:
    """`/model`, the metric and the log name the provider of the session, not the wish of a flag."""
    assert gpu.server.client.get("/model").json()["provider"] == "cuda"
    assert gpu.server.client.get("/model").json()["settings"]["device"] == "auto"
    (line,) = gpu.series("handful_model_info")
    assert 'provider="cuda"' in line
    assert "on cuda" in gpu.server.logged()


def test_batches_that_do_not_fit_run_in_halves(gpu: Gpu) -> None:
    """Out of memory for all rows of a batch and not for half of them: nobody notices."""
    gpu.fails(FULL, above=4)
    gpu.check(8)
    gpu.recovers()
    assert "8 rows do not fit" in gpu.server.logged()


def test_out_of_memory_is_told_and_passes(gpu: Gpu) -> None:
    """Not even halves fit: 503 `device_memory`; the process stays ready, opens its session anew
    after three in a row, and answers when there is memory again.
    """
    gpu.fails(FULL)
    for _ in range(3):
        gpu.refused(4, "device_memory")
        assert gpu.server.status("/readyz") == 200
    gpu.recovers()
    gpu.check(4)
    assert "opening the graph anew" in gpu.server.logged()
    (line,) = (one for one in gpu.series("handful_problems_total") if "device_memory" in one)
    assert line.endswith(" 3.0")


def test_an_error_of_one_batch_is_its_own(gpu: Gpu) -> None:
    """What fails alone is 500 for its sender, whatever the message; others are answered."""
    gpu.fails(UNCLEAR, above=3)
    gpu.refused(4, "internal_error", 500)
    gpu.check(2)
    gpu.recovers()
    gpu.check(4)


@pytest.mark.parametrize("text", [LOST, UNCLEAR])
def test_a_lost_gpu_ends_the_process_and_the_next_one_answers(
    serve: Any, bundle_dir: Path, tmp_path: Path, text: str
) -> None:
    """A sticky error, also one told only by all that fails after it: 503 `device_failed`, unready
    and not alive at once, status 1 within seconds; the supervisor's next process answers.
    """
    server = serve(bundle_dir, command=COMMAND, FAULT=str(tmp_path / "fault")).wait_ready()
    gpu = Gpu(server, tmp_path / "fault", bundle_dir)
    gpu.check(3)
    gpu.fails(text, lasting=True)
    gpu.refused(3, "device_failed")
    assert server.status("/readyz") != 200
    assert server.status("/livez") != 200
    server.wait_until(lambda: "ended by exit status 1" in server.logged())
    server.wait_ready()
    gpu.check(3)
