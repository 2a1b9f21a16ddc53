"""Keeps the processes that serve running: a small parent that holds the listening socket.

A decoder that kills its process takes the requests in flight along, and nothing else: who connects
meanwhile waits in the socket's backlog until the next process accepts. The parent imports nothing
but this and knows no settings; what it has to know the processes tell it, a line each:

    parent ──fork──► process ──"listening WORKERS SECONDS" and the socket──► parent
                             ──"serving"──►
                             ──"closing"──►        the port closes, and the parent's copy with it
                             ◄──end of file──      the parent is gone: stop as on SIGTERM
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

QUICK_SECONDS = 10.0  # who ends abnormally after serving for less is not worth another try …
QUICK_ENDS = 5  # … when it happens so often in a row
_FIRST_WAIT = 0.5  # seconds; doubled for each further quick end, after one without a wait
_MARGIN_SECONDS = 5.0  # beyond what a process may take to stop, before it is killed


class Post:
    """What a process that serves knows of its supervisor, and tells it.

    Args:
        channel: to the supervisor; None: there is none.
        listener: the socket that a process before this one opened.
        restarts: processes so far that took the place of one that had ended abnormally.
        cause: how the one before this one ended; None: there was none.
    """

    def __init__(
        self,
        channel: socket.socket | None = None,
        listener: socket.socket | None = None,
        restarts: int = 0,
        cause: str | None = None,
    ) -> None:
        self._channel = channel
        self.listener = listener
        self.restarts = restarts
        self.cause = cause

    def listening(self, listener: socket.socket, workers: int, stop_seconds: float) -> None:
        """Hand over the socket.

        Args:
            listener: an open port, kept open by the supervisor from now on.
            workers: processes that are to serve it.
            stop_seconds: that a process may take to stop.
        """
        self.listener = listener
        if self._channel is not None:
            line = f"listening {workers} {stop_seconds}\n".encode()
            socket.send_fds(self._channel, [line], [listener.fileno()])

    def serving(self) -> None:
        """Requests are answered from now on. Call it where signals are handled already."""
        if self._channel is not None:
            self._say(b"serving\n")
            threading.Thread(target=self._stop_with_parent, name="parent", daemon=True).start()

    def closing(self) -> None:
        """The port closes, on purpose."""
        self._say(b"closing\n")

    def _say(self, line: bytes) -> None:
        if self._channel is not None:
            with suppress(OSError):  # the parent is gone, which the thread below notices
                self._channel.sendall(line)

    def _stop_with_parent(self) -> None:
        assert self._channel is not None
        with suppress(OSError):
            self._channel.recv(1)  # until it is gone: it never says anything
        os.kill(os.getpid(), signal.SIGTERM)


class _Seat:
    """One place for a process that serves, and who has it now."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.due: float | None = 0.0  # when the next process is to be started
        self.cause: str | None = None
        self.quick_ends = 0
        self._channel: socket.socket | None = None
        self._said = b""
        self._serving_since: float | None = None

    def taken(self, pid: int, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.pid, self._channel, self.due = pid, channel, None
        self._said, self._serving_since = b"", None

    @property
    def channels(self) -> list[socket.socket]:
        return [] if self._channel is None else [self._channel]

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def read(self) -> Iterator[tuple[list[str], list[int]]]:
        """Yield what the process has said since the last time: words, and files with them."""
        while self._channel is not None:
            try:
                data, files, *_ = socket.recv_fds(self._channel, 4096, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                data, files = b"", []
            if not data:
                self.close()
            *lines, self._said = (self._said + data).split(b"\n")
            for line in lines:
                if line == b"serving":
                    self._serving_since = time.monotonic()
                yield line.decode().split(), files

    def vacate(self, cause: str) -> None:
        """The process has ended: the next is due, later each time that it serves too shortly."""
        now = time.monotonic()
        since, self.pid, self.cause = self._serving_since, None, cause
        self.close()
        quick = since is None or now - since < QUICK_SECONDS
        self.quick_ends = self.quick_ends + 1 if quick else 0
        wait = _FIRST_WAIT * 2 ** (self.quick_ends - 2) if self.quick_ends > 1 else 0.0
        self.due = now + wait


def supervise() -> Post:
    """Return in each process that is to serve.

    The parent never returns but exits: with 0 after SIGTERM or SIGINT, with the status of a process
    that ended before any had served, and with 1 when one ends again and again.
    """
    return _Supervisor().run()


class _Supervisor:
    def __init__(self) -> None:
        self._seats = [_Seat()]
        self._listener: socket.socket | None = None
        self._stop_seconds = 0.0
        self._restarts = 0
        self._served = self._asked = self._stopping = False
        self._kill_at: float | None = None
        self._status = 0
        self._woken, self._wake = socket.socketpair()

    def run(self) -> Post:
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        handlers = {number: signal.signal(number, self._signalled) for number in numbers}
        while any(seat.pid or seat.due is not None for seat in self._seats):
            for seat in self._seats:
                if seat.due is not None and seat.due <= time.monotonic():
                    post = self._start(seat, handlers)
                    if post is not None:
                        return post
            self._wait()
            for seat in self._seats[:]:
                self._follow(seat)
            self._bury()
            if self._asked:
                self._stop()
        sys.exit(self._status)

    def _signalled(self, number: int, _frame: object) -> None:
        self._asked |= number != signal.SIGCHLD

    def _start(self, seat: _Seat, handlers: Mapping[signal.Signals, Any]) -> Post | None:
        """Start a process; return its post there, and None here."""
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, handlers)  # none is lost between the two
        pid = os.fork()
        if pid:
            theirs.close()
            seat.taken(pid, ours)
        else:
            for mine in (ours, self._woken, self._wake):
                mine.close()
            for other in self._seats:  # else they would not see the parent's end
                other.close()
            signal.set_wakeup_fd(-1)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
        return None if pid else Post(theirs, self._listener, self._restarts, seat.cause)

    def _wait(self) -> None:
        """Sleep until a process says or does something, a signal comes, or something is due."""
        times = [seat.due for seat in self._seats if seat.due is not None]
        times += [] if self._kill_at is None else [self._kill_at]
        now = time.monotonic()
        timeout = max(0.0, min(times) - now) if times else None
        files = [self._woken, *(channel for seat in self._seats for channel in seat.channels)]
        select.select(files, [], [], timeout)
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            self._send(signal.SIGKILL)

    def _follow(self, seat: _Seat) -> None:
        for words, files in seat.read():
            match words:
                case ["listening", workers, seconds]:
                    self._listener = socket.socket(fileno=files[0])
                    self._stop_seconds = float(seconds)
                    self._seats += [_Seat() for _ in range(int(workers) - len(self._seats))]
                case ["serving"]:
                    self._served = True
                case ["closing"]:
                    self._stop()
                    if self._listener is not None:
                        self._listener.close()

    def _bury(self) -> None:
        """Take note of who has ended; as process 1 also of who was left behind by others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for seat in self._seats:
                if seat.pid == pid:
                    self._follow(seat)
                    self._ended(seat, os.waitstatus_to_exitcode(status))

    def _ended(self, seat: _Seat, code: int) -> None:
        """Judge an end: `code` is an exit status, or a signal's number below 0."""
        seat.vacate(ending(code))
        if self._stopping:
            seat.due = None
            if code not in (0, -signal.SIGTERM, -signal.SIGINT):
                self._status = self._status or (code if code > 0 else 128 - code)
        elif code == 0 or (code > 0 and not self._served):  # on purpose, or for good
            self._status = code
            self._stop()
        elif seat.quick_ends >= QUICK_ENDS:
            self._status = 1
            sys.stderr.write(
                f"handful-serve: {QUICK_ENDS} times in a row a process ended before it had served "
                f"for {QUICK_SECONDS:g} s, last by {seat.cause}; the lines above say what it was "
                "doing. Serve another version, or look at what is sent\n"
            )
            self._stop()
        else:
            self._restarts += 1

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for seat in self._seats:
            seat.due = None
        self._kill_at = time.monotonic() + self._stop_seconds + _MARGIN_SECONDS
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for seat in self._seats:
            if seat.pid is not None:
                os.kill(seat.pid, number)


def ending(code: int) -> str:
    """Return how a process ended: `code` is its exit status, or a signal's number below 0."""
    try:
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:  # a signal without a name
        return f"signal {-code}"
