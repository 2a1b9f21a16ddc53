"""Runs whose process was killed, in a real MLflow on sqlite, with real processes."""

import os
import signal
import subprocess
import sys

import pytest

from handful_training.tracking import Tracker

HANG = """
import sys
from pathlib import Path
from handful_training.tracking import Tracker
tracker = Tracker.open(work=Path(sys.argv[1]))
with tracker.run("animals", title="run") as run, run.child("pretrain") as child:
    print(run.id, child.id, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def command(database, tmp_path):
    """Return the function that starts a command which has two runs open; gives it and their ids."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", HANG, str(tmp_path / "work")],
            env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def opened(database, tmp_path):
    """Return the function that opens MLflow as the next command in the same work folder would."""
    return lambda: Tracker.open(f"sqlite:///{database}", work=tmp_path / "work")


def statuses(tracker, ids):
    return [tracker._store.client.get_run(run_id).info.status for run_id in ids]


def test_the_runs_of_a_killed_command_are_marked_at_the_next_start(command, opened, tmp_path):
    """SIGKILL leaves command and stage RUNNING; the next command marks both KILLED, once, and
    leaves the runs of a command that lives alone.
    """
    dead, dead_runs = command()
    alive, alive_runs = command()
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    tracker = opened()
    assert statuses(tracker, dead_runs) == ["KILLED", "KILLED"]
    tags = tracker._store.client.get_run(dead_runs[0]).data.tags
    assert tags["handful.error"] == "the process died"
    assert statuses(tracker, alive_runs) == ["RUNNING", "RUNNING"]
    assert len(list((tmp_path / "work" / "open-runs").iterdir())) == 1
    alive.communicate("end\n")
    assert statuses(tracker, alive_runs) == ["FINISHED", "FINISHED"]
    opened()
    assert statuses(tracker, alive_runs) == ["FINISHED", "FINISHED"]
    assert list((tmp_path / "work" / "open-runs").iterdir()) == []


def test_another_mlflow_is_not_asked(command, tmp_path, template):
    """A command that talks to another MLflow leaves the file to one that talks to this."""
    dead, _ = command()
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    other = tmp_path / "other.db"
    other.write_bytes(template.path.read_bytes())
    Tracker.open(f"sqlite:///{other}", work=tmp_path / "work")
    assert len(list((tmp_path / "work" / "open-runs").iterdir())) == 1


def test_a_run_made_twice_by_a_lost_answer_is_closed_too(opened):
    """MLflow repeats a request whose answer was lost; the run that nobody knows of ends with the
    command.
    """
    tracker = opened()
    with tracker.run("animals") as run:
        client = tracker._store.client
        tags = client.get_run(run.id).data.tags
        twin = client.create_run(run.experiment, tags={"handful.process": tags["handful.process"]})
    assert statuses(tracker, [run.id, twin.info.run_id]) == ["FINISHED", "KILLED"]


def test_a_command_that_fails_is_failed_and_not_killed(opened):
    """What went wrong with the command itself keeps its own word."""
    tracker = opened()
    with pytest.raises(ValueError, match="no"), tracker.run("animals") as run:
        raise ValueError("no")
    again = opened()
    assert statuses(again, [run.id]) == ["FAILED"]
