"""Anonymous memory of the whole pipeline, on 60,000 images and on four times as many.

Anonymous memory (RssAnon) is what the pipeline itself asks for. Pixels are mapped from the pack,
so they count as page cache, which the kernel takes back when it is needed.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

CLASSES = 10
SIDE = 28


def main() -> None:
    """Print the peak over all processes of `handful-train run`, stage by stage in real order."""
    print("| images | peak anonymous memory, all processes | wall |")
    print("|---|---|---|")
    for count in (60_000, 240_000):
        with tempfile.TemporaryDirectory() as folder:
            images, labels = _write_idx(Path(folder), count)
            peak, seconds = _peak_of_run(Path(folder), images, labels)
        print(f"| {count:,} | {peak / 2**30:.2f} GiB | {seconds:.0f} s |", flush=True)


def _write_idx(folder: Path, count: int) -> tuple[Path, Path]:
    """Write an idx pair of random bars and dots, cheap to make and all different."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, count).astype(np.uint8)
    paths = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    with gzip.open(paths[0], "wb", compresslevel=1) as file:
        file.write(np.array([2051, count, SIDE, SIDE], ">i4").tobytes())
        for start in range(0, count, 10_000):
            part = labels[start : start + 10_000]
            images = rng.integers(0, 60, (len(part), SIDE, SIDE), np.uint8)
            for k in range(CLASSES):
                images[part == k, 2 * k + 2 : 2 * k + 6, 4:24] += 150
            file.write(images.tobytes())
    with gzip.open(paths[1], "wb") as file:
        file.write(np.array([2049, count], ">i4").tobytes() + labels.tobytes())
    return paths


def _peak_of_run(folder: Path, images: Path, labels: Path) -> tuple[int, float]:
    environment = os.environ | {
        "HANDFUL_WORK": str(folder / "work"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    command = [
        sys.executable, "-m", "handful_training.cli", "run", str(images), "--labels", str(labels),
        "--labels-per-class", "10", "--time-budget", "60s", "--json",
    ]  # fmt: skip
    start = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        peaks = [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
        watcher.start()
        out, err = process.communicate()
    if process.returncode:
        sys.exit(err.decode()[-2000:])
    assert json.loads(out.splitlines()[-1])["version"]
    return peaks[0], time.monotonic() - start


def _watch(pid: int, peaks: list[int]) -> None:
    while True:
        try:
            root = psutil.Process(pid)
            total = sum(_anonymous(p.pid) for p in [root, *root.children(recursive=True)])
        except psutil.NoSuchProcess:
            return
        peaks[0] = max(peaks[0], total)
        time.sleep(0.05)


def _anonymous(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it ended meanwhile
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
