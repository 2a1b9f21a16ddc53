"""A stage is made once, by one run at a time, and what a killed run left of it is cleared away."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handful_training.errors import TrainingError
from handful_training.pipeline.work import DONE, disk_errors, open_stage

# Another run: takes the stage, says so, and finishes it when it is told to.
OTHER = """
import sys, pathlib
from handful_training.pipeline.work import open_stage
stage = open_stage(pathlib.Path(sys.argv[1]), "heads", {"seed": 0})
assert stage.result() is None
print("mine", flush=True)
sys.stdin.readline()
stage.finish({"by": "the other"})
"""


def other(work: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(work)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def test_a_finished_stage_is_found_by_content(tmp_path: Path) -> None:
    """What was finished is found under the same content only, and forgotten by force."""
    stage = open_stage(tmp_path, "heads", {"seed": 0})
    assert stage.result() is None
    stage.finish({"C": 1.0})
    assert open_stage(tmp_path, "heads", {"seed": 0}).result() == {"C": 1.0}
    assert open_stage(tmp_path, "heads", {"seed": 1}).result() is None
    assert open_stage(tmp_path, "heads", {"seed": 0}, force=True).result() is None


def test_two_runs_make_a_stage_once(tmp_path: Path) -> None:
    """The second waits for the first, and finds what that has made."""
    process = other(tmp_path)
    waiter = subprocess.Popen(
        [sys.executable, "-c", OTHER.replace("is None", "== {'by': 'the other'}"), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(1.0)
    process.communicate("\n")
    assert waiter.communicate("\n")[0] == "mine\n"
    assert process.returncode == waiter.returncode == 0


def test_a_killed_run_holds_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """After a SIGKILL the next run has the stage at once, without what was half written."""
    process = other(tmp_path)
    stage = open_stage(tmp_path, "heads", {"seed": 0})
    (stage.folder / ".bundle.abc").mkdir()
    (stage.folder / ".bundle.abc" / "encoder.onnx").write_bytes(b"half")
    (stage.folder / f".{DONE}.tmp").write_text("{")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert stage.result() is None
    assert list(stage.folder.iterdir()) == []
    stage.finish({})
    assert [path.name for path in stage.folder.iterdir()] == [DONE]


def test_a_full_disk_is_told_with_the_remedy(tmp_path: Path) -> None:
    """What cannot be written ends in one message; a stage that is not marked is not finished."""
    stage = open_stage(tmp_path, "heads", {"seed": 0})
    assert stage.result() is None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(TrainingError, match="HANDFUL_WORK"):
            stage.finish({"text": "x" * 10_000})
        with pytest.raises(TrainingError, match="start it again"), disk_errors():
            (tmp_path / "plot.png").write_bytes(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stage.result() is None
    assert list(stage.folder.iterdir()) == []


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    """A file that is missing is nobody's disk."""
    with pytest.raises(FileNotFoundError), disk_errors():
        (tmp_path / "nothing").read_bytes()


def test_a_folder_that_may_not_be_written_is_told() -> None:
    """Where no folder can be made, the message names HANDFUL_WORK; /proc refuses even root."""
    with pytest.raises(TrainingError, match="HANDFUL_WORK"):
        open_stage(Path("/proc/handful"), "heads", {"seed": 0})
