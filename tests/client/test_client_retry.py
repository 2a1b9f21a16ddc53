"""When a request is sent again, and when no more."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from handful_client import errors, retry
from handful_client.exchange import exchange
from handful_client.flow import Reply, Request, Send, Wait
from handful_client.options import Options

IMAGE = b"\xff\xd8\xff"


class Script:
    """Answers a flow as told, without sockets or time; notes what it waited for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.waits: list[float] = []
        self.sent: list[Send] = []

    def run(self, options=None, budget=None):
        flow = exchange(
            Request("POST", "/embed"), options or Options(), budget or retry.RetryBudget()
        )
        action = next(flow)
        try:
            while True:
                if isinstance(action, Wait):
                    self.waits.append(action.seconds)
                    action = flow.send(None)
                    continue
                self.sent.append(action)
                answer = self.answers.pop(0)
                action = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
        except StopIteration as stop:
            return stop.value


def reply(status, **headers):
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}")


@pytest.mark.parametrize(
    "trouble",
    [reply(408), reply(429), reply(503), errors.ConnectionFailed(""), errors.ConnectionLost("")],
)
def test_passing_troubles_are_tried_again(trouble):
    """408, 429, 503 and lost connections are tried twice more, under one request id."""
    script = Script(trouble, trouble, reply(200))
    assert script.run().status == 200
    assert len(script.waits) == 2
    assert len({attempt.headers["x-request-id"] for attempt in script.sent}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 415, 422, 500, 502, 504])
def test_other_troubles_are_not(status):
    """What another attempt cannot mend, or what would only add load, is told at once."""
    script = Script(reply(status))
    with pytest.raises(errors.HandfulError):
        script.run()
    assert script.waits == []


def test_a_timeout_is_not_tried_again():
    """A service that was too slow for an answer gets no second copy of the work."""
    script = Script(errors.TimedOut(""))
    with pytest.raises(errors.TimedOut):
        script.run()


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [(30.0, "30000"), (0.25, "250"), (1e-5, "1"), (float("inf"), "999999999")],
)
def test_the_service_is_told_until_when_somebody_waits(timeout, milliseconds):
    """Each attempt grants the service the whole of what the client waits for that attempt."""
    script = Script(reply(503), reply(200))
    script.run(Options(timeout=timeout))
    told = [attempt.headers["x-request-timeout-ms"] for attempt in script.sent]
    assert told == [milliseconds] * 2


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (2, 3), (5, 6)])
def test_attempts_are_bounded(max_retries, attempts):
    """At most `max_retries` + 1 attempts; the error says how many there were."""
    script = Script(*[reply(503)] * 9)
    with pytest.raises(errors.Unavailable) as caught:
        script.run(Options(max_retries=max_retries))
    assert len(script.sent) == caught.value.attempts == attempts
    assert (f"{attempts} attempts" in str(caught.value)) == (attempts > 1)


def test_retry_after_is_the_least_to_wait():
    """Retry-After is honoured, with jitter on top; beyond a minute the caller decides."""
    script = Script(reply(503, retry_after="7"), reply(200))
    script.run()
    assert 7 <= script.waits[0] <= 7.5
    script = Script(reply(503, retry_after="61"))
    with pytest.raises(errors.Unavailable) as caught:
        script.run()
    assert caught.value.retry_after == 61


def test_both_forms_of_retry_after():
    """Seconds and HTTP dates are understood (RFC 9110, 10.2.3); anything else says nothing."""
    now = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    assert retry.retry_after("120") == 120
    assert retry.retry_after("Sun, 22 Nov 2026 12:00:30 GMT", now=now) == 30
    assert retry.retry_after("Sun, 22 Nov 2026 11:00:00 GMT", now=now) == 0
    for nonsense in (None, "", "soon", "-1", "1.5", "²", "Sun, 99 Nov 2026"):
        assert retry.retry_after(nonsense) is None


def test_backoff_is_full_jitter_up_to_eight_seconds():
    """Delays are uniform in [0, 0.5·2^n], at most 8 s."""
    bounds = [
        (
            retry.backoff(n, uniform=lambda low, _: low),
            retry.backoff(n, uniform=lambda _, high: high),
        )
        for n in range(7)
    ]
    assert bounds == [(0, 0.5), (0, 1), (0, 2), (0, 4), (0, 8), (0, 8), (0, 8)]
    drawn = [retry.backoff(0) for _ in range(500)]
    assert max(Counter(int(delay * 10) for delay in drawn).values()) < 200  # a fifth is expected


def test_the_budget_holds_retries_to_a_tenth():
    """After the first ten, at most one retry in ten requests of the last minute."""
    now = [0.0]
    budget = retry.RetryBudget(clock=lambda: now[0])
    allowed = 0
    for second in range(1000):
        now[0] = second * 0.01  # all within one minute
        budget.request()
        allowed += budget.allows_retry()
    assert allowed == 100
    now[0] += 62
    assert [budget.allows_retry() for _ in range(11)] == [True] * 10 + [False]


def test_a_spent_budget_ends_attempts():
    """Without budget the first failure is told at once."""
    budget = retry.RetryBudget(clock=lambda: 0.0)
    while budget.allows_retry():
        pass
    script = Script(reply(503))
    with pytest.raises(errors.Unavailable):
        script.run(budget=budget)
    assert len(script.sent) == 1


def test_a_storm_adds_a_tenth_of_load():
    """Against a service that only fails, 200 calls of one client make at most 220 requests."""
    budget = retry.RetryBudget(clock=lambda: 0.0)
    sent = 0
    for _ in range(200):
        script = Script(*[reply(503)] * 3)
        with pytest.raises(errors.Unavailable):
            script.run(budget=budget)
        sent += len(script.sent)
    assert sent == 220


def test_real_troubles_on_real_sockets(server, behave, connect):
    """A hung-up, a cut-off and a refused answer are each survived by the next one."""
    sound = behave.answer(200, behave.embeddings_of(1))
    client = connect(server.url)
    for trouble in (
        behave.hang_up,
        behave.half_an_answer,
        behave.problem(429, "rate_limited", retry_after="0"),
        behave.problem(408, "body_timeout"),
    ):
        server.requests.clear()
        server.does(trouble, sound)
        assert client.embed(IMAGE).embeddings.tolist() == [[0.0, 0.0]]
        first, second = server.requests
        assert first == second


def test_a_dripping_answer_ends_at_the_timeout(server, behave, connect):
    """An answer that comes byte by byte is bounded as a whole, not read by read."""
    server.does(behave.drip)
    client = connect(server.url, timeout=0.2)
    with pytest.raises(errors.TimedOut, match=r"within 0\.2 s"):
        client.embed(IMAGE)
    assert len(server.requests) == 1
