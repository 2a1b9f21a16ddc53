"""Images in Parquet files, or named in one; in the layouts that people publish."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.errors import InputError
from handful_training.labels.labels import read_labels
from handful_training.packs.pack import pack_source
from handful_training.sources.source import EncodedSource, Source, open_source

SPEC = ImageSpec(height=24, width=32, channels=3)
HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def hugging_face(
    path: Path, images: list[dict | None], labels: list[int | None] = (), **options: object
) -> Path:
    """Write a file as `datasets` does: image struct, ClassLabel, and its metadata."""
    columns = {"image": pa.array(images, HF_IMAGE)}
    features: dict[str, dict] = {"image": {"_type": "Image"}}
    if labels:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def labels_of(source: Source, images: Path, spec: str) -> dict[str, str]:
    """Return label by key."""
    _, labels = read_labels(spec, source, images, min_classes=1)
    return {k: labels.names[t] for k, t in zip(labels.keys, labels.target.tolist(), strict=True)}


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize(("rows", "workers"), [(7, 2), (60, 2), (25, 1)])
def test_bytes_of_hugging_face_are_read_in_order(
    tmp_path: Path, jpegs: list[bytes], compression: str, rows: int, workers: int
):
    """Whatever the size of row groups and their compression; named by the path beside them."""
    images = [{"bytes": data, "path": f"{i:04}.jpg"} for i, data in enumerate(jpegs)]
    path = hugging_face(
        tmp_path / "a.parquet", images, row_group_size=rows, compression=compression
    )
    source = open_source(path)
    assert list(source.keys) == [f"{i:04}.jpg" for i in range(60)]
    assert [source.read(i) for i in (0, 59, 30, 31)] == [jpegs[i] for i in (0, 59, 30, 31)]
    pack = pack_source(source, SPEC, tmp_path / "work", workers=workers)
    assert np.array_equal(pack.images, np.stack([decode(data, SPEC) for data in jpegs]))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("column", ["image", "img", "bytes"])
def test_plain_binary_columns_are_images(
    tmp_path: Path, jpegs: list[bytes], kind: pa.DataType, column: str
):
    """Without names they are called by their row; with a column `path` by that."""
    for names in ([], ["b.jpg", "a.jpg"]):
        columns = {"id": pa.array([1, 2]), column: pa.array(jpegs[:2], kind)}
        if names:
            columns["path"] = pa.array(names)
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        source = open_source(tmp_path / "a.parquet")
        assert list(source.keys) == (names or ["0", "1"])
        assert [source.read(0), source.read(1)] == jpegs[:2]


def test_shards_are_read_in_order_of_their_names(tmp_path: Path, jpegs: list[bytes]):
    """As `data/train-00000-of-00003.parquet`; a shard without rows costs nothing."""
    for k in range(4):
        images = [{"bytes": data, "path": None} for data in jpegs[20 * k : 20 * k + 20]]
        hugging_face(tmp_path / "data" / f"train-{k}.parquet", images, row_group_size=9)
    source = open_source(tmp_path)
    assert len(source) == 60
    assert source.keys[21] == "train-1.parquet!/01"
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert np.array_equal(pack.images, np.stack([decode(data, SPEC) for data in jpegs]))


def test_paths_are_relative_to_the_table(tmp_path: Path, jpegs: list[bytes]):
    """Each file counts once, and its label is in the table as well."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.jpg").write_bytes(jpegs[i])
    table = tmp_path / "list.parquet"
    paths = ["in/2.jpg", "./in/0.jpg", str(tmp_path / "in/1.jpg"), "in/2.jpg", "in/gone.jpg"]
    pq.write_table(pa.table({"path": paths, "label": ["x", "y", None, "x", "z"]}), table)
    source = open_source(table)
    assert list(source.keys) == ["in/2.jpg", "in/0.jpg", "in/1.jpg", "in/gone.jpg"]
    assert "1 rows name a file again" in source.summary
    assert source.read(0) == jpegs[2]
    assert labels_of(source, table, "column") == {
        "in/2.jpg": "x", "in/0.jpg": "y", "in/gone.jpg": "z"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", None, "", "b"], {"0": "a", "3": "b"}),
        ([3, None, -1, 0], {"0": "3", "3": "0"}),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), {"0": "a", "1": "b", "2": "a"}),
        ([True, False, None, True], {"0": "True", "1": "False", "3": "True"}),
    ],
)
def test_columns_of_labels(tmp_path: Path, jpegs: list[bytes], values: object, expected: dict):
    """Text, numbers, categories and truth values are labels; null, "" and -1 are none."""
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": jpegs[:4], "kind": values}), table)
    assert labels_of(open_source(table), table, "column:kind") == expected


def test_numbers_of_a_class_label_become_its_names(tmp_path: Path, jpegs: list[bytes]):
    """From the metadata; a number that it does not name is refused."""
    images = [{"bytes": data, "path": None} for data in jpegs[:4]]
    table = hugging_face(tmp_path / "a.parquet", images, [1, 0, -1, None])
    assert labels_of(open_source(table), table, "column") == {"0": "dog", "1": "cat"}
    table = hugging_face(tmp_path / "b.parquet", images, [1, 0, 2, None])
    with pytest.raises(InputError, match="holds 2, its metadata names 2 classes"):
        labels_of(open_source(table), table, "column")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("column", "no column `label`; write --labels column:NAME with one of image, weight"),
        ("column:weight", "column `weight` is double; a label is text or a whole number"),
    ],
)
def test_a_wrong_column_of_labels_is_refused(
    tmp_path: Path, jpegs: list[bytes], spec: str, message: str
):
    """The message names the columns that there are, or the type."""
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": jpegs[:2], "weight": [0.5, 1.0]}), table)
    with pytest.raises(InputError, match=message):
        labels_of(open_source(table), table, spec)


def test_only_tables_and_tars_have_columns(tmp_path: Path, jpegs: list[bytes]):
    """For a folder of files the message names the forms that there are."""
    (tmp_path / "a.jpg").write_bytes(jpegs[0])
    with pytest.raises(InputError, match="has no column of labels"):
        labels_of(open_source(tmp_path), tmp_path, "column")


def test_rows_without_bytes_are_rejected(tmp_path: Path, jpegs: list[bytes]):
    """Null, a struct with only a path, and no bytes at all concern these rows only."""
    images: list[dict | None] = [{"bytes": data, "path": None} for data in jpegs]
    images[5] = None
    images[6] = {"bytes": None, "path": "/etc/passwd"}
    images[7] = {"bytes": b"", "path": None}
    source = open_source(hugging_face(tmp_path / "a.parquet", images, row_group_size=10))
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert [(entry.key, entry.code) for entry in pack.rejected] == [
        ("05", "file_missing"), ("06", "file_missing"), ("07", "image_empty")
    ]  # fmt: skip
    assert len(pack) == 57


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: Path, jpegs: list[bytes]):
    """Those of the groups before and behind it are read."""
    images = [{"bytes": data, "path": None} for data in jpegs]
    path = hugging_face(tmp_path / "a.parquet", images, row_group_size=10, compression="zstd")
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    source = open_source(path)
    with pytest.raises(ImageError, match="row group 2"):
        source.read(25)
    assert source.read(19) == jpegs[19]
    pack = pack_source(source, SPEC, tmp_path / "work", workers=2)
    assert [entry.key for entry in pack.rejected] == [f"{i}" for i in range(20, 30)]
    assert {entry.code for entry in pack.rejected} == {"file_unreadable"}
    assert np.array_equal(pack.images[20:], np.stack([decode(d, SPEC) for d in jpegs[30:]]))


def test_what_holds_no_images_is_refused(tmp_path: Path, jpegs: list[bytes]):
    """Wrong columns, no rows, half a file, no Parquet, tables of paths among others."""
    path = tmp_path / "s" / "a.parquet"
    path.parent.mkdir()
    for table, message in [
        (pa.table({"text": ["a"], "image": [1.0]}), r"found text \(string\), image \(double\)"),
        (pa.table({"image": pa.array([], pa.binary())}), "no row in"),
        (pa.table({"path": pa.array([], pa.string())}), "lists no image"),
        (pa.table({"path": ["a.jpg", None]}), "row 1: the path is empty"),
    ]:
        pq.write_table(table, path)
        with pytest.raises(InputError, match=message):
            open_source(path)
    pq.write_table(pa.table({"image": jpegs[:5]}), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cannot be read.*fetch it again"):
        open_source(path)
    pq.write_table(pa.table({"image": jpegs[:5]}), path)
    other = path.with_name("b.parquet")
    pq.write_table(pa.table({"path": ["a.jpg"]}), other)
    with pytest.raises(InputError, match=r"b\.parquet holds paths; give such a table alone"):
        open_source(path.parent)
    pq.write_table(pa.table({"img": jpegs[:5]}), other)
    with pytest.raises(InputError, match="different names \\(image, img\\)"):
        open_source(path.parent)
    other.rename(path.with_name("b.tar"))
    with pytest.raises(InputError, match="several kinds"):
        open_source(path.parent)


def test_one_large_row_group_is_read_once_and_never_whole(tmp_path: Path, jpegs: list[bytes]):
    """30 MB in one row group, read in order: little more than 30 MB, with few of them held."""
    noise = np.random.default_rng(0)
    images = [{"bytes": data + noise.bytes(100_000), "path": None} for data in jpegs * 5]
    options = {"compression": "zstd", "use_dictionary": False, "write_batch_size": 10}
    path = hugging_face(tmp_path / "a.parquet", images, **options)
    source = open_source(path)
    assert pq.ParquetFile(path).num_row_groups == 1
    before, held = psutil.Process().io_counters().read_chars, pa.total_allocated_bytes()
    most = 0
    for i in range(300):
        source.read(i)
        most = max(most, pa.total_allocated_bytes() - held)
    assert psutil.Process().io_counters().read_chars - before < 1.2 * path.stat().st_size
    assert most < 16_000_000


WriteTar = Callable[..., Path]


def test_sources_of_every_kind_follow_their_changes(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """The token of an image is another after its tar or Parquet file was written anew."""
    for path, write in (
        (tmp_path / "a.parquet", lambda p, n: pq.write_table(pa.table({"image": jpegs[:n]}), p)),
        (tmp_path / "a.tar", lambda p, n: write_tar(p, [(f"{i}.jpg", jpegs[i]) for i in range(n)])),
    ):
        write(path, 3)
        before = open_source(path).stat_token(0)
        assert open_source(path).stat_token(2) == before
        write(path, 4)
        assert open_source(path).stat_token(0) != before


@pytest.mark.parametrize("form", ["parquet", "tar", "tar.gz"])
def test_any_part_of_a_part_holds_its_own_images(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar, form: str
):
    """Cutting twice is cutting once, over files and row groups; each part reads what it names."""
    for k in range(3):
        data = jpegs[20 * k : 20 * k + 20]
        path = tmp_path / f"{k}.{form}"
        if form == "parquet":
            pq.write_table(pa.table({"image": data}), path, row_group_size=6)
        else:
            write_tar(path, [(f"{i}.jpg", content) for i, content in enumerate(data)])
    source = open_source(tmp_path)
    assert isinstance(source, EncodedSource)
    for start, stop in [(0, 60), (19, 21), (5, 6), (20, 40), (7, 53), (59, 60)]:
        part = source.cut(start, stop)
        assert [part.read(i) for i in range(len(part))] == jpegs[start:stop]
        for inner in range(0, len(part), 7):
            single = pickle.loads(pickle.dumps(part.cut(inner, inner + 1)))
            assert single.keys == [source.keys[start + inner]]
            assert single.read(0) == jpegs[start + inner]
            assert single.stat_token(0) == source.stat_token(start + inner)
