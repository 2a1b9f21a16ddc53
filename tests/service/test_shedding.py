"""Laws of how long the queue may become, with a clock and a dispatcher that do as they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful_service.backlog import Backlog, Entry
from handful_service.errors import Overloaded
from handful_service.shedding import Shedding

FEW, TURN = 12, 4


class Service:
    """A backlog whose rows run at a given pace."""

    def __init__(self, *, seconds: float = 2.0, max_rows: int = 10_000) -> None:
        self.now = 0.0
        self.ran = 0
        self.shedding = Shedding(
            seconds=seconds, few=lambda: FEW, ran=lambda: self.ran, clock=lambda: self.now
        )
        self.backlog = Backlog(
            max_rows=max_rows, max_bytes=10**9, turn=TURN, shedding=self.shedding
        )
        self.inside: list[Entry] = []

    def arrive(self, rows: int = 1, tenant: str | None = None) -> str:
        """Let a request in; return the code of its refusal, or "" if there is none."""
        entry = self.backlog.enter().__enter__()
        if tenant is not None:
            entry.belong(tenant)
        try:
            entry.hold(rows=rows)
        except Overloaded as refusal:
            entry.__exit__(None, None, None)
            return refusal.code
        self.inside.append(entry)
        return ""

    def pass_time(self, seconds: float, pace: float = 0.0) -> None:
        """Answer `pace` requests of one row a second, the oldest first."""
        self.now += seconds
        for _ in range(round(seconds * pace)):
            if self.inside:
                self.inside.pop(0).__exit__(None, None, None)
                self.ran += 1


def overloaded(*, times: int = 10, tenant: str | None = None) -> Service:
    """A service that answers 100 a second and is asked so many times more, until it sheds."""
    service = Service()
    while not service.shedding.on:
        for _ in range(10 * times):
            service.arrive(tenant=tenant)
        service.pass_time(0.1, pace=100)
        assert service.now < 10
    return service


def test_a_burst_may_queue() -> None:
    """What arrives at once on an idle service is let in as far as the rows are bounded, since it
    is not known how long it takes.
    """
    service = Service(max_rows=2000)
    assert [service.arrive() for _ in range(2001)] == [""] * 2000 + ["overloaded"]


def test_nobody_waits_longer_than_allowed() -> None:
    """Under a load that lasts, requests are let in until one would wait for 2 s, and not beyond."""
    service = overloaded(times=3)
    assert 180 <= service.backlog.turns <= 220


def test_few_are_let_in_while_most_are_refused() -> None:
    """While shedding, the queue is kept at a few rows, and each row that ran makes room for one."""
    service = overloaded()
    while service.backlog.turns >= FEW:
        assert service.arrive() == "overloaded"
        service.pass_time(0.05, pace=100)
    service.shedding.refused()
    answers = []
    for _ in range(200):
        answers += [service.arrive() for _ in range(10)]
        assert service.backlog.turns == FEW
        service.pass_time(0.01, pace=100)
    assert answers.count("") <= 200 + FEW
    assert service.shedding.on


def test_a_second_without_refusals_ends_it() -> None:
    """When for a second nobody had to be refused, bursts may queue again."""
    service = overloaded()
    service.pass_time(5, pace=100)
    assert [service.arrive() for _ in range(100)] == [""] * 100


def test_the_pace_of_an_older_queue_says_nothing() -> None:
    """Once the queue was empty, a burst is as welcome as at first, however slow it was before."""
    service = Service()
    for _ in range(40):
        service.arrive()
        service.pass_time(0.2, pace=10)
    for _ in range(50):
        service.arrive()
    service.pass_time(4, pace=10)
    service.arrive()
    assert service.shedding.most() == pytest.approx(20, rel=0.5)
    service.pass_time(20, pace=10)
    assert [service.arrive() for _ in range(100)] == [""] * 100


def test_is_full_tells_and_counts() -> None:
    """`is_full` is true only while shedding, exactly when a single row would be refused, and is a
    refusal itself: shedding goes on.
    """
    service = Service(max_rows=3)
    for _ in range(3):
        service.arrive()
    assert not service.backlog.is_full()
    service = overloaded()
    for _ in range(30):
        service.pass_time(0.9)
        assert service.backlog.is_full()
    service.pass_time(3, pace=100)
    assert not service.backlog.is_full()
    service = overloaded()
    told, refused = [], []
    for _ in range(400):  # until there is room, and on
        service.pass_time(0.01, pace=100)
        told.append(service.backlog.is_full())
        refused.append(service.arrive() == "overloaded")
    assert told == refused
    assert set(told) == {True, False}


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40))
def test_a_request_weighs_what_it_gives_a_batch(sizes: list[int]) -> None:
    """Who comes next waits for one turn of each request before it, however large they are."""
    service = Service()
    for rows in sizes:
        assert service.arrive(rows) == ""
    assert service.backlog.turns == sum(min(rows, TURN) for rows in sizes)
    assert service.backlog.rows == sum(sizes)


def test_a_greedy_tenant_alone_is_refused() -> None:
    """Beside a tenant that asks for ten times what can be done, one that asks now and then is
    always let in once the greedy one's first burst is answered; the greedy one alone sees 429, and
    gets all that the other leaves.
    """
    service = overloaded(tenant="greedy")
    answers: dict[str, list[str]] = {"greedy": [], "modest": []}
    for step in range(1500):
        greedy = [service.arrive(tenant="greedy") for _ in range(10)]
        modest = [service.arrive(tenant="modest")] if step % 20 == 0 else []
        if step >= 500:
            answers["greedy"] += greedy
            answers["modest"] += modest
        service.pass_time(0.01, pace=100)
    assert answers["modest"] == [""] * 50
    assert set(answers["greedy"]) == {"", "share_exceeded"}
    assert answers["greedy"].count("") >= 900


@pytest.mark.parametrize("tenants", [1, 2, 3])
def test_shares(tenants: int) -> None:
    """n tenants that ask for all get an equal part of n / (n + 1) of the queue: the next one finds
    room.
    """
    service = Service(max_rows=120)
    for _ in range(120):
        for tenant in range(tenants):
            service.arrive(tenant=str(tenant))
        if service.shedding.on:  # the bound in question is that of the rows
            service.pass_time(2)
            service.shedding.on = False
    held = service.backlog.rows
    assert abs(held - 120 * tenants / (tenants + 1)) <= tenants
    assert service.arrive(tenant="another") == ""


def test_one_request_of_a_tenant_may_be_large() -> None:
    """A share bounds many requests, not one: a tenant's only request may fill the queue."""
    service = Service(max_rows=128)
    assert service.arrive(128, tenant="a") == ""
    assert service.arrive(1, tenant="b") == "overloaded"


def test_a_tenant_is_forgotten_with_its_last_request() -> None:
    """Of tenants that were there nothing is kept, however many there were."""
    service = Service()
    for number in range(1000):
        service.arrive(tenant=str(number))
    service.pass_time(1, pace=1000)
    assert not service.backlog._tenants
    assert (service.backlog.rows, service.backlog.turns, service.backlog.bytes) == (0, 0, 0)
