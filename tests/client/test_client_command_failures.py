"""`handful embed|classify` when it cannot: exit status, one line, and no half output."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from handful_client.cli import main
from handful_client.command.atomic import replacing
from handful_client.command.progress import ProgressDisplay
from handful_client.errors import InputError

COMMAND = [sys.executable, "-m", "handful_client"]


@pytest.fixture
def folder(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(200):
        (tmp_path / "photos" / f"{index:03}.png").write_bytes(photos[index % len(photos)])
    return tmp_path


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "photos")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "--help"),
        (["embed"], "FILES"),
        (["embed", "photos", "--no-such-flag"], "--help"),
        (["embed", "no such folder"], "check the path"),
        (["embed", "photos", "-o", "out.xlsx"], "name it .parquet, .csv or .npy"),
        (["classify", "photos", "-o", "out.npy"], "name it .parquet or .csv"),
        (["classify", "photos", "-o", "-", "--json"], "give -o a file"),
        (["embed", "photos", "--batch-size", "0"], "less than 1"),
        (["embed", "photos", "--timeout", "-1"], "positive number of seconds"),
        (["embed", "photos", "--url", "nonsense"], "write it like http"),
        (["embed", "photos", "--url", "http://h", "--bundle", "b"], "not allowed with"),
        (["embed", "photos", "--bundle", "photos"], "handful-train export"),
        (["embed", ".hidden"], "check the path"),
    ],
)
def test_bad_usage_and_input(folder, capsys, arguments, remedy):
    """Bad usage or input is status 2 and one line on standard error that names the remedy."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("handful: ")
    assert remedy in printed.err
    assert printed.out == ""
    assert left_behind(folder) == []


def test_an_empty_folder(folder, service, capsys):
    """A folder without images is bad input, told with what was looked for."""
    (folder / "photos" / "empty").mkdir()
    assert main(["embed", "photos/empty", "--url", service]) == 2
    assert ".jpeg" in capsys.readouterr().err


def test_nobody_there(folder, capsys):
    """A service that does not answer is status 1, with how to start it."""
    assert main(["embed", "photos", "--url", "http://127.0.0.1:1", "-o", "out.csv"]) == 1
    assert "handful-serve" in capsys.readouterr().err
    assert left_behind(folder) == []


def test_outputs_that_cannot_be(folder, service, capsys):
    """An output that cannot be written is told before the work is done."""
    for name in ("no/such/folder/out.csv", "photos/sub.csv"):
        (folder / "photos" / "sub.csv").mkdir(exist_ok=True)
        assert main(["embed", "photos", "--url", service, "-o", name]) == 2
        assert "name a f" in capsys.readouterr().err


def test_a_service_that_fails_midway_leaves_the_old_output(folder, server, behave, capsys):
    """When the service fails midway the output that was there stays, and nothing else is left."""
    (folder / "out.csv").write_text("the old one")
    (folder / "out.npy").write_text("the old one")
    model = behave.answer(200, behave.model_answer())
    sound = behave.answer(200, behave.embeddings_of(64))
    for name in ("out.csv", "out.npy"):
        server.does(model, sound, behave.problem(500, "internal_error"))
        assert main(["embed", "photos", "--url", server.url, "-o", name]) == 1
        assert "internal_error" in capsys.readouterr().err
        assert (folder / name).read_text() == "the old one"
        assert left_behind(folder) == ["out.csv", "out.npy"]
    server.does(model, sound, behave.problem(500, "internal_error"))
    assert main(["embed", "photos", "--url", server.url, "--json"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("number", "ignored"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
def test_a_stopped_command_leaves_the_old_output(folder, server, behave, number, ignored):
    """Stopped midway: status 1, one line, the old output, no temporary file, no waiting.

    Shells start their background jobs with SIGINT ignored; SIGTERM stops those, too.
    """
    (folder / "out.parquet").write_text("the old one")
    model = behave.answer(200, behave.model_answer())
    server.does(model, behave.answer(200, behave.embeddings_of(64)), behave.drip)
    arguments = ["embed", "photos", "--url", server.url, "-o", "out.parquet"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    finally:
        if ignored:
            signal.signal(signal.SIGINT, before)
    with process:
        while len(server.requests) < 3:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.count("\n") == 1
    assert "run it again" in complaint
    assert (folder / "out.parquet").read_text() == "the old one"
    assert left_behind(folder) == ["out.parquet"]


def test_a_reader_that_has_enough(folder, service):
    """`handful … | head` ends quietly."""
    command = " ".join([*COMMAND, "embed", "photos", "--url", service])
    done = subprocess.run(
        f"{command} | head -n 1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("path,error,e0")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_as_a_process(folder, service):
    """The command as users run it: one JSON object on standard output, status 0."""
    environment = {**os.environ, "HANDFUL_URL": service}
    command = [*COMMAND, "classify", "photos", "-o", "out.csv", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["images"] == 200
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"handful: 200 images, 0 failed, [\d.]+ s", last)


def test_replacing_is_all_or_nothing(tmp_path):
    """A file appears whole, with ordinary permissions, through links; or stays as it was."""
    path, link = tmp_path / "a.csv", tmp_path / "link.csv"
    link.symlink_to(path)
    with replacing(link) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert link.is_symlink()
    assert path.read_text() == "new"
    path.chmod(0o640)
    with replacing(path) as temporary:
        temporary.write_text("newer")
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "newer"
    assert sorted(tmp_path.iterdir()) == [path, link]
    with pytest.raises(InputError, match="no plain file"), replacing(tmp_path):
        pass


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_and_elsewhere():
    """A terminal gets a bar, a file a line every ten seconds; quick work is not told."""
    for stream, after, count in ((Terminal(), 1.5, 2), (io.StringIO(), 10.5, 1)):
        now = [0.0]
        display = ProgressDisplay(stream, 100, clock=lambda now=now: now[0])
        now[0] = 0.9
        display.update(10, 0)
        assert stream.getvalue() == ""
        now[0] = after
        display.update(50, 3)
        display.update(51, 3)  # too soon
        now[0] += 0.2
        display.update(60, 3)
        display.clear()
        assert stream.getvalue().count(" of 100 images, 3 failed") == count
        assert stream.getvalue().count("\n") == (0 if stream.isatty() else 1)
        assert ("█" in stream.getvalue()) == stream.isatty()
