"""Images in a bucket of a real S3 server."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.errors import InputError
from handful_training.labels.labels import read_labels
from handful_training.packs.fingerprint import fingerprint
from handful_training.sources.source import open_source

SPEC = ImageSpec(height=24, width=32, channels=3)

# A program of its own: reading processes get the environment that it starts with.
PROGRAM = """
import json, sys
from pathlib import Path
from handful_bundle.manifest import ImageSpec
from handful_training.pipeline.inputs import read_inputs
from handful_training.labels.choice import LabelChoice

if __name__ == "__main__":
    spec = ImageSpec(height=24, width=32, channels=3)
    choice = LabelChoice(sys.argv[3]) if len(sys.argv) > 3 else None
    found = read_inputs(sys.argv[1], Path(sys.argv[2]), spec=spec, choice=choice, minimum=1)
    pack = found.pack
    rejected = [[entry.key, entry.code] for entry in pack.rejected]
    print(json.dumps([pack.keys, rejected, pack.content_digest, str(pack.root)]))
"""

Objects = Callable[..., None]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run an S3 server and return its URL."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Point the environment at the server and make a bucket of this test's own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDtest",
        "AWS_SECRET_ACCESS_KEY": "topsecret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.name)):x}"
    boto3.client("s3", endpoint_url=server, region_name="us-east-1").create_bucket(Bucket=name)
    return name


@pytest.fixture
def put(server: str, bucket: str) -> Objects:
    """Return a function that writes one object."""
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1")

    def write(key: str, data: bytes) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=data)

    return write


@pytest.fixture
def packed(tmp_path: Path, script: Callable) -> Callable[..., list]:
    """Return a function that packs a URL in a program of its own: keys, rejected, digest, root."""

    def run(url: str, *labels: str) -> list:
        out, err = script(PROGRAM, url, tmp_path / "work", *labels).communicate()
        assert out, err
        return [*json.loads(out), err]

    return run


def gets(caplog: pytest.LogCaptureFixture, part: str) -> int:
    """Return how many objects whose name holds `part` were fetched."""
    lines = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
    return sum("GET /" in line and part in line and "list-type" not in line for line in lines)


def parquet(images: list[bytes]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": [i % 2 for i in range(len(images))]}), file,
                   row_group_size=20)  # fmt: skip
    return file.getvalue()


def test_a_prefix_is_a_folder(
    bucket: str,
    put: Objects,
    packed: Callable,
    jpegs: list[bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    """Its images are packed, its other files counted; an unchanged bucket is not read again."""
    names = [f"{'cat' if i % 2 else 'dög'}/a b {i:02}.jpg" for i in range(60)]
    for name, data in zip(names, jpegs, strict=True):
        put(f"in/{name}", data)
    put("in/notes.txt", b"x")
    put("in/.hidden.jpg", b"x")
    put("in/empty.jpg", b"")
    put("inside.jpg", b"not below in/")
    url = f"s3://{bucket}/in/"
    assert "1 .txt" in open_source(url).summary
    keys, rejected, digest, root, _ = packed(url, "folders")
    assert keys == sorted(names)
    assert rejected == [["empty.jpg", "image_empty"]]
    expected = [decode(jpegs[names.index(key)], SPEC) for key in keys]
    assert np.array_equal(np.load(Path(root) / "images.npy"), np.stack(expected))
    caplog.clear()
    caplog.set_level(logging.INFO, "werkzeug")
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{names[0]},x\ns3://{bucket}/in/{names[1]},y\n")
    assert packed(url, str(table))[2] == digest
    assert gets(caplog, ".jpg") == 0
    put(f"in/{names[3]}", jpegs[4])
    assert packed(url)[2] != digest
    assert gets(caplog, ".jpg") == 61


@pytest.mark.parametrize("form", ["{0..2}.tar", "", "0.parquet", "list.csv", "list.parquet"])
def test_tars_and_tables_are_read_from_a_bucket(
    bucket: str, put: Objects, packed: Callable, jpegs: list[bytes], write_tar: Callable,
    tmp_path: Path, form: str,
):  # fmt: skip
    """As from a disk: the same images in the same order, whatever brings them."""
    if form.endswith("tar") or not form:
        for k in range(3):
            files = [(f"{i:02}.jpg", jpegs[i]) for i in range(20 * k, 20 * k + 20)]
            put(f"x/{k}.tar", write_tar(tmp_path / f"{k}.tar", files).read_bytes())
    elif form == "0.parquet":
        put("x/0.parquet", parquet(jpegs))
    else:
        for i, data in enumerate(jpegs):
            put(f"x/in/{i:02}.jpg", data)
        paths = [f"in/{i:02}.jpg" for i in range(60)] + ["in/gone.jpg"]
        file = io.BytesIO()
        pq.write_table(pa.table({"path": paths}), file)
        put("x/list.parquet", file.getvalue())
        put("x/list.csv", "\n".join(["path", *paths]).encode())
    keys, rejected, _, root, _ = packed(f"s3://{bucket}/x/{form}")
    assert [key.removeprefix("in/").removesuffix(".jpg") for key in keys] == [
        f"{i:02}" for i in range(60)
    ]
    assert rejected == ([["in/gone.jpg", "file_missing"]] if "list" in form else [])
    images = np.load(Path(root) / "images.npy")
    assert np.array_equal(images, np.stack([decode(data, SPEC) for data in jpegs]))


def test_an_unchanged_tar_in_a_bucket_is_not_read_again(
    bucket: str, put: Objects, packed: Callable, jpegs: list[bytes], write_tar: Callable,
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    """Neither for its images nor for their names; and it is not fetched image by image."""
    caplog.set_level(logging.INFO, "werkzeug")
    tar = write_tar(tmp_path / "a.tar", [(f"{i:02}.jpg", jpegs[i]) for i in range(60)])
    put("a.tar", tar.read_bytes())
    first = packed(f"s3://{bucket}/a.tar")
    assert 0 < gets(caplog, "a.tar") < 20
    caplog.clear()
    assert packed(f"s3://{bucket}/a.tar")[:4] == first[:4]
    assert gets(caplog, "a.tar") == 0


def test_labels_of_a_parquet_file_in_a_bucket(bucket: str, put: Objects, jpegs: list[bytes]):
    """`--labels column` reads them where the images are."""
    put("a.parquet", parquet(jpegs[:4]))
    url = f"s3://{bucket}/a.parquet"
    _, labels = read_labels("column", open_source(url), url)
    assert [labels.names[t] for t in labels.target.tolist()] == ["0", "1", "0", "1"]


def test_idx_files_come_to_the_disk(bucket: str, put: Objects, tmp_path: Path, write_idx: Callable):
    """They are small; fetched once for as long as they do not change."""
    array = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    put("t-images-idx3-ubyte.gz", write_idx(tmp_path / "i.gz", array).read_bytes())
    url = f"s3://{bucket}/t-images-idx3-ubyte.gz"
    first = open_source(url, tmp_path / "lists")
    (copy,) = (tmp_path / "lists").iterdir()
    times = copy.stat().st_mtime_ns
    again = open_source(url, tmp_path / "lists")
    assert copy.stat().st_mtime_ns == times
    assert fingerprint(first, SPEC) == fingerprint(again, SPEC)
    assert np.array_equal(first.read(59), array[59])


def test_what_is_not_there_is_said(bucket: str, put: Objects, jpegs: list[bytes]):
    """A bucket, a tar, images: each message names what was looked for, none a secret."""
    put("x/readme.md", b"x")
    put("one.jpg", jpegs[0])
    for url, message in [
        ("s3://no-such-bucket/x/", "there is no such file, bucket or folder"),
        (f"s3://{bucket}/gone.tar", r"gone\.tar: there is no such file"),
        (f"s3://{bucket}/gone.csv", r"gone\.csv: there is no such file"),
        (f"s3://{bucket}/gone/", "found nothing"),
        (f"s3://{bucket}/x", r"found 1 other files \(1 \.md\)"),
        (f"s3://{bucket}/one.jpg", "single image; give the folder"),
        (f"s3://user:pass@{bucket}/one.jpg", rf"^s3://{bucket}/one\.jpg is a single"),
    ]:
        with pytest.raises(InputError, match=message) as info:
            open_source(url)
        assert "topsecret" not in str(info.value)
        assert "pass" not in str(info.value)


def test_without_a_server_the_setting_is_named(monkeypatch: pytest.MonkeyPatch):
    """Nothing listens there: one line with what to check."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot be reached.*AWS_ENDPOINT_URL") as info:
        open_source("s3://other-bucket/x/")
    assert "\n" not in str(info.value)


def test_a_profile_signs_the_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str):
    """One that is named in the environment is read; one that does not exist is refused."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    file = tmp_path / "credentials"
    file.write_text("[lab]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    boto3.Session().client("s3", endpoint_url=server).create_bucket(Bucket="of-lab")
    with pytest.raises(InputError, match="found nothing"):
        open_source("s3://of-lab/")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InputError, match="nobody"):
        open_source("s3://of-nobody/")
