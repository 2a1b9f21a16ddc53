"""The bench of accuracy per label: its tables say what the records say, and it goes on where it
was stopped.
"""

import csv
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
SECONDS = 400


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("labels_tables")


@pytest.fixture
def rows(tables):
    plan = importlib.import_module("labels_plan")
    return [row for row in plan.ROWS if row.key == "fashion-10"]


def records(tables, accuracies, draws=5):
    """Return records of fashion-10: the accuracies rise by a tenth of a point a draw."""
    found = tables.Records()
    for (rung, recipe, prior), accuracy in accuracies.items():
        for draw in range(draws):
            value = accuracy / 100 + 0.001 * (draw - 2)
            found.append(
                tables.Record(
                    "fashion", 10, 100, draw, recipe, prior, rung, value, value - 0.01,
                    value + 0.01, 0.5, 0.02, 1.0,
                )
            )  # fmt: skip
    return found


KNOWN = {
    ("pixels_linear", "", "given"): 69.3,
    ("pixels_graph", "", "given"): 73.4,
    ("pixels_graph_whitened", "", "given"): 75.9,
}
OURS = {
    ("vae_linear", "default", "given"): 75.0,
    ("vae_graph", "default", "given"): 80.0,
    ("vae_both", "default", "given"): 80.7,
    ("vae_served", "default", "given"): 80.1,
}


def test_controls_as_known_are_no_alarm_and_others_are(tables, rows):
    """The known figures pass, also 1.4 points off; 1.6 points off the comparison is broken."""
    assert tables.broken_controls(records(tables, KNOWN), rows) == []
    near = KNOWN | {("pixels_graph", "", "given"): 74.8}
    assert tables.broken_controls(records(tables, near), rows) == []
    (broken,) = tables.broken_controls(
        records(tables, KNOWN | {("pixels_graph", "", "given"): 75.0}), rows
    )
    assert "PCA of pixels, graph" in broken
    assert "75.0 %" in broken


def test_the_targets_are_held_against_what_was_reached(tables, rows):
    """80.7 % is at least the 80.5 to reach, below the stretch; nothing adapted is a dash."""
    lines = list(tables.targets_table(records(tables, KNOWN | OURS), rows))
    assert "75.9 / 75.9" in lines[2]
    assert "80.5 / 82: reach" in lines[2]
    missed = OURS | {("vae_both", "default", "given"): 80.2}
    assert (
        "80.5 / 82: missed" in list(tables.targets_table(records(tables, KNOWN | missed), rows))[2]
    )


def test_fewer_errors_are_counted_on_the_same_draws(tables, rows):
    """80 against 75.9: 4.1 of 24.1 errors, 17 %, is enough; a draw that one side lacks is out."""
    found = records(tables, KNOWN | OURS)
    lines = [line for line in tables.pairs_table(found, rows) if "Whitened" in line]
    assert len(lines) == 1
    assert "+4.1" in lines[0]
    assert "17 %" in lines[0]
    assert "≥ 15 %: yes" in lines[0]
    less = records(tables, KNOWN | OURS | {("vae_graph", "default", "given"): 78.0})
    (line,) = (line for line in tables.pairs_table(less, rows) if "Whitened" in line)
    assert "≥ 15 %: **no**" in line
    one = tables.Records(r for r in found if r.rung != "vae_graph" or r.draw == 3)
    (line,) = (line for line in tables.pairs_table(one, rows) if "Whitened" in line)
    assert "one draw" in line


def test_the_elbo_may_be_five_percent_above_weight_zero(tables):
    """104 against 100 nats is within 5 %, 106 is not, and a decoder that learnt nothing is out."""
    for value, said in ((104.0, "yes"), (106.0, "**no**")):
        lines = list(
            tables.elbo_table(
                {("fashion", "default"): value, ("fashion", "plain"): 100.0,
                 ("fashion", "no-elbo"): 500.0}
            )
        )  # fmt: skip
        assert lines[2].endswith(f"| {said} |")
        assert not [line for line in lines if "no-elbo" in line]


def test_records_survive_as_csv(tables, rows, tmp_path):
    """The file holds every record, every figure as it was; the picture is drawn."""
    found = records(tables, KNOWN | OURS)
    found.write(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [float(line["accuracy"]) for line in read] == [record.accuracy for record in found]
    tables.draw(found, rows, "fashion", tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as image:
        assert len(image.convert("RGB").getcolors(2**16)) > 20


def _fill(folder, per_class):
    rng = np.random.default_rng(per_class)
    for k in range(3):
        (folder / f"class{k}").mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 60, (16, 16, 3), np.uint8)
            pixels[4 * k : 4 * k + 6, 3:13] += 150
            Image.fromarray(pixels).save(folder / f"class{k}" / f"{i:03}.png")


def _command(root):
    return [
        sys.executable, HERE / "bench_labels.py", "--smoke", "--sets", "cifar",
        "--rows", "cifar-4,cifar-25",
        "--cifar-train", root / "train", "--cifar-test", root / "test", "--draws", "2",
        "--adapt-draws", "1", "--pretrain", "2s", "--adapt", "2s", "--device", "cpu",
        "--out", root / "out",
    ]  # fmt: skip


def _environment():
    return os.environ | {"PYTHONPATH": str(DEPLOY), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_the_bench_goes_on_where_it_was_killed(tmp_path):
    """Killed after its first cells and started again, it measures the rest alone: the seconds of
    the cells that were finished are the same to the last digit; a third run repeats the table.
    """
    _fill(tmp_path / "train", 40)
    _fill(tmp_path / "test", 12)
    work = tmp_path / "out" / "work"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            _command(tmp_path), env=_environment(), stdout=log, stderr=log, start_new_session=True
        ) as bench,
    ):
        deadline = time.monotonic() + SECONDS
        while not (done := list(work.glob("bench-frozen/*/done.json"))):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert bench.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        os.killpg(bench.pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in done}
    tables = []
    for _ in range(2):
        again = subprocess.run(
            _command(tmp_path), env=_environment(), capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip
        assert again.returncode == 0, again.stderr
        tables.append((tmp_path / "out" / "labels.csv").read_text())
        assert "VAE, graph" in again.stdout
    assert tables[0] == tables[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lines = list(csv.DictReader(tables[0].splitlines()))
    assert {line["recipe"] for line in lines} == {"", "default", "plain", "no-elbo"}
    assert {line["draw"] for line in lines} == {"0", "1"}
    assert {int(line["labels"]) for line in lines} == {12, 75}
    assert {"adapted_served", "random_served", "vae_served"} <= {line["rung"] for line in lines}
    assert (tmp_path / "out" / "labels-cifar.png").exists()
