"""A call as a generator of actions, so that its logic is written once for sync and async.

A flow yields what it wants done (`Send`, `Wait`, `Compute`), receives the outcome or has the error
thrown into it, and returns the call's result. `drive` does the actions while it blocks,
`drive_async` while it awaits. Nothing else in this package differs between the two worlds but
the order of streams.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One HTTP request, ready for the wire."""

    method: str
    path: str
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    accept: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """One whole HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Send:
    """Ask for one attempt of a request; the outcome is a `Reply`."""

    request: Request
    headers: Mapping[str, str]
    timeout: float


@dataclass(frozen=True)
class Wait:
    """Ask for a pause; there is no outcome."""

    seconds: float


@dataclass(frozen=True)
class Compute:
    """Ask for a function to be run off the event loop; the outcome is what it returns."""

    function: Callable[[], Any]


Action = Send | Wait | Compute
Flow = Generator[Action, Any, T]


class Io(Protocol):
    """What a blocking driver needs of the world."""

    def send(self, action: Send) -> Reply: ...  # noqa: D102  # the protocol's docstring says it
    def wait(self, seconds: float) -> None: ...  # noqa: D102


class AsyncIo(Protocol):
    """What an awaiting driver needs of the world."""

    async def send(self, action: Send) -> Reply: ...  # noqa: D102
    async def wait(self, seconds: float) -> None: ...  # noqa: D102
    async def compute(self, function: Callable[[], Any]) -> Any: ...  # noqa: D102


def drive(flow: Flow[T], io: Io) -> T:
    """Run a flow to its end, blocking."""

    def perform(action: Action) -> Any:
        match action:
            case Send():
                return io.send(action)
            case Wait(seconds):
                return io.wait(seconds)
            case Compute(function):
                return function()

    try:
        action = next(flow)
        while True:
            try:
                outcome = perform(action)
            except Exception as error:  # noqa: BLE001  # the flow decides which it survives
                action = flow.throw(error)
            else:
                action = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


async def drive_async(flow: Flow[T], io: AsyncIo) -> T:
    """Run a flow to its end, awaiting."""

    def perform(action: Action) -> Awaitable[Any]:
        match action:
            case Send():
                return io.send(action)
            case Wait(seconds):
                return io.wait(seconds)
            case Compute(function):
                return io.compute(function)

    try:
        action = next(flow)
        while True:
            try:
                outcome = await perform(action)
            except Exception as error:  # noqa: BLE001  # the flow decides which it survives
                action = flow.throw(error)
            else:
                action = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()
