"""`handful-train run`, killed again and again and started again, ends as if it never had been."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handful_bundle.bundle import Bundle
from handful_training.tracking import Tracker

# A checkpoint at every look at the clock, so that there is something to go on from.
EAGER = "--set=optimiser.checkpoint_seconds=0.01"
MORE_EPOCHS = ("--epochs", "90")
# Dies by SIGKILL when it comes to the nth call of something, and tells nobody.
DIE = """
import importlib, os, signal, sys
sys.modules.update(handful_service=None, handful_client=None)
module, owner, name, count = sys.argv[1:5]
del sys.argv[1:5]
place = importlib.import_module(module)
place = getattr(place, owner) if owner else place
found, calls = getattr(place, name), [0]

def deadly(*args, **kwargs):
    calls[0] += 1
    if calls[0] == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return found(*args, **kwargs)

setattr(place, name, deadly)
from handful_training.cli import main
main()
"""
MOMENTS = {
    "the pack is whole but not in its place": ("pathlib", "Path", "rename", 1),
    "the checkpoint is written but not in its place": ("pathlib", "Path", "replace", 2),
    "the training is over but not marked": ("handful_training.pipeline.work", "Stage", "finish", 1),
    "the export is half written": ("handful_bundle.bundle", "", "_sync_folder", 1),
    "the head is written but not marked": ("handful_training.pipeline.work", "Stage", "finish", 4),
    "it is to be registered": ("handful_training.tracking.registry", "Registry", "register", 1),
    "it is registered, the gate not asked": (
        "handful_training.tracking.registry", "Registry", "consider", 1,
    ),
    "the gate has promoted, nothing is said": ("handful_training.cli.train", "", "show", 1),
}  # fmt: skip


@pytest.fixture
def start(place: Any, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start `handful-train run` on the photos, with work folder and registry of its own."""

    def call(*before: str, options: tuple[str, ...] = (), log: str = "log") -> Any:
        command = before or (
            "-c", "import sys; from handful_training.cli import main; main()",
        )  # fmt: skip
        with (tmp_path / log).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *command, *map(str, place.run), EAGER, "--json", *options],
                cwd=tmp_path,
                env=environment(place, tmp_path),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    return call


def environment(place: Any, folder: Path) -> dict[str, str]:
    return place.environment | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "HANDFUL_WORK": str(folder / "work"),
    }


def said(folder: Path) -> dict[str, Any]:
    """Return the result that the last process printed."""
    found: dict[str, Any] = json.loads((folder / "log").read_text().splitlines()[-1])
    return found


def assert_ended_as(expected: dict[str, Any], folder: Path) -> None:
    """The same weights and figures, one version, one champion, and nothing half done left."""
    found = said(folder)
    one, other = (Bundle.load(Path(result["bundle"])) for result in (found, expected))
    for name in ("encoder.onnx", "decoder.onnx", "head.onnx", "classes.npz"):
        assert one.manifest.files[name] == other.manifest.files[name], name
    assert one.manifest.metrics == other.manifest.metrics
    assert found["accuracy"] == expected["accuracy"]
    assert (found["version"], found["promoted"]) == ("1", True)
    tracker = Tracker.open(f"sqlite:///{folder}/mlflow.db", work=folder / "work")
    assert tracker.registry.resolve("parts@champion").version == "1"
    assert tracker.registry.resolve("parts@challenger").version == "1"
    assert len(tracker._store.client.search_registered_models()) == 1
    assert len(tracker._store.client.search_model_versions("name = 'parts'")) == 1
    left = [
        path
        for path in (folder / "work").rglob("*")
        if path.suffix in {".tmp", ".partial"} or path.name.startswith(".")
    ]
    assert left == []
    assert len(list((folder / "work" / "packs").glob("*/pack.json"))) == 1


def kill_at_random(
    start: Callable[..., subprocess.Popen[bytes]],
    kills: int,
    seed: int,
    seconds: float,
    log: Path,
    options: tuple[str, ...] = (),
) -> int:
    """Kill it `kills` times, anywhere in its life, and let it come to its end; return the starts.

    A life that ends before it is killed counts as none: then its length is the next one's.
    """
    rng, killed, starts = random.Random(seed), 0, 0
    while killed < kills:
        begun = time.monotonic()
        process = start(options=options)
        starts += 1
        try:
            # Each as likely in its own part of the life: so few would else miss the whole end.
            status = process.wait(seconds * (killed + rng.random()) / kills)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            status = process.wait()
            killed += 1
            assert status == -signal.SIGKILL
        else:
            assert status == 0, log.read_text()
            seconds = time.monotonic() - begun
    assert start(options=options).wait() == 0, log.read_text()
    return starts


def test_killed_in_each_part_of_its_life(
    trained: dict[str, Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    """SIGKILLs while it reads, twice while it trains and while it exports change nothing in what
    it makes; each time it goes on where it was.
    """
    rng, log, work = random.Random(0), tmp_path / "log", tmp_path / "work"
    parts: tuple[Callable[[], object], ...] = (
        (work / "packs").exists,
        lambda: list(work.glob("encoders/*/checkpoint.pt")),
        lambda: "resuming at epoch" in log.read_text(),
        lambda: list(work.glob("exports/*/")),
    )
    for reached in parts:
        process = start()
        while not reached():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start().wait() == 0
    assert_ended_as(trained, tmp_path)


@pytest.mark.slow
def test_killed_twenty_times(place: Any, start: Callable[..., Any], tmp_path: Path) -> None:
    """Twenty SIGKILLs spread over a longer life change nothing in what it makes."""
    begun = time.monotonic()
    expected = place.result(*place.run, EAGER, *MORE_EPOCHS, "--name", "uninterrupted")
    seconds = time.monotonic() - begun
    kill_at_random(
        start, kills=20, seed=1, seconds=seconds, log=tmp_path / "log", options=MORE_EPOCHS
    )
    assert_ended_as(expected, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_just_when(
    trained: dict[str, Any], start: Callable[..., Any], moment: str, tmp_path: Path
) -> None:
    """Also a SIGKILL between two things that belong together changes nothing."""
    arguments = map(str, MOMENTS[moment])
    assert start("-c", DIE, *arguments, log="killed").wait() == -signal.SIGKILL
    assert start().wait() == 0, (tmp_path / "log").read_text()
    assert_ended_as(trained, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop(
    trained: dict[str, Any],
    start: Callable[..., Any],
    signum: int,
    status: int,
    tmp_path: Path,
) -> None:
    """SIGTERM and Ctrl-C end it with one line that says how to go on; then it goes on."""
    process = start()
    while not list((tmp_path / "work").glob("encoders/*/checkpoint.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signum)
    assert process.wait() == status
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("handful-train: interrupted")
    assert last.endswith("start it again to go on")
    assert start().wait() == 0
    assert_ended_as(trained, tmp_path)


@pytest.mark.slow
def test_two_processes_make_one_version(
    trained: dict[str, Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    """`torchrun` with two processes trains, says its result once, and registers one version whose
    figures are near those of one process; afterwards one process finds everything done.
    """
    status = start(
        "-m", "torch.distributed.run", "--nnodes=1", "--nproc_per_node=2", "--rdzv_backend=c10d",
        "--rdzv_endpoint=127.0.0.1:0", "--local_addr=127.0.0.1", "-m", "handful_training.cli",
        log="team",
    ).wait()  # fmt: skip
    lines = (tmp_path / "team").read_text().splitlines()
    assert status == 0, lines
    (result,) = [json.loads(line) for line in lines if line.startswith("{")]
    assert result["neg_elbo_nats"] == pytest.approx(trained["neg_elbo_nats"], rel=0.02)
    assert start().wait() == 0
    again = said(tmp_path)
    assert (again["version"], again["bundle"]) == (result["version"], result["bundle"])
