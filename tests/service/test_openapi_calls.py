"""What the OpenAPI document promises, thousands of generated calls find kept: by examples, by each
boundary of each schema, and at random, right and wrong alike.

HANDFUL_CALLS=10000 makes more of them (`make fuzz`). Beside schemathesis' own checks, those below
hold every answer to what its document cannot say.
"""

import io
import os
import random
import secrets
import zlib
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pytest
import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import events, from_schema

from handful_service.errors import KINDS, PROBLEM_JSON, problem_type

CALLS = int(os.environ.get("HANDFUL_CALLS", "700"))
SHARES = {"whole": 0.75, "keyed": 0.1, "locked": 0.05, "bare": 0.1}
BOUNDARIES = 500  # calls that the boundaries of all schemas take; fewer are made at random only
E, D, LABEL = 8, 4, "cat"  # of the complete small bundle
KEY = secrets.token_urlsafe(32)
# Good as far as a schema can tell; what is in a file, and what a model knows, it cannot.
UNFORESEEN = {
    *(code for code in KINDS if code.startswith("image_")),
    *("npy_invalid", "items_failed", "label_unknown", "space_mismatch", "too_many_items"),
    *("deadline_exceeded", "no_head", "no_decoder", "no_classes"),
}
SPACES: dict[str, str] = {}  # base URL → the space of its model
LOCKED: set[str] = set()  # base URLs that are called without a key
ACCEPTS = ("*/*", "application/json", "application/x-npy", "image/png", "text/html", "")
# Of HTTP itself, not of the operation.
COMMON_HEADERS = {"content-length", "content-type", "date"}
SOON = 10_000  # ms; who gives more time is answered in time


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def damaged(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes(8) + data[half + 8 :]


def some(*whole: bytes) -> st.SearchStrategy[bytes]:
    """Whole files, broken ones, and bytes."""
    return st.sampled_from(whole) | st.sampled_from(whole).map(damaged) | st.binary(max_size=99)


for one in ("jpeg", "png", "webp"):
    schemathesis.openapi.media_type(f"image/{one}", some(picture(one), picture("png")))
schemathesis.openapi.media_type(
    "application/x-npy",
    some(
        npy(np.zeros((2, 16, 16, 3), np.uint8)),
        npy(np.zeros((28, 28, 1), np.uint8)),
        npy(np.ones((3, D), np.float32)),
        npy(np.full((1, D), np.nan, np.float32)),
    ),
)


@schemathesis.hook
def before_call(context, case, kwargs) -> None:
    """Give what no schema can know: the model's sizes, labels and space; and ask for all forms."""
    dice = random.Random(zlib.crc32(repr((case.query, case.body)).encode()))  # the same each time
    if case.headers is not None and "Accept" not in case.headers:
        case.headers["Accept"] = dice.choice(ACCEPTS)
    if not isinstance(case.body, dict):
        return
    body = case.body
    for name, size in (("latents", D), ("embeddings", E)):
        rows = body.get(name)
        if isinstance(rows, list) and all(isinstance(row, list) for row in rows):
            body[name] = [(row + [0.5] * size)[:size] for row in rows]
    if isinstance(body.get("label"), str) and dice.random() < 0.8:
        body["label"] = LABEL
    if isinstance(body.get("space"), str) and dice.random() < 0.8:
        body["space"] = SPACES[case.operation.base_url.rstrip("/")]
    if type(body.get("count")) in (int, float) and body["count"] > 50:
        body["count"] = dice.choice((1, 50, 5000))


@schemathesis.hook
def filter_failure(context, failure, case, response) -> bool:
    """In a multipart body any value of `images`, numbers too, is one part: as good as a file."""
    taken = isinstance(failure, AcceptedNegativeData) and case.media_type == "multipart/form-data"
    return not (taken and set(case.body) == {"images"})


@schemathesis.check
def good_data_are_taken(ctx, response, case) -> None:
    """What the document allows is refused only for what no document can tell."""
    if case.meta.generation.mode.is_positive and response.status_code >= 400:
        code = response.json()["code"]
        locked = code == "unauthorized" and case.operation.base_url.rstrip("/") in LOCKED
        assert locked or code in UNFORESEEN, f"good data were refused: {response.text}"


@schemathesis.check
def problems_are_whole(ctx, response, case) -> None:
    """Every failure is a problem of the table, known by the answer's own id."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == [PROBLEM_JSON], "no problem+json"
    problem = response.json()
    kind = KINDS[problem["code"]]
    assert problem["type"] == problem_type(problem["code"])
    assert (problem["status"], problem["title"]) == (response.status_code, kind.title)
    assert problem["retryable"] == kind.retryable
    assert [problem["request_id"]] == response.headers["x-request-id"]


@schemathesis.check
def ours_is_no_fault(ctx, response, case) -> None:
    """A deadline is missed only where one was set."""
    if response.status_code == 504:
        assert int(case.headers["X-Request-Timeout-Ms"]) < SOON, "late without a deadline"


@schemathesis.check
def headers_are_documented(ctx, response, case) -> None:
    """No answer bears a header that its document does not name."""
    if response.status_code == 405:  # belongs to no operation
        return
    found = case.operation.responses.find_by_status_code(response.status_code)
    documented = {name.lower() for name, _ in found.headers.items()}
    assert set(response.headers) <= documented | COMMON_HEADERS, "undocumented headers"


def run(url: str, calls: int, seed: int, headers: dict[str, str]) -> Iterator[tuple]:
    """Make about as many calls; yield label, status and failures of each."""
    at_random = calls % BOUNDARIES if calls < 2 * BOUNDARIES else calls - BOUNDARIES
    config = schemathesis.Config.from_dict(
        {
            "seed": seed,
            "headers": headers,
            "continue-on-failure": True,
            "generation": {"max-examples": max(5, at_random // 9), "database": "none"},
            "phases": {
                "coverage": {"enabled": calls >= BOUNDARIES},
                "stateful": {"enabled": False},
            },
            "checks": {
                "not_a_server_error": {"expected-statuses": ["2xx", "4xx", 504]},
                "positive_data_acceptance": {"enabled": False},  # good_data_are_taken
                # Where a key is given it stands also in the calls that are to lack one.
                "missing_required_header": {"enabled": not headers},
            },
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            raise event.value
        if isinstance(event, events.FatalError):
            raise event.exception
        if not isinstance(event, events.ScenarioFinished):
            continue
        for name, interaction in event.recorder.interactions.items():
            failed = [
                f"{check.name}: {check.failure_info.failure} {check.failure_info.code_sample}"
                for check in event.recorder.checks.get(name, ())
                if check.failure_info is not None
            ]
            status = interaction.response.status_code if interaction.response else 0
            yield event.label, status, failed


@pytest.fixture
def keyed(serve, bundle_dir, tmp_path):
    """A server that asks for a key."""
    path = tmp_path / "keys"
    path.write_text(sha256(KEY.encode()).hexdigest())
    return serve(bundle_dir, HANDFUL_API_KEYS_FILE=str(path)).wait_ready()


def made(server, kind: str, headers: dict[str, str]) -> Counter[tuple[str, int]]:
    """Make this kind's share of the calls; count them by operation and status."""
    wanted = int(SHARES[kind] * CALLS)
    answers: Counter[tuple[str, int]] = Counter()
    failures: list[str] = []
    seed = 0
    while answers.total() < wanted and not failures:
        seed += 1
        for label, status, failed in run(server.url, wanted - answers.total(), seed, headers):
            answers[label, status] += 1
            failures += failed
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures[:5])
    statuses: Counter[int] = Counter()
    for (_, status), count in answers.items():
        statuses[status] += count
    print(f"0 failures in {answers.total()} calls ({kind}), by status: {sorted(statuses.items())}")
    assert "Traceback" not in server.logged()
    assert server.metric("handful_queue_rows") == 0
    return answers


def operations(answers: Counter[tuple[str, int]], status: int) -> set[str]:
    return {label for label, found in answers if found == status}


def test_a_whole_model_keeps_every_promise(server) -> None:
    """Each operation answers right and wrong calls alike as documented, each of them once at least
    with success.
    """
    SPACES[server.url] = server.client.get("/model").json()["model"]["space"]
    answers = made(server, "whole", {})
    labels = {label for label, _ in answers}
    assert operations(answers, 200) == labels
    assert len(labels) == 9
    assert {status for _, status in answers} >= {200, 405, 415, 422, 504}


def test_a_model_without_head_and_decoder_keeps_every_promise(grey_server) -> None:
    """What such a model cannot do is 409, as documented."""
    SPACES[grey_server.url] = grey_server.client.get("/model").json()["model"]["space"]
    answers = made(grey_server, "bare", {})
    lacking = {f"POST /{name}" for name in ("classify", "decode", "reconstruct", "sample")}
    assert operations(answers, 409) == lacking


def test_keys_are_asked_for_as_documented(keyed) -> None:
    """With a live key all is as ever; without it, or with another, no documented operation that
    needs one succeeds, and those that need none do.
    """
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = keyed.client.get("/model", headers=headers)
    SPACES[keyed.url] = answer.json()["model"]["space"]
    keyed.client.headers.update(headers)
    answers = made(keyed, "keyed", headers)
    assert len(operations(answers, 200)) == 9
    LOCKED.add(keyed.url)
    answers = made(keyed, "locked", {})
    assert operations(answers, 200) == {"GET /livez", "GET /readyz"}
    assert len(operations(answers, 401)) == 7
