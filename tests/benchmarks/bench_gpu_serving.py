"""`/embed` on a GPU, beside the encoder in a bare loop and the decode rate of all cores.

make bench ARGS=gpu-serving                  needs an NVIDIA GPU and `pip install handful[gpu]`
make bench ARGS="gpu-serving --smoke"        the same in small on the CPU: does the bench run?

The load comes from Python processes on the same cores, which a server does not have to itself then.
"""

import argparse
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gpu_cases import residual
from gpu_limits import bare, decode_rate
from gpu_load import Done, drive
from serving_cases import Case, large, small

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import Device, cpu_quota

CODE = [Path(__file__).parents[2] / name for name in ("bundle", "service")]
TOLERANCE = {"cuda": 1e-3, "cpu": 1e-4}
NPY_IMAGES, FORM_IMAGES = 256, 32
START_SECONDS = 180
BOUNDARY = "bench-boundary"
NPY = "application/x-npy"
CASES: dict[str, Callable[[Path], Case]] = {"S": small, "L": large, "R": residual}


class Plan(NamedTuple):
    """What is measured, and how long."""

    device: Device
    cases: Sequence[str]
    connections: Sequence[int]
    seconds: float
    max_batch: int
    batches: Sequence[int]  # of the bare loop
    npy_images: int


GPU = Plan("cuda", ("S", "L", "R"), (64, 512), 8.0, 256, (32, 64, 128, 256), NPY_IMAGES)
SMOKE = Plan("cpu", ("S",), (2, 8), 1.0, 32, (8, 32), 16)


class Load(NamedTuple):
    """How images are sent."""

    name: str
    images: int  # in each request
    requests: list[bytes]
    from_files: bool  # the server has to decode


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="gpu-serving", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="on the CPU, seconds, no figures")
    parser.add_argument("--cases", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--work", type=Path, default=Path("handful-work/bench/gpu").absolute())
    options = parser.parse_args(list(arguments))
    if not options.smoke and not Path("/dev/nvidiactl").exists():
        sys.exit("gpu-serving: no NVIDIA GPU is visible here; --smoke tries the bench on the CPU")
    plan = SMOKE if options.smoke else GPU
    if options.cases:
        plan = plan._replace(cases=options.cases.split(","))
    options.work.mkdir(parents=True, exist_ok=True)
    cores = cpu_quota()
    print(f"{_device_name(plan.device)}, {cores} cores, load from Python processes on them\n")
    for name in plan.cases:
        _measure(CASES[name](options.work), plan, cores, options.work)


def _measure(case: Case, plan: Plan, cores: int, work: Path) -> None:
    side = case.pixels.shape[1]
    size = sum(map(len, case.pictures)) / len(case.pictures) / 1000
    limit = bare(case.root, plan.device, plan.batches, min(3.0, plan.seconds))
    spec = ImageSpec(height=side, width=side, channels=3)
    decoded = decode_rate(case.pictures, spec, cores, min(3.0, plan.seconds))
    print(f"### {case.name}: {side} px, JPEGs of {size:.1f} kB\n")
    print(f"Bare loop: {limit.images_per_second:,.0f} images/s in batches of {limit.rows}. "
          f"{cores} cores decode {decoded:,.0f} images/s.\n")  # fmt: skip
    print("| load | images/s | of the bare loop | of the decode rate | rows a batch | "
          "time that the model runs | server's cores | failed |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    with _server(case, plan, work) as server:
        for load in _loads(case, plan.npy_images):
            _check(server, case, load, plan.device)
            for connections in plan.connections:
                server.mark()
                done = drive(
                    server.url, load.requests, connections=connections, seconds=plan.seconds,
                    processes=max(1, cores // 4),
                )  # fmt: skip
                speed = done.answered * load.images / done.seconds
                cells = [
                    f"{load.name}, {connections} connections", f"{speed:,.0f}",
                    f"{100 * speed / limit.images_per_second:.0f} %",
                    f"{100 * speed / decoded:.0f} %" if load.from_files else "–",
                    *server.since_mark(speed), _failures(done),
                ]  # fmt: skip
                print(f"| {' | '.join(cells)} |", flush=True)
    print("\nWanted: 80 % of the bare loop from npy, 80 % of the decode rate from JPEG, or of the "
          "bare loop where that is less.\n")  # fmt: skip


def _failures(done: Done) -> str:
    return f"{done.failed} of {done.answered + done.failed} requests"


def _loads(case: Case, npy_images: int) -> Iterator[Load]:
    buffer = io.BytesIO()
    np.save(buffer, np.resize(case.pixels, (npy_images, *case.pixels.shape[1:])))
    asks = [("Content-Type", NPY), ("Accept", NPY)]
    whole = _request(asks, buffer.getvalue())
    yield Load(f"npy, {npy_images} images", npy_images, [whole], from_files=False)
    asks = [("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"), ("Accept", NPY)]
    parts = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + file
        + b"\r\n"
        for file in case.pictures[:FORM_IMAGES]
    )
    form = _request(asks, parts + f"--{BOUNDARY}--\r\n".encode())
    yield Load(f"JPEG, {FORM_IMAGES} in a form", FORM_IMAGES, [form], from_files=True)
    asks = [("Content-Type", "image/jpeg"), ("Accept", NPY)]
    singles = [_request(asks, file) for file in case.pictures]
    yield Load("JPEG, 1 image", 1, singles, from_files=True)


def _request(headers: list[tuple[str, str]], body: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers]
    head = ["POST /embed HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def _check(server: "_Running", case: Case, load: Load, device: Device) -> None:
    """Compare the answer to the first request with the embeddings that were made offline."""
    head, body = load.requests[0].split(b"\r\n\r\n", 1)
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[2:])
    request = urllib.request.Request(f"{server.url}/embed", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = np.load(io.BytesIO(answer.read()))
    expected = np.resize(case.embeddings, (load.images, case.embeddings.shape[1]))
    apart = (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max()
    if found.shape != expected.shape or not apart <= TOLERANCE[device]:
        sys.exit(f"{load.name}: answers differ from the offline embeddings by {apart:.2g}")


class _Running:
    """A server that answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def mark(self) -> None:
        """Remember where the counters stand."""
        self._before = self._counters()

    def since_mark(self, speed: float) -> list[str]:
        """Return rows a batch, share of time that the model ran, cores that were busy.

        Args:
            speed: images a second, which tells how long the rows took.
        """
        now = self._counters()
        rows, batches, model, cpu = (now[key] - self._before[key] for key in now)
        if not rows or not speed:
            return ["–", "–", "–"]
        seconds = rows / speed
        return [f"{rows / batches:.0f}", f"{100 * model / seconds:.0f} %", f"{cpu / seconds:.1f}"]

    def _counters(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        names = ("batch_rows_sum", "batches_total", "batch_duration_seconds_sum")
        found = {name: _series(text, f"handful_{name}") for name in names}
        return {**found, "cpu": _series(text, "process_cpu_seconds_total")}


def _series(text: str, name: str) -> float:
    (value,) = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(value)


@contextmanager
def _server(case: Case, plan: Plan, work: Path) -> Iterator[_Running]:
    roomy = {
        "HANDFUL_MAX_BATCH": plan.max_batch,
        "HANDFUL_QUEUE_ROWS": 2**20,
        "HANDFUL_QUEUE_BYTES": 2**36,
        "HANDFUL_QUEUE_SECONDS": 120,
        "HANDFUL_TIMEOUT_SECONDS": 120,
        "HANDFUL_LOG_LEVEL": "warning",
    }
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), *map(str, CODE)]).strip(os.pathsep)
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HANDFUL_")}
    log = work / "server.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "handful_service.cli", "--model", case.root, "--port",
             str(port := _free_port()), "--device", plan.device],
            env={**ours, **{k: str(v) for k, v in roomy.items()}, "PYTHONPATH": paths},
            stderr=stderr,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server does not answer:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield _Running(url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _device_name(device: Device) -> str:
    if device == "cpu":
        return "CPU, a try of the bench: no figures"
    words = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "a GPU without nvidia-smi"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
