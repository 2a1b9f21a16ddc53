"""The bench of serving: it asks for what it says it asks for, counts from when requests were due,
and its tables say what was measured.
"""

import asyncio
import base64
import email
import hashlib
import importlib
import io
import json
import os
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest

HERE = Path(__file__).parent
PICTURES = [b"\xff\xd8%03d\xff\xd9" % n for n in range(64)]
EMBEDDINGS = np.arange(64 * 64, dtype=np.float32).reshape(64, 64) / 64


@pytest.fixture
def bench(monkeypatch):
    """Import one of its modules by name."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


@pytest.fixture
def case(bench):
    pixels = np.zeros((64, 2, 2, 3), np.uint8)
    return bench("serving_cases").Case("T", Path("bundle"), PICTURES, pixels, EMBEDDINGS)


def asked(request):
    """Return the files in a request of any of the forms."""
    kind = request.headers["Content-Type"]
    if kind == "image/jpeg":
        return [request.body]
    if kind.startswith("multipart/"):
        message = email.message_from_bytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + request.body
        )
        return [part.get_payload(decode=True) for part in message.get_payload()]

    def texts(value):
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            for one in value.values() if isinstance(value, dict) else value:
                yield from texts(one)

    found = (text for text in texts(json.loads(request.body)) if text.startswith("/9"))
    return [base64.b64decode(text) for text in found]


def nothing(body):
    """Return what the server below answers 500 for."""
    return b""


@contextmanager
def serving(answer):
    """Run a server that answers each body with `answer(body)`, on a thread per connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if body else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # connections that come at once
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_server_is_asked_about_the_same_files(bench):
    """In each server's form, single or in batches, the loads hold every picture once."""
    peers, requests = bench("serving_peers"), bench("serving_requests")
    servers = (peers.HANDFUL, peers.PROCESSES, peers.CONSTANT, *peers.PEER_SERVERS)
    assert len({server.name for server in servers}) == 8
    for server in servers:
        for load in (*requests.SINGLES, *([requests.BATCHES] if server.batches else [])):
            made = requests.bodies(load, PICTURES, server.form)
            assert [len(asked(request)) for request in made] == [load.images] * len(made)
            assert [file for request in made for file in asked(request)] == PICTURES


def test_pixels_are_asked_about_as_npy(bench):
    """The body is the array, and the answer is asked for as one."""
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    request = bench("serving_requests").npy(pixels)
    assert (np.load(io.BytesIO(request.body)) == pixels).all()
    assert request.headers["Accept"] == "application/x-npy"


def test_embeddings_are_read_nested_or_flat(bench):
    """Both ways of writing the same rows read as the same [n, width]."""
    rows = bench("serving_requests").rows
    nested = rows(2, "outputs", 0, "data")(b'{"outputs": [{"data": [[1, 2], [3, 4]]}]}')
    flat = rows(2)(b"[1, 2, 3, 4]")
    assert nested.tolist() == flat.tolist() == [[1, 2], [3, 4]]
    assert nested.dtype == np.float32


def test_what_wrk_says_is_read(bench):
    """Requests, failures, seconds, and its own share of a core; no such line is a failure."""
    load = bench("serving_load")
    run = load.parse("Running 2s test @ http://…\nDONE 120 3 2000000\n", cpu=1.5)
    assert run == (120, 3, 2.0, 0.75)
    with pytest.raises(load.ServerFailed, match="unable to"):
        load.parse("unable to record statistics\n", cpu=0.0)


def test_answers_are_held_against_the_offline_embeddings(bench, case):
    """The right ones pass; one number that is off by 0.001, or a 500, does not."""
    peers, start, load = bench("serving_peers"), bench("serving_start"), bench("serving_load")
    handful = peers.HANDFUL

    def right(body, wrong=0.0):
        found = [n for n, file in enumerate(PICTURES) if file in body]
        rows = EMBEDDINGS[found] + wrong * (np.array(found) == 40)[:, None]
        return json.dumps({"embeddings": rows.tolist()}).encode()

    with serving(right) as url:
        start.check(handful, case, url)
    for answer, reason in ((partial(right, wrong=0.001), "other embeddings"), (nothing, "500")):
        with serving(answer) as url, pytest.raises(load.ServerFailed, match=reason):
            start.check(handful, case, url)


def test_waiting_is_counted_from_when_a_request_was_due(bench):
    """A server that answers nobody before all 40 have asked: each waited at least for those that
    were due after it, and each is asked at its time though none before it has been answered.
    """
    open_loop, requests = bench("serving_open_loop"), bench("serving_requests")
    count, rate = 40, 200
    everyone = threading.Barrier(count)

    def answer(body):
        everyone.wait(60)
        return b"{}"

    made = requests.bodies(requests.SINGLES[0], PICTURES, requests.raw("/embed"))
    with serving(answer) as url:
        waited = open_loop.latencies(url, made, rate, count / rate)
    found = np.sort(waited.milliseconds)
    assert len(found) == count
    assert np.isfinite(found).all()
    assert (found >= 1000 * np.arange(count) / rate).all()


def test_a_failed_request_waits_for_ever(bench):
    """Answers other than 200 are no short waits, and the rest is asked all the same."""
    open_loop, requests = bench("serving_open_loop"), bench("serving_requests")
    made = requests.bodies(requests.SINGLES[0], PICTURES, requests.raw("/embed"))
    with serving(lambda body: b"" if body in PICTURES[:5] else b"{}") as url:
        waited = open_loop.latencies(url, made, 500, 64 / 500)
    assert np.isinf(waited.milliseconds).sum() == 5
    assert len(waited.milliseconds) == 64


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", b"abc"),
        (
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
    ],
)
def test_answers_are_read_to_their_end(bench, sent, body):
    """By length or in chunks, and no byte further."""

    async def read():
        reader = asyncio.StreamReader()
        reader.feed_data(sent)
        reader.feed_eof()
        return await bench("serving_open_loop").answer(reader)

    assert asyncio.run(read()) == body


def test_tables_say_what_was_measured(bench, tmp_path):
    """Medians over rounds, ratios to the limit and to the best peer, dashes for what is missing."""
    costs, records = bench("serving_costs"), bench("serving_records").Records(tmp_path / "r.csv")
    key = bench("serving_records").Key
    load = "1 image, 64 connections"
    for value in (0.1, 0.3, 0.2):
        records.add(key("costs", "limit", "S"), cpu_ms=value)
    for name, values in {
        "HTTP alone": (0.05,), "Handful": (0.9, 0.5, 0.3), "A": (2.0, 3.0), "B": (1.5,),
    }.items():  # fmt: skip
        for value in values:
            records.add(key("costs", name, "S", load), cpu_ms=value)
    records.add(key("costs", "A", "L", load), cpu_ms=0.001)
    rows = costs.report(records, "S", ["A", "B", "C"]).splitlines()
    (row,) = (row for row in rows if load in row)
    assert row == f"| {load} | 0.200 | 0.050 | 0.500 | 2.00 | 3.0 times | 2.500 | 1.500 | – |"
    (row,) = (row for row in rows if "1 image, 8 connections" in row)
    assert row == "| 1 image, 8 connections | 0.200 | – | – | – | – | – | – | – |"
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 12


def test_the_rate_for_all_is_one_that_the_slowest_sustains(bench, tmp_path):
    """0.7 of the lowest speed of those that answered; who was behind or failed is marked."""
    cores, records = bench("serving_cores"), bench("serving_records").Records(tmp_path / "r.csv")
    key = bench("serving_records").Key
    speeds = {"Handful": 3000.0, "A": 500.0, "B": 1000.0}
    for name, speed in speeds.items():
        records.add(key(cores.CLOSED, name), images_per_second=speed)
        behind = 2.0 if name == "A" else 0.01
        records.add(
            key(cores.OPEN, name), p50=1e3 / speed, p99=1e4 / speed, behind=behind, failed=0
        )
    assert cores.common_rate(records, [*speeds, "broken"]) == pytest.approx(350)
    rows = cores.report(records, [*speeds, "broken"], ["A", "B", "broken"], 350.0).splitlines()
    assert rows[2] == "| Handful | 3,000 | 3.00 | 0.3 | 0.33 | 3.3 | 0.33 |"
    assert "2.0 (did not keep up)" in rows[3]
    assert "did not keep up" not in rows[4]
    assert rows[5] == "| broken | – | – | – | – | – | – |"


def test_tables_of_rest_and_sizes_hold_every_server_and_size(bench, case, tmp_path):
    """Shares of a core in percent, each size with its limit; what failed is a dash."""
    records = bench("serving_records").Records(tmp_path / "r.csv")
    key, rest, sizes = bench("serving_records").Key, bench("serving_rest"), bench("serving_sizes")
    records.add(key(rest.PART, "A"), start_seconds=1.25, idle_share=0.2, memory_mib=100.4)
    assert rest.report(records, ["A", "B"]).splitlines()[2:] == [
        "| A | 1.2 | 20.0% | 100 |",
        "| B | – | – | – |",
    ]
    wide = case._replace(name="224px")
    records.add(key(sizes.PART, "limit", "224px"), cpu_ms=5.0)
    eight = key(sizes.PART, "Handful", "224px", "1 image, 8 connections")
    records.add(eight, cpu_ms=6.0, images_per_second=1500.0)
    assert sizes.report(records, [wide]).splitlines()[2:] == [
        "| 224 | 0.0 | 5.000 | – | – | 1,500 | 6.000 | – | – |"
    ]


def test_a_server_that_fails_does_not_stop_the_others(bench, tmp_path):
    """Its failure is told with its reason; after the third it is not asked again."""
    records, failed = bench("serving_records"), bench("serving_load").ServerFailed
    found = records.Records(tmp_path / "r.csv")
    turns = []

    def turn(name):
        turns.append(name)
        if name == "A":
            raise failed("no port")

    for _ in range(4):
        for name in ("A", "B"):
            found.attempt(name, "costs S", lambda n=name: turn(n))
    assert turns == ["A", "B", "A", "B", "A", "B", "B"]
    assert len(found.failures) == 3
    assert "no port" in found.failures[0]
    assert "left out" in found.failures[2]


def test_figures_of_a_load_with_failures_are_not_kept(bench, tmp_path):
    """Errors are quick to answer: they must not lower a cost; they are counted."""
    records, load = bench("serving_records"), bench("serving_load")
    found = records.Records(tmp_path / "r.csv")
    key = records.Key("costs", "A", "S", "1 image")
    with pytest.raises(load.ServerFailed, match="7 of 100"):
        found.keep(key, load.Cost(0.1, 100.0, 100, 7, 0.5))
    found.keep(key, load.Cost(0.3, 100.0, 200, 0, 0.5))
    assert found.median(key, "cpu_ms") == 0.3
    assert found.total("failed", "costs", "S") == 7
    assert found.total("requests", "costs", "S") == 300


def test_a_server_that_ends_is_told_with_its_log_and_leaves_nobody(bench, case, tmp_path):
    """Its last words are in the message, and the child that it left behind is ended."""
    peers, start = bench("serving_peers"), bench("serving_start")
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(600)']); print('left', child.pid); sys.exit('no model')"
    )
    server = peers.Server("broken", lambda place: [place.python, "-c", code], peers.HANDFUL.form)
    cores = sorted(os.sched_getaffinity(0))[:1]
    with (
        pytest.raises(bench("serving_load").ServerFailed, match="no model") as raised,
        start.started(server, case, tmp_path, cores),
    ):
        pass
    child = int(str(raised.value).split("left ")[1].split()[0])
    with suppress(psutil.NoSuchProcess):  # or dead, and nobody has taken note of it yet
        assert psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_all_run_on_the_same_libraries(bench):
    """Each peer's pins hold its version, and what is shared in the versions of constraints.txt."""
    venvs = bench("serving_venvs")
    shared = set(venvs.shared_pins())
    assert len(shared) == len(venvs.SAME)
    for peer, version in venvs.VERSIONS.items():
        pins = venvs.requirements(peer).read_text().splitlines()
        assert shared | {f"{peer}=={version}"} <= set(pins), (
            f"{peer}: run `python tests/benchmarks/serving_venvs.py`"
        )
    needed = {server.peer for server in bench("serving_peers").PEER_SERVERS}
    assert needed - {None} == set(venvs.VERSIONS)


def test_an_environment_that_is_made_is_not_made_again(bench, tmp_path, monkeypatch):
    """What is finished stays as it is, with the same pins; else it is installed, and where pip
    finds no package that is told, with a remedy, and the next run tries again.
    """
    venvs, failed = bench("serving_venvs"), bench("serving_load").ServerFailed
    home = tmp_path / "venvs" / "litserve"
    home.mkdir(parents=True)
    made = home / "made"
    made.write_text(hashlib.sha256(venvs.requirements("litserve").read_bytes()).hexdigest())
    assert venvs.interpreter("litserve", tmp_path) == home / "bin" / "python"
    assert list(home.iterdir()) == [made]
    made.write_text("other pins")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(failed, match=r"litserve .* cannot be installed .* --peers"):
        venvs.interpreter("litserve", tmp_path)
    assert not made.exists()


def test_parts_and_peers_are_chosen_by_name(bench, capsys):
    """Names between commas, all, or none; another name is refused with those that there are."""
    serving = bench("bench_serving")
    options = serving._options(["--parts", "costs,sizes", "--peers", "MLflow,BentoML"])
    assert (options.parts, options.peers) == (["costs", "sizes"], ["MLflow", "BentoML"])
    assert serving._options(["--peers", "none"]).peers == []
    assert len(serving._options(["--peers", "all"]).peers) == 5
    with pytest.raises(SystemExit):
        serving._options(["--parts", "cost"])
    assert "no cost; there are costs, rest, cores, sizes" in capsys.readouterr().err
