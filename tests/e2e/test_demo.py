"""`make demo`, cut short: the demo's own code, through the real commands as processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
CUT = ("--images", "2000", "--test-images", "500", "--time-budget", "10s")
DATA_MISSING = 2
PROMISED = {
    "dataset", "images", "labels", "accuracy", "accuracy_ci", "baseline_pca_accuracy",
    "neg_elbo_nats", "pretrain_seconds", "head_seconds", "images_per_second",
    "failed_requests", "model_version",
}  # fmt: skip


@dataclass(frozen=True)
class Finished:
    """The demo, run to its end."""

    folder: Path
    environment: dict[str, str]
    output: str
    summary: dict[str, Any]


def start_demo(folder: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """Start the demo with all of its state in `folder`."""
    ours = ("HANDFUL_MODEL", "HANDFUL_WORK", "HANDFUL_URL", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment["PYTHONPATH"] = str(ROOT / "deploy")
    environment["HANDFUL_CACHE"] = str(folder / "cache")  # of the service
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo", *CUT],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return demo, environment


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of living processes that work in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended meanwhile, or not ours to look at
            continue
    return [line for line in found if line]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    """Run the demo on a cut of the data, once for this file."""
    folder = tmp_path_factory.mktemp("demo")
    demo, environment = start_demo(folder)
    output, _ = demo.communicate(timeout=500)
    if demo.returncode == DATA_MISSING and not os.environ.get("CI"):
        pytest.skip(output)
    assert demo.returncode == 0, output
    return Finished(folder, environment, output, json.loads(output.splitlines()[-1]))


def test_its_last_line_is_the_promised_object(finished):
    """The last line of stdout and stderr together is one JSON object with all promised keys."""
    assert finished.summary.keys() >= PROMISED
    assert finished.summary["dataset"] == "Fashion-MNIST"
    assert finished.summary["images"] == 2000
    assert finished.summary["labels"] == 100
    assert finished.summary["test_images"] == 500


def test_its_figures_are_possible(finished):
    """Fractions lie in [0, 1] and around each other as they must; times and rates are positive."""
    summary = finished.summary
    low, high = summary["accuracy_ci"]
    assert 0 <= low <= summary["accuracy"] <= high <= 1
    assert 0 <= summary["baseline_pca_accuracy"] <= 1
    assert low > 0.2  # ten classes: twice what guessing gives
    for key in ("neg_elbo_nats", "pretrain_seconds", "head_seconds", "images_per_second"):
        assert summary[key] > 0, key


def test_a_head_was_swapped_in_without_a_failed_request(finished):
    """Two versions answered the load, every image of it got an answer, and no request failed."""
    summary = finished.summary
    assert summary["failed_requests"] == 0
    assert summary["model_version"] != summary["swapped_from"]
    assert summary["classified_images"] > summary["test_images"]


def test_it_names_the_folder_with_the_plots(finished):
    """The output names the folder where the plots of the run lie."""
    plots = finished.folder / finished.summary["plots"]
    assert finished.summary["plots"] in finished.output
    assert len(list(plots.rglob("*.png"))) >= 4


def test_nothing_is_left_running(finished):
    """When the demo has ended, so has every process that it started."""
    assert processes_in(finished.folder) == []


def test_the_service_finds_the_champion_afterwards(finished):
    """`handful-serve` without arguments, as `make serve` starts it, serves the demo's champion."""
    command = Path(sys.executable).with_name("handful-serve")
    log = finished.folder / "serve-again.log"
    environment = {**finished.environment, "HANDFUL_PORT": "0"}
    with (
        log.open("w") as file,
        subprocess.Popen(
            [command], cwd=finished.folder, env=environment, stdout=file, stderr=file
        ) as service,
    ):
        try:
            answer = _model_of(service, log)
        finally:
            service.terminate()
            assert service.wait(60) == 0, log.read_text()
    assert answer["model"] == answer["model"] | {
        "name": "handful",
        "version": finished.summary["model_version"],
    }


def _model_of(service: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert service.poll() is None, log.read_text()
        if address := re.search(r"listening on (http://127\.0\.0\.1:\d+)", log.read_text()):
            reply = httpx.get(f"{address[1]}/model", timeout=10)
            if reply.status_code == httpx.codes.OK:
                return reply.json()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda it: it.name)
def test_an_interrupted_demo_leaves_nothing_running(number, tmp_path):
    """Ctrl-C or SIGTERM in the middle of training ends the demo with 130 and all its processes."""
    demo, _ = start_demo(tmp_path)
    deadline = time.monotonic() + 60
    while not any("handful-train" in line for line in processes_in(tmp_path)):
        if demo.poll() == DATA_MISSING and not os.environ.get("CI"):
            pytest.skip(demo.communicate()[0])
        assert demo.poll() is None, demo.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, output
    assert "Interrupted" in output
    assert processes_in(tmp_path) == []
