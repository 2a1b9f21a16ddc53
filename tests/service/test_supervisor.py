"""The parent of the processes that serve: whom it replaces, whom it does not, how all ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 60.0
# What every process does that is supervised here: it says who it is, listens, and accepts; what
# else it does stands in BODY. Waits are short, so that tests are.
PROGRAM = """
import os, signal, socket, sys, time
from handful_service import supervisor
supervisor._FIRST_WAIT, supervisor._MARGIN_SECONDS = 0.01, 0.3
PREPARE
post = supervisor.supervise()

def listen(workers=1, seconds=0.0):
    if post.listener is None:
        post.listening(socket.create_server(("127.0.0.1", 0)), workers, seconds)
    print("port", post.listener.getsockname()[1], flush=True)

def answer(times=10**9):
    for _ in range(times):
        connection, _ = post.listener.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()

print("start", os.getpid(), post.restarts, post.cause, flush=True)
BODY
"""
Run = Callable[..., "Running"]


class Running:
    """A supervised program."""

    def __init__(self, body: str, prepare: str, folder: Path) -> None:
        self.out, self.err = folder / "out", folder / "err"
        program = PROGRAM.replace("BODY", body).replace("PREPARE", prepare)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-c", program]
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    def said(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.out.read_text())

    @property
    def starts(self) -> list[int]:
        return [int(pid) for pid in self.said(r"start (\d+)")]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.out.read_text() + self.err.read_text()
            time.sleep(0.01)

    def end(self) -> int:
        return self.process.wait(PATIENCE)

    def ask(self) -> int:
        """The pid of whoever answers; fails where nobody may connect."""
        port = int(self.said(r"port (\d+)")[0])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            return int(connection.recv(100))


def alive(pid: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start supervised programs that live until the test ends."""
    started: list[Running] = []

    def start(body: str, prepare: str = "") -> Running:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Running(body, prepare, folder))
        return started[-1]

    yield start
    for program in started:
        if program.process.poll() is None:
            program.process.terminate()
            program.process.wait(PATIENCE)


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_status_before_serving_is_the_command_s(run: Run, status: int) -> None:
    """Settings or a model that cannot be used end the command at once, with that status."""
    program = run(f"sys.exit({status})")
    assert program.end() == status
    assert len(program.starts) == 1


def test_a_process_that_ends_on_purpose_is_not_replaced(run: Run) -> None:
    """Status 0 after serving is the end of the command, and is its status."""
    program = run("listen(); post.serving(); sys.exit(0)")
    assert program.end() == 0
    assert len(program.starts) == 1


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os._exit(70)", "exit status 70"),
        ("raise RuntimeError", "exit status 1"),
    ],
)
def test_a_process_that_dies_is_replaced(run: Run, death: str, cause: str) -> None:
    """After serving, any end but status 0 is followed by another process, which is told why."""
    program = run(f"listen(); post.serving()\nif post.restarts < 3: {death}")
    assert program.end() == 0
    assert program.said(r"start \d+ (.*)") == ["0 None", *(f"{n} {cause}" for n in (1, 2, 3))]


def test_dying_again_and_again_ends_the_command(run: Run) -> None:
    """Five quick ends in a row are enough: status 1, one line that says how the last one ended."""
    program = run("listen(); post.serving(); os.kill(os.getpid(), signal.SIGSEGV)")
    assert program.end() == 1
    assert len(program.starts) == 5
    (line,) = program.err.read_text().splitlines()
    assert line.startswith("handful-serve: 5 times in a row")
    assert "SIGSEGV" in line


def test_a_crash_before_serving_is_tried_again(run: Run) -> None:
    """A signal is no verdict on the settings, also where nobody has served yet."""
    program = run("os.kill(os.getpid(), signal.SIGSEGV)")
    assert program.end() == 1
    assert len(program.starts) == 5


def test_who_served_long_enough_is_always_replaced(run: Run) -> None:
    """Ends that are no quick ones do not add up."""
    program = run(
        "listen(); post.serving()\nif post.restarts < 8: os.kill(os.getpid(), signal.SIGSEGV)",
        prepare="supervisor.QUICK_SECONDS = 0.0",
    )
    assert program.end() == 0
    assert len(program.starts) == 9


def test_a_failure_to_start_again_is_tried_again(run: Run) -> None:
    """Once one has served, also a status before serving is an end like any other."""
    program = run("if post.restarts in (1, 2): sys.exit(1)\nlisten(); post.serving()\n"
                  "if post.restarts == 0: os._exit(70)")  # fmt: skip
    assert program.end() == 0
    assert len(program.starts) == 4


def test_who_connects_meanwhile_waits(run: Run) -> None:
    """Between two processes the port stays open: who connects is answered by the next one."""
    program = run(
        "listen(); post.serving()\nif post.restarts == 0: answer(1); os._exit(70)\nanswer()"
    )
    program.until(lambda: program.said(r"port (\d+)"))
    first = program.ask()
    others: list[int] = []
    threads = [threading.Thread(target=lambda: others.append(program.ask())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert program.starts[0] == first
    assert others == [program.starts[1]] * 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_process(run: Run, number: int) -> None:
    """SIGTERM and SIGINT become one SIGTERM there, and its good end is the command's."""
    program = run(
        "signal.signal(signal.SIGTERM, lambda *_: (print('told', flush=True), sys.exit(0)))\n"
        "listen(); post.serving(); answer()"
    )
    program.until(lambda: program.said(r"port (\d+)"))
    program.ask()
    program.process.send_signal(number)
    assert program.end() == 0
    assert program.said("told") == ["told"]
    assert len(program.starts) == 1


def test_stopping_while_it_starts(run: Run) -> None:
    """SIGTERM before anything serves ends the command with status 0."""
    program = run("time.sleep(1000)")
    program.until(lambda: program.starts)
    program.process.terminate()
    assert program.end() == 0


def test_who_does_not_stop_is_killed(run: Run) -> None:
    """A process that hangs beyond the time that it asked for is killed, and the status says so."""
    program = run(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); listen(1, 0.2); post.serving(); answer()"
    )
    program.until(lambda: program.said(r"port (\d+)"))
    program.ask()
    program.process.terminate()
    assert program.end() == 128 + signal.SIGKILL


def test_a_port_that_closes_is_closed(run: Run) -> None:
    """When the process stops accepting, connections are refused while it still answers others."""
    program = run(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); listen(1, 60); post.serving(); answer(1)\n"
        "post.closing(); post.listener.close(); time.sleep(1000)"
    )
    program.until(lambda: program.said(r"port (\d+)"))
    (pid,) = program.starts
    assert program.ask() == pid

    def refused() -> bool:
        try:
            program.ask()
        except ConnectionRefusedError:
            return True
        except (ConnectionResetError, ValueError):  # it came just before the port closed
            return False
        raise AssertionError("somebody answers")

    program.until(refused)
    assert program.process.poll() is None
    os.kill(pid, signal.SIGKILL)
    assert program.end() == 128 + signal.SIGKILL
    assert len(program.starts) == 1


def test_workers_are_replaced_one_by_one(run: Run) -> None:
    """With several processes each has a place of its own, and one's death leaves the others."""
    program = run("listen(3, 1); post.serving(); answer()")
    program.until(lambda: len(program.starts) == 3)
    gone, *others = program.starts
    program.until(lambda: gone in {program.ask() for _ in range(5)})
    os.kill(gone, signal.SIGSEGV)
    program.until(lambda: len(program.starts) == 4)
    assert all(alive(pid) for pid in (*others, program.starts[3]))
    answered = {program.ask() for _ in range(50)}
    assert answered <= {*others, program.starts[3]}
    program.process.terminate()
    assert program.end() == 0
    assert not any(map(alive, program.starts))


def test_a_parent_that_is_killed_takes_the_processes_along(run: Run) -> None:
    """Nobody goes on serving whom nobody would stop."""
    program = run("listen(2, 1); post.serving(); answer()")
    program.until(lambda: len(program.starts) == 2)
    program.until(lambda: {program.ask() for _ in range(5)} == set(program.starts))
    program.process.kill()
    program.end()
    program.until(lambda: not any(map(alive, program.starts)))


def test_the_parent_is_small(server) -> None:
    """It holds at most 20 MiB: none of what serves, and is loaded there, was imported by it."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    assert int(kibibytes) <= 20 * 1024
    parent, serving = (
        Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, server.pid)
    )
    for library in ("onnxruntime", "pydantic"):
        assert library in serving
        assert library not in parent
