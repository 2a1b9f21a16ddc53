"""Images behind a web server that fails now and then, and files read in ranges."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.errors import InputError
from handful_training.packs.pack import pack_source
from handful_training.sources import store
from handful_training.sources.place import Place
from handful_training.sources.source import open_source, read_each
from handful_training.sources.store import StoreUnreachable, shown

SPEC = ImageSpec(height=24, width=32, channels=3)


class Web(ThreadingHTTPServer):
    """Files by path; which answers come instead of them, and how often each was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.failures: dict[str, list[int]] = {}  # statuses to send first; negative: for ever
        self.asked: Counter[str] = Counter()
        self.ranges = True
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        self.server.asked[name] += body
        failures = self.server.failures.get(name, [])
        status = abs(failures[0]) if failures else 200
        if failures and failures[0] > 0:
            failures.pop(0)
        data = self.server.files.get(name)
        if data is None and status == 200:
            status = 404
        data = data if status == 200 and data is not None else b""
        total = len(data)
        wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if status == 200 and wanted and self.server.ranges:
            status = 206
            data = data[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None]
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {wanted[1]}-/{total}")
        elif self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web(jpegs: list[bytes]) -> Iterator[Web]:
    """Serve 60 images and a table of them."""
    server = Web()
    names = [f"in/{i:02}.jpg" for i in range(60)]
    server.files = {
        **dict(zip(names, jpegs, strict=True)),
        "t.csv": "\n".join(["path", *names]).encode(),
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between tries."""
    monkeypatch.setattr(store, "PAUSES", (0.01, 0.01, 0.01))


@pytest.mark.usefixtures("impatient")
def test_passing_errors_lose_no_image(web: Web, tmp_path: Path, jpegs: list[bytes]):
    """Three failures of each of some files are outlasted; every pixel is there."""
    for name in ("in/03.jpg", "in/40.jpg"):
        web.failures[name] = [503, 500, 429]
    source = open_source(f"{web.url}/t.csv")
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert np.array_equal(pack.images, np.stack([decode(data, SPEC) for data in jpegs]))


def test_missing_and_forbidden_files_are_rejected(web: Web, tmp_path: Path):
    """They are not tried again, and concern no other image."""
    del web.files["in/07.jpg"]
    web.failures["in/09.jpg"] = [-403]
    source = open_source(f"{web.url}/t.csv")
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert [(entry.key, entry.code) for entry in pack.rejected] == [
        ("in/07.jpg", "file_missing"), ("in/09.jpg", "file_unreadable")
    ]  # fmt: skip
    assert max(web.asked["in/07.jpg"], web.asked["in/09.jpg"]) <= 2  # looked up, then read


def test_a_server_that_stays_down_ends_the_run(web: Web, tmp_path: Path):
    """No image is left out for it; no pack remains, and the message is one line without secrets."""
    source = open_source(f"{web.url.replace('//', '//user:secret@')}/t.csv?signature=secret")
    web.failures["in/33.jpg"] = [-503]
    with pytest.raises(StoreUnreachable, match=r"cannot be reached \(503\)") as info:
        pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert "secret" not in str(info.value)
    assert "secret" not in source.summary
    assert not list((tmp_path / "work" / "packs").glob("*/pack.json"))
    web.failures.clear()
    assert len(pack_source(source, SPEC, tmp_path / "work", workers=2)) == 60


def test_many_files_are_fetched_at_once_and_come_in_order(web: Web, jpegs: list[bytes]):
    """Also those behind one that is missing."""
    del web.files["in/01.jpg"]
    source = open_source(f"{web.url}/t.csv")
    found = list(read_each(source, range(60)))
    assert found[0] == jpegs[0]
    assert "no such file" in str(found[1])
    assert found[2:] == jpegs[2:]


def test_a_large_file_is_read_in_few_growing_ranges(web: Web):
    """Every byte comes once when it is read in order; a single read elsewhere costs little."""
    data = np.random.default_rng(0).bytes(20_000_000)
    web.files["big.bin"] = data
    place = Place.find(f"{web.url}/big.bin")
    with place.open() as file:
        pieces = [file.read(10_000) for _ in range(2000)]
        assert b"".join(pieces) == data
        assert file.read(1) == b""
        assert web.asked["big.bin"] < 15
        for start in (19_999_000, 5, 7_000_000):
            file.seek(start)
            assert file.read(2000) == data[start : start + 2000]


def test_a_tar_behind_a_server_that_sends_whole_files_only(
    web: Web, tmp_path: Path, write_tar: Callable[..., Path], jpegs: list[bytes]
):
    """Parts cannot be had: that is said, with the remedy."""
    web.files["a.tar"] = write_tar(
        tmp_path / "a.tar", [(f"{i}.jpg", jpegs[i % 60]) for i in range(500)]
    ).read_bytes()
    url = f"{web.url}/a.tar"
    assert [open_source(url).read(i) for i in (499, 3)] == [jpegs[499 % 60], jpegs[3]]
    web.ranges = False
    with pytest.raises(InputError, match="sends whole files only; fetch this one"):
        open_source(url)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path\nhttp://elsewhere/a.jpg\n", "http://elsewhere/a.jpg does not lie below"),
        ("path\n../a.jpg\n", "does not lie below"),
        ("path\n/a.jpg\n", "does not lie below"),
        ("path\n", "lists no image"),
        ("path,label\n,x\n", "line 2: the path is empty"),
        ("name\n", "no column `path`"),
    ],
)
def test_a_table_leads_nowhere_else(web: Web, table: str, message: str):
    """What it names lies in its folder: no other host is asked, and none of its other files."""
    web.files["t.csv"] = table.encode()
    with pytest.raises(InputError, match=message):
        open_source(f"{web.url}/t.csv")


def test_what_cannot_be_opened_is_said(web: Web):
    """A folder of a web server, a kind of URL that nobody knows."""
    with pytest.raises(InputError, match="a web server cannot list its files"):
        open_source(f"{web.url}/in/")
    with pytest.raises(InputError, match=r"^nonsense:// cannot be read"):
        open_source("nonsense://x/y")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://key:secret@bucket/a b/x.tar", "s3://bucket/a b/x.tar"),
        ("https://u:p@host:8/x.csv?X-Amz-Signature=1#f", "https://host:8/x.csv"),
        ("/data/a@b?c", "/data/a@b?c"),
    ],
)
def test_no_secret_of_a_url_is_shown(url: str, expected: str):
    """User, password, query and fragment go; paths stay as they are."""
    assert shown(url) == expected


def test_any_file_system_of_fsspec_is_read(jpegs: list[bytes], tmp_path: Path):
    """Here one in memory, and the disk by its URL."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/pool/x/a.jpg": jpegs[0], "/pool/b.jpg": jpegs[1], "/pool/note.txt": b""})
    source = open_source("memory://pool")
    assert list(source.keys) == ["b.jpg", "x/a.jpg"]
    assert source.read(1) == jpegs[0]
    before = source.stat_token(0)
    memory.pipe({"/pool/b.jpg": jpegs[2]})
    assert open_source("memory://pool").stat_token(0) != before
    (tmp_path / "a b.jpg").write_bytes(jpegs[3])
    assert open_source(tmp_path.as_uri()).read(0) == jpegs[3]
