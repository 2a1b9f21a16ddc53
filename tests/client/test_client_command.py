"""`handful embed|classify`: what it reads and writes."""

import csv
import json
import math
import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from handful_client import Handful
from handful_client.cli import main
from handful_client.command.csv_output import neutralised
from handful_client.command.files import find


@pytest.fixture
def folder(tmp_path, photos, monkeypatch):
    """Six images in a tree, two broken ones, and files that are no images; the work folder."""
    monkeypatch.chdir(tmp_path)
    for index, photo in enumerate(photos[:6]):
        path = tmp_path / "photos" / f"class {index % 2}" / f"{index}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)
    (tmp_path / "photos" / "=cmd().png").write_bytes(b"no image")
    (tmp_path / "photos" / "class 1" / "cut.webp").write_bytes(photos[2][:60])
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.jpg").write_bytes(photos[0])
    return tmp_path


EXPECTED = [
    "photos/=cmd().png",
    "photos/class 0/0.JPG",
    "photos/class 0/2.JPG",
    "photos/class 0/4.JPG",
    "photos/class 1/1.JPG",
    "photos/class 1/3.JPG",
    "photos/class 1/5.JPG",
    "photos/class 1/cut.webp",
]
BAD = [0, 7]


@pytest.fixture(params=["--url", "--bundle"])
def where(request, service, bundle_dir):
    """The two ways to a model."""
    return [request.param, service if request.param == "--url" else str(bundle_dir)]


def read_csv(text):
    return list(csv.DictReader(text.splitlines()))


def test_embed_to_each_form(folder, where, bundle_dir, capsys):
    """CSV, Parquet and npy hold the same embeddings, in the order of sorted paths."""
    with Handful.local(bundle_dir, threads=1) as client:
        expected = client.embed(EXPECTED).embeddings
    for name in ("out.csv", "out.parquet", "out.npy"):
        assert main(["embed", "photos", *where, "-o", name]) == 0
        assert "8 images, 2 failed" in capsys.readouterr().err
    rows = read_csv((folder / "out.csv").read_text())
    assert [row["path"].removeprefix("'") for row in rows] == EXPECTED
    assert [bool(row["error"]) for row in rows] == [index in BAD for index in range(8)]
    from_csv = [[float(row[f"e{i}"] or math.nan) for i in range(8)] for row in rows]
    table = pq.read_table(folder / "out.parquet")
    assert table["path"].to_pylist() == EXPECTED
    assert [error is not None for error in table["error"].to_pylist()] == [
        index in BAD for index in range(8)
    ]
    blank = [math.nan] * 8
    from_parquet = [row or blank for row in table["embedding"].to_pylist()]
    from_npy = np.load(folder / "out.npy", mmap_mode="r")
    assert from_npy.dtype == np.float32
    for found in (from_csv, from_parquet, from_npy):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.float32(from_csv), np.asarray(from_npy))
    names = read_csv((folder / "out.paths.csv").read_text())
    assert [row["error"].partition(":")[0] for row in names if row["error"]] == [
        "image_unsupported",
        "image_unreadable",
    ]
    assert len(names) == len(from_npy)


def test_classify_to_each_form(folder, where, capsys):
    """CSV and Parquet hold the same predictions; standard output is CSV by default."""
    for name in ("out.csv", "out.parquet"):
        assert main(["classify", "photos", *where, "-o", name]) == 0
    capsys.readouterr()
    assert main(["classify", "photos", *where]) == 0
    assert capsys.readouterr().out == (folder / "out.csv").read_text()
    rows = read_csv((folder / "out.csv").read_text())
    table = pq.read_table(folder / "out.parquet").to_pylist()
    for row, other in zip(rows, table, strict=True):
        assert (row["label"] or None) == other["label"]
        if other["label"] is not None:
            chances = json.loads(row["probabilities"])
            assert chances.keys() == dict(other["probabilities"]).keys() == {"cat", "dog", "owl"}
            assert float(row["confidence"]) == pytest.approx(chances[row["label"]], rel=1e-6)
            assert row["abstained"] == "false"
            assert row["error"] == row["prediction_set"] == row["novelty"] == ""
    assert [index for index, row in enumerate(rows) if row["error"]] == BAD


def test_the_parquet_file_names_its_space(folder, bundle_dir):
    """The schema's metadata says which model and embedding space the numbers are of."""
    assert main(["embed", "photos", "--bundle", str(bundle_dir), "-o", "out.parquet"]) == 0
    metadata = pq.read_schema(folder / "out.parquet").metadata
    with Handful.local(bundle_dir, threads=1) as client:
        model = client.model().model
    assert metadata[b"handful.space"].decode() == model.space
    assert metadata[b"handful.version"].decode() == model.version


def test_more_rows_than_a_group(folder, bundle_dir, behave):
    """Rows beyond one row group, and beyond one batch, keep their order."""
    pixels = np.zeros((4, 4), np.uint8)
    many = folder / "many"
    many.mkdir()
    for index in range(4100):
        pixels[0, 0] = index % 256
        if index < 40:
            (many / f"{index:05}.png").write_bytes(behave.encode(pixels))
        else:
            os.link(many / f"{index % 40:05}.png", many / f"{index:05}.png")
    bundle = ["--bundle", str(bundle_dir)]
    assert main(["embed", "many", *bundle, "-o", "out.parquet", "--batch-size", "500"]) == 0
    file = pq.ParquetFile(folder / "out.parquet")
    assert file.num_row_groups == 2
    rows = np.array(file.read()["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(rows, rows[np.arange(4100) % 40], rtol=1e-5, atol=1e-6)


def test_latents(folder, where):
    """`--space latent` writes the means of q(z|x)."""
    assert main(["embed", "photos", *where, "--space", "latent", "-o", "out.npy"]) == 0
    assert np.load(folder / "out.npy").shape == (8, 4)


def test_json_is_one_object_and_nothing_else(folder, where, capsys):
    """With `--json` standard output is one line of JSON; without -o it holds the results."""
    assert main(["classify", "photos", *where, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    assert (found["images"], found["failed"], found["output"]) == (8, 2, None)
    assert [row["path"] for row in found["results"]] == EXPECTED
    assert [row.get("label") in {"cat", "dog", "owl"} for row in found["results"]] == [
        index not in BAD for index in range(8)
    ]
    assert main(["embed", "photos", *where, "--json", "-o", "out.npy"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    summary = json.loads(out)
    assert summary["output"] == "out.npy"
    assert summary["model"]["name"] == "animals"
    assert "results" not in summary
    assert main(["embed", EXPECTED[1], *where, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"][0]["embedding"]) == 8


def test_only_failures_is_a_failure(folder, where, capsys):
    """When not a single file could be used the status is 1, and the output says why."""
    assert main(["classify", EXPECTED[0], *where]) == 1
    assert "image_unsupported" in capsys.readouterr().out


def test_cells_that_spreadsheets_would_run(folder, bundle_dir, capsys):
    """Text that starts like a formula is neutralised; negative numbers stay numbers."""
    for start in "=+-@\t\r":
        assert neutralised(f"{start}cmd") == f"'{start}cmd"
    assert neutralised("cat") == "cat"
    os.chdir(folder / "photos")
    assert main(["embed", ".", "--bundle", str(bundle_dir)]) == 0
    rows = read_csv(capsys.readouterr().out)
    assert rows[0]["path"] == "'=cmd().png"
    assert any(row["e0"].startswith("-") or row["e1"].startswith("-") for row in rows)


def test_files_are_found_once_in_order(folder):
    """Overlapping and repeated arguments give each file once, in the order of sorted paths."""
    named = ["photos/class 1", "photos/class 0/2.JPG", "./photos/class 0", "photos/class 1/"]
    found = [path.as_posix() for path in find(named)]
    assert found == EXPECTED[1:]
    whole = [path.as_posix() for path in find(["photos"])]
    assert whole == EXPECTED == sorted(whole)
    assert [path.name for path in find(["photos/notes.txt"])] == ["notes.txt"]


def test_links_to_folders_are_not_followed(folder):
    """A link that leads back up does not make the search endless."""
    (folder / "photos" / "class 0" / "up").symlink_to(folder / "photos")
    assert [path.as_posix() for path in find(["photos"])] == EXPECTED


def test_names_that_are_no_utf8(folder, where, photos):
    """A file whose name is no UTF-8 has a row like any other."""
    odd = os.fsencode(folder) + b"/photos/\xff.jpg"
    with open(odd, "wb") as file:  # noqa: PTH123  # a name of bytes
        file.write(photos[0])
    assert main(["classify", "photos", *where, "-o", "out.csv"]) == 0
    assert "photos/\\xff.jpg" in (folder / "out.csv").read_text()
