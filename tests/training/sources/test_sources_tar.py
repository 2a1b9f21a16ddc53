"""Images in tars, whole and damaged, honest and hostile."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_training.errors import InputError, TrainingError
from handful_training.labels.labels import read_labels
from handful_training.packs.pack import pack_source
from handful_training.sources.naming import expand
from handful_training.sources.source import Source, open_source

SPEC = ImageSpec(height=24, width=32, channels=3)
WriteTar = Callable[..., Path]


def labels_of(source: Source, images: Path, spec: str) -> dict[str, str]:
    """Return label by key."""
    _, labels = read_labels(spec, source, images, min_classes=1)
    return {k: labels.names[t] for k, t in zip(labels.keys, labels.target.tolist(), strict=True)}


def read_chars() -> int:
    """Return how many bytes this process has read from anywhere."""
    return int(psutil.Process().io_counters().read_chars)


@pytest.mark.parametrize(
    "images", ["one.tar", "one.tar.gz", "one.tgz", "shards", "shards/s-{00..02}.tar", "packed"]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_form_of_tars_gives_the_images_in_order(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar, images: str, workers: int
):
    """Plain or gzipped, one or several, named or by pattern: the pixels are those of the files."""
    files = [(f"{i:04}.jpg", data) for i, data in enumerate(jpegs)]
    if images.startswith("one"):
        write_tar(tmp_path / images, files)
    for k, start in enumerate(range(0, 60, 20)):
        name = f"packed/s-{k:02}.tar.gz" if images == "packed" else f"shards/s-{k:02}.tar"
        write_tar(tmp_path / name, files[start : start + 20])
    source = open_source(str(tmp_path / images))
    assert list(source.keys) == [name for name, _ in files]
    assert [source.read(i) for i in (0, 59, 30, 31)] == [jpegs[i] for i in (0, 59, 30, 31)]
    pack = pack_source(source, SPEC, tmp_path / "work", workers=workers)
    assert np.array_equal(pack.images, np.stack([decode(data, SPEC) for data in jpegs]))


def test_parts_of_a_sample_label_its_image(tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar):
    """`.cls`, else the key `label` of the .json; or the suffix or key that is named."""
    facts = json.dumps({"label": "bird", "colour": 3})
    tar = write_tar(
        tmp_path / "a.tar",
        [
            ("x/1.jpg", jpegs[0]), ("x/1.cls", b"cat\n"), ("x/1.txt", b"a small cat"),
            ("x/2.json", facts.encode()), ("x/2.left.jpg", jpegs[1]), ("x/2.right.jpg", jpegs[2]),
            ("y/1.jpg", jpegs[3]), ("y/1.npy", b"?"),
        ],
    )  # fmt: skip
    source = open_source(tar)
    assert labels_of(source, tar, "column") == {
        "x/1.jpg": "cat", "x/2.left.jpg": "bird", "x/2.right.jpg": "bird"
    }  # fmt: skip
    assert labels_of(source, tar, "column:txt") == {"x/1.jpg": "a small cat"}
    assert set(labels_of(source, tar, "column:colour").values()) == {"3"}
    assert labels_of(source, tar, "folders") == {key: key.partition("/")[0] for key in source.keys}
    with pytest.raises(InputError, match=r"none of 4 images.*has a label"):
        labels_of(source, tar, "column:nothing")


def test_a_label_that_is_none_is_refused(tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar):
    """A list, or a .json that is none, is said with the name of its member."""
    for note in (b'{"label": [1]}', b"{"):
        tar = write_tar(tmp_path / "a.tar", [("1.jpg", jpegs[0]), ("1.json", note)])
        with pytest.raises(InputError, match=r"a\.tar, 1\.json"):
            labels_of(open_source(tar), tar, "column")


def test_a_name_in_two_shards_gets_its_shard_before_it(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """Keys never clash, and the shard is no class."""
    for k in range(2):
        files = [("0.jpg", jpegs[k]), ("cat/1.jpg", jpegs[2 + k])]
        write_tar(tmp_path / "s" / f"{k}.tar", files)
    source = open_source(tmp_path / "s")
    assert list(source.keys) == [
        "0.tar!/0.jpg", "0.tar!/cat/1.jpg", "1.tar!/0.jpg", "1.tar!/cat/1.jpg"
    ]  # fmt: skip
    assert set(labels_of(source, tmp_path / "s", "folders").values()) == {"cat"}
    assert source.read(2) == jpegs[1]


def test_of_two_members_of_one_name_the_last_counts(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """As it would after unpacking; and it is said."""
    files = [("a.jpg", jpegs[0]), ("b.jpg", jpegs[1]), ("a.jpg", jpegs[2])]
    source = open_source(write_tar(tmp_path / "a.tar", files))
    assert [source.read(i) for i in range(len(source))] == [jpegs[2], jpegs[1]]
    assert "a later one of the same name" in source.summary


def test_nothing_hostile_is_followed_or_written(tmp_path: Path, jpegs: list[bytes]):
    """Links, devices, absolute names and names with `..` are left aside and said."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpegs[0])
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, kind in [
            ("soft.jpg", tarfile.SYMTYPE), ("hard.jpg", tarfile.LNKTYPE),
            ("dev.jpg", tarfile.CHRTYPE), ("pipe.jpg", tarfile.FIFOTYPE),
        ]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        for name in ("/abs.jpg", "../up.jpg", "a/../../b.jpg", "good.jpg", "._good.jpg", "./c.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(jpegs[1])
            archive.addfile(info, io.BytesIO(jpegs[1]))
    source = open_source(path, tmp_path / "lists")
    assert list(source.keys) == ["good.jpg", "c.jpg"]
    assert "4 links and special files" in source.summary
    assert "3 unsafe names" in source.summary
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "lists", "secret.jpg"]
    assert [item.name for item in path.parent.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_kept(tmp_path: Path, jpegs: list[bytes], form: int):
    """Names over 100 bytes and outside ASCII are as they were written."""
    names = [f"{'ü' * 70}/{'n' * 90}.jpg", "日本.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = len(jpegs[i])
            archive.addfile(info, io.BytesIO(jpegs[i]))
    source = open_source(tmp_path / "a.tar")
    assert list(source.keys) == names
    assert [source.read(i) for i in range(2)] == jpegs[:2]


def test_a_tar_that_is_cut_is_refused_or_whole_so_far(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """Cut between two members it is a shorter tar; cut anywhere else it is refused."""
    whole = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", jpegs[i]) for i in range(4)]).read_bytes()
    starts = [0]
    for data in jpegs[:4]:
        starts.append(starts[-1] + 512 + -(-len(data) // 512) * 512)
    cut = tmp_path / "b.tar"
    for length in [*starts[1:], *range(1, starts[-1], 347)]:
        cut.write_bytes(whole[:length])
        if length in starts:
            source = open_source(cut)
            assert [source.read(i) for i in range(len(source))] == jpegs[: starts.index(length)]
        else:
            with pytest.raises(InputError, match="fetch it again or leave it out"):
                open_source(cut)


@pytest.mark.parametrize("member", [0, 2])
def test_a_damaged_header_is_refused(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar, member: int
):
    """The images behind it would be lost without a word."""
    tar = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", jpegs[i]) for i in range(4)])
    data = bytearray(tar.read_bytes())
    at = data.index(f"{member}.jpg".encode())
    data[at + 150] ^= 0x55
    tar.write_bytes(data)
    with pytest.raises(InputError, match="is damaged or no tar"):
        open_source(tar)


@pytest.mark.parametrize("damage", ["cut", "flipped", "checksum"])
def test_a_damaged_gzip_is_refused(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar, damage: str
):
    """Also when the damage lies behind the last image."""
    tar = write_tar(tmp_path / "a.tar.gz", [(f"{i}.jpg", jpegs[i]) for i in range(20)])
    data = bytearray(tar.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 if damage == "flipped" else -6] ^= 0xFF
    tar.write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        open_source(tar)


def test_empty_shards_are_said_and_nothing_at_all_is_refused(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """A shard without images costs nothing; without any image there is nothing to do."""
    write_tar(tmp_path / "s" / "0.tar", [])
    (tmp_path / "s" / "1.tar").write_bytes(b"")
    write_tar(tmp_path / "s" / "2.tar", [("readme.md", b"hello")])
    with pytest.raises(InputError, match=r"no image in .*3 tar files.*1 \.md"):
        open_source(tmp_path / "s")
    write_tar(tmp_path / "s" / "3.tar", [("a.jpg", jpegs[0])])
    assert "3 of the tars hold none" in open_source(tmp_path / "s").summary


def test_a_missing_shard_of_a_pattern_is_named(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """A pattern promises all of its files."""
    write_tar(tmp_path / "0.tar", [("a.jpg", jpegs[0])])
    with pytest.raises(InputError, match=r"1\.tar cannot be read: No such file"):
        open_source(str(tmp_path / "{0..1}.tar"))
    assert expand("{a,b}-{08..10}") == ["a-08", "a-09", "a-10", "b-08", "b-09", "b-10"]


def test_a_gzipped_tar_is_gone_through_once(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """Reading 400 images in order reads the file once, not 400 times."""
    tar = write_tar(tmp_path / "a.tgz", [(f"{i}.jpg", jpegs[i % 60]) for i in range(400)])
    source = open_source(tar)
    before = read_chars()
    for i in range(400):
        source.read(i)
    assert read_chars() - before < 2 * tar.stat().st_size + 100_000


def test_an_unchanged_tar_is_listed_once(tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar):
    """Its list is kept; a changed tar, or a damaged list, is gone through again."""
    big = b"\0" * 50_000
    tar = write_tar(tmp_path / "a.tar.gz", [(f"{i}.jpg", jpegs[0]) for i in range(9)])
    lists = tmp_path / "lists"
    keys = list(open_source(tar, lists).keys)
    (kept,) = lists.iterdir()
    text = kept.read_text()
    kept.write_text(text.replace("0.jpg", "list.jpg"))
    assert open_source(tar, lists).keys[0] == "list.jpg"
    kept.write_text(text[: len(text) // 2])
    assert list(open_source(tar, lists).keys) == keys
    write_tar(tar, [("new.jpg", jpegs[0]), ("x.bin", big)])
    assert list(open_source(tar, lists).keys) == ["new.jpg"]


def test_a_list_that_cannot_be_kept_is_said(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """With the setting that moves it; the tar itself is not blamed."""
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", jpegs[0])])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"cannot be written .* set HANDFUL_WORK"):
        open_source(tar, tmp_path / "file" / "lists")


def test_a_tar_that_changes_after_it_was_listed_fails_image_by_image(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """What is not where it was is refused, never taken for an image."""
    tar = write_tar(tmp_path / "a.tar", [(f"{i}.jpg", jpegs[i]) for i in range(4)])
    source = open_source(tar)
    assert source.read(3) == jpegs[3]
    other = open_source(write_tar(tmp_path / "b.tar", [("0.jpg", jpegs[0])]))
    other.read(0)  # one tar is open at a time
    os.truncate(tar, 2000)
    with pytest.raises(ImageError, match="ends before it"):
        source.read(3)
    tar.unlink()
    other.read(0)
    with pytest.raises(ImageError):
        source.read(0)


def test_a_plain_file_that_is_called_gz_is_read(
    tmp_path: Path, jpegs: list[bytes], write_tar: WriteTar
):
    """What it begins with decides, not its name."""
    plain = write_tar(tmp_path / "a.tar", [("a.jpg", jpegs[0])])
    (tmp_path / "b.tgz").write_bytes(plain.read_bytes())
    (tmp_path / "c.tar").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("b.tgz", "c.tar"):
        assert open_source(tmp_path / name).read(0) == jpegs[0]
