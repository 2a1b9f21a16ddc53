"""Laws of the bound on what the service has taken in."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful_service.backlog import Backlog
from handful_service.errors import Overloaded
from handful_service.shedding import Shedding


def make(**limits: int) -> Backlog:
    """A backlog that is never slow."""
    shedding = Shedding(seconds=float("inf"), few=lambda: 1000, ran=lambda: 0)
    return Backlog(turn=8, shedding=shedding, **limits)


HOLDS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 70)), max_size=30)


@given(HOLDS)
def test_never_beyond_its_bounds(holds: list[tuple[int, int]]) -> None:
    """Whatever is asked for, no more is held than the bounds allow, and the end of all requests
    frees all of it.
    """
    backlog = make(max_rows=20, max_bytes=200)
    with contextlib.ExitStack() as stack:
        for rows, size in holds:
            with contextlib.suppress(Overloaded):
                stack.enter_context(backlog.enter()).hold(rows=rows, size=size)
            assert 0 <= backlog.rows <= 20
            assert 0 <= backlog.bytes <= 200
    assert (backlog.rows, backlog.bytes) == (0, 0)


@pytest.mark.parametrize("more", [{"rows": 3}, {"size": 30}, {"rows": 1, "size": 30}])
def test_refusal_holds_nothing(more: dict[str, int]) -> None:
    """What does not fit is refused whole: a client is told when to come back, nothing is held."""
    backlog = make(max_rows=4, max_bytes=40)
    with backlog.enter() as entry:
        entry.hold(rows=2, size=20)
        with pytest.raises(Overloaded) as refused, backlog.enter() as other:
            other.hold(**more)
        assert (backlog.rows, backlog.bytes) == (2, 20)
    assert refused.value.kind.status == 503
    assert refused.value.kind.retryable
    assert refused.value.headers["Retry-After"] == "1"
