"""10,000 answers under 64 connections of mixed forms, each compared with the offline embedding."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import torch
from mixed_load import draw_pictures, drive

from handful_bundle.bundle import Bundle
from handful_bundle.manifest import ImageSpec
from handful_training.config import Config
from handful_training.export import export, make_bundle
from handful_training.model import Vae

ANSWERS = 10_000
CONNECTIONS = 64
PORT = 8765
SECONDS_TO_READY = 60


def main() -> None:
    """Serve a network of the default size, and print what came back."""
    with tempfile.TemporaryDirectory() as folder:
        root = _bundle(Path(folder) / "bundle")
        url = f"http://127.0.0.1:{PORT}"
        command = [Path(sys.executable).with_name("handful-serve"), "--model", str(root)]
        quiet = os.environ | {"HANDFUL_LOG_LEVEL": "warning"}
        with subprocess.Popen(
            [*command, "--port", str(PORT)], env=quiet, stdout=subprocess.DEVNULL
        ) as server:
            try:
                _wait(url, server)
                pictures = draw_pictures(root)
                report = asyncio.run(drive(url, pictures, answers=ANSWERS, connections=CONNECTIONS))
            finally:
                server.terminate()
    print("| answers | rows | wrong (relative 1e-5) | swapped | failed | answers/s | by form |")
    print("|---|---|---|---|---|---|---|")
    forms = ", ".join(f"{name} {count}" for name, count in sorted(report.forms.items()))
    print(
        f"| {report.answers} | {report.rows} | {report.wrong} | {report.swapped} | "
        f"{report.failed} | {report.answers / report.seconds:.0f} | {forms} |"
    )
    if report.wrong or report.failed or report.answers < ANSWERS:
        sys.exit("an answer is wrong or missing")


def _bundle(root: Path) -> Path:
    """An encoder of the default size for 32 px colour images, with random weights."""
    torch.manual_seed(0)
    config = Config()
    spec = ImageSpec(height=32, width=32, channels=3)
    model = Vae(spec, config.model, config.objective.projection_dim).eval()
    images = np.random.default_rng(0).integers(0, 256, (64, *spec.shape), np.uint8)
    exported, _ = export(model, images)
    Bundle.save(root, *make_bundle(exported, images, name="bench"))
    return root


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_READY
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit("the service ended before it was ready")
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    sys.exit(f"the service was not ready within {SECONDS_TO_READY} s")
