"""Anonymous memory of the whole pipeline, on 60,000 images and on four times as many.

Anonymous memory (Pss_Anon: what processes share counts once) is what the pipeline itself asks for.
Pixels are mapped from the pack, so they count as page cache, which the kernel takes back when it is
needed.
"""

import argparse
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray

CLASSES = 10
SIDE = 28
PART = 10_000  # images made at once
SHARD = 20_000  # images in one tar or Parquet file


def main(words: Sequence[str] = ()) -> None:
    """Print the peak over all processes of `handful-train run`, stage by stage in real order."""
    parser = argparse.ArgumentParser(prog="memory", description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of sources, commas between")
    parser.add_argument("--counts", default="60000,240000", help="of images, commas between")
    parser.add_argument("--budget", default="30s", help="of the training")
    options = parser.parse_args(words)
    print("| source | images | peak anonymous memory, all processes | wall |")
    print("|---|---|---|---|")
    for kind in options.kinds.split(","):
        for count in map(int, options.counts.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                images, labels = KINDS[kind](Path(folder), count)
                peak, seconds = _peak_of_run(Path(folder), images, labels, options.budget)
            print(f"| {kind} | {count:,} | {peak / 2**30:.2f} GiB | {seconds:.0f} s |", flush=True)


def _images(count: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield random bars and dots [n, SIDE, SIDE] with their classes, all different."""
    rng = np.random.default_rng(0)
    for start in range(0, count, PART):
        labels = rng.integers(0, CLASSES, min(PART, count - start)).astype(np.uint8)
        images = rng.integers(0, 60, (len(labels), SIDE, SIDE), np.uint8)
        for k in range(CLASSES):
            images[labels == k, 2 * k + 2 : 2 * k + 6, 4:24] += 150
        yield images, labels


def _jpegs(count: int) -> Iterator[tuple[int, bytes, str]]:
    """Yield (number, JPEG file, class)."""
    number = 0
    for images, labels in _images(count):
        for image, label in zip(images, labels.tolist(), strict=True):
            yield number, simplejpeg.encode_jpeg(image[..., None], colorspace="GRAY"), str(label)
            number += 1


def _write_idx(folder: Path, count: int) -> tuple[Path, str]:
    paths = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    with (
        gzip.open(paths[0], "wb", compresslevel=1) as pixels,
        gzip.open(paths[1], "wb") as classes,
    ):
        pixels.write(np.array([2051, count, SIDE, SIDE], ">i4").tobytes())
        classes.write(np.array([2049, count], ">i4").tobytes())
        for images, labels in _images(count):
            pixels.write(images.tobytes())
            classes.write(labels.tobytes())
    return paths[0], str(paths[1])


def _write_files(folder: Path, count: int) -> tuple[Path, str]:
    root = folder / "photos"
    for label in range(CLASSES):
        (root / str(label)).mkdir(parents=True)
    for number, data, label in _jpegs(count):
        (root / label / f"{number:06}.jpg").write_bytes(data)
    return root, "folders"


def _write_tars(folder: Path, count: int) -> tuple[Path, str]:
    root = folder / "shards"
    root.mkdir()
    files = _jpegs(count)
    for shard in range(0, count, SHARD):
        with tarfile.open(root / f"{shard // SHARD:03}.tar", "w") as tar:
            for number, data, label in islice(files, SHARD):
                for suffix, content in (("jpg", data), ("cls", label.encode())):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return root, "column"


def _write_parquet(folder: Path, count: int) -> tuple[Path, str]:
    root = folder / "tables"
    root.mkdir()
    files = _jpegs(count)
    for shard in range(0, count, SHARD):
        part = list(islice(files, SHARD))
        images = [{"bytes": data, "path": f"{number:06}.jpg"} for number, data, _ in part]
        table = pa.table({"image": images, "label": [label for _, _, label in part]})
        pq.write_table(table, root / f"{shard // SHARD:03}.parquet", row_group_size=1000)
    return root, "column"


KINDS = {"idx": _write_idx, "files": _write_files, "tar": _write_tars, "parquet": _write_parquet}


def _peak_of_run(folder: Path, images: Path, labels: str, budget: str) -> tuple[int, float]:
    environment = os.environ | {
        "HANDFUL_WORK": str(folder / "work"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    command = [
        sys.executable, "-m", "handful_training.cli", "run", str(images), "--labels", labels,
        "--labels-per-class", "10", "--time-budget", budget, "--json",
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
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it ended meanwhile
        return 0
    for line in text.splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    return 0
