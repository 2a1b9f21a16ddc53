from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_training.errors import InputError
from handful_training.labels.labels import Labels, read_labels
from handful_training.sources.source import Source, open_source

WriteIdx = Callable[[Path, NDArray[np.uint8]], Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of four images in two class folders, and one beside them."""
    for name in ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "deep/dog/d.jpg", "e.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def by_key(source: Source, labels: Labels) -> dict[str, str]:
    """Return each labelled image's label, read through `index`; it must agree with `keys`."""
    keys = [source.keys[i] for i in labels.index.tolist()]
    assert tuple(keys) == labels.keys
    return {key: labels.names[k] for key, k in zip(keys, labels.target.tolist(), strict=True)}


def read(images: Path, spec: object) -> tuple[dict[str, str], Labels]:
    source, labels = read_labels(str(spec), open_source(images), images)
    return by_key(source, labels), labels


def table(images: Path, text: str) -> Path:
    path = images.parent / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_folders_name_the_class_of_their_files(images: Path):
    """The parent folder is the label, at any depth; what lies in no folder stays unlabelled."""
    found, labels = read(images, "folders")
    assert found == {
        "cat/a.jpg": "cat",
        "cat/b.jpg": "cat",
        "dog/c.jpg": "dog",
        "deep/dog/d.jpg": "dog",
    }
    assert labels.names == ("cat", "dog")
    assert labels.notes == ("1 images lie in no class folder and stay unlabelled",)


def test_a_table_labels_by_path(images: Path):
    """Byte order mark, white space, repeated lines and spellings of a path do not matter."""
    absolute = images / "dog" / "c.jpg"
    path = table(
        images,
        f"\ufeffpath , label\n cat/a.jpg , cat \n./cat/a.jpg,cat\n{absolute},dog\ncat/b.jpg,\n",
    )
    found, labels = read(images, path)
    assert found == {"cat/a.jpg": "cat", "dog/c.jpg": "dog"}
    assert labels.notes == (f"1 lines of {path} have no label; they stay unlabelled",)


def test_labels_may_be_any_words(images: Path):
    """Commas, quotes and accents are part of a label; two ways to write é are one class."""
    path = table(
        images, 'path,label\ncat/a.jpg,"a, ""b"""\ndog/c.jpg,caf\u00e9\ne.jpg,cafe\u0301\n'
    )
    found, _ = read(images, path)
    assert found == {"cat/a.jpg": 'a, "b"', "dog/c.jpg": "caf\u00e9", "e.jpg": "caf\u00e9"}


def test_unknown_paths_are_counted_and_three_are_shown(images: Path):
    """Labels of images that are not there are left aside, not silently."""
    lines = "".join(f"no/{i}.jpg,cat\n" for i in range(5))
    found, labels = read(
        images, table(images, f"path,label\ncat/a.jpg,cat\ndog/c.jpg,dog\n{lines}")
    )
    assert len(found) == 2
    (note,) = labels.notes
    assert note.startswith("5 of 7 paths")
    assert note.endswith("no/0.jpg, no/1.jpg, no/2.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx.jpg,cat\ny.jpg,dog\n", r"2 of 2 paths.*relative to .*images, .*cat/a\.jpg"),
        ("path,label\ncat/a.jpg,cat\ncat/a.jpg,dog\n", "line 3.*'dog'.*before it was 'cat'"),
        ("path,label\ncat/a.jpg,cat\ncat/b.jpg,cat\n", r"cat \(2\).*at least 2 classes"),
        ("path,label\ncat/a.jpg,\n", "has no label; fill"),
        ("path,label\n", "has no label; fill"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ("path,class\ncat/a.jpg,cat\n", "no column `label`.*found `path,class`"),
        ("path;label\ncat/a.jpg;cat\n", "no column `path`.*commas between"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(images: Path, text: str, message: str):
    """The message says what was found, and where."""
    with pytest.raises(InputError, match=message):
        read(images, table(images, text))


def test_a_label_in_an_old_encoding_is_refused(images: Path):
    """Bytes that are not UTF-8 in a label are named with their line."""
    path = table(images, "")
    path.write_bytes(b"path,label\ncat/a.jpg,caf\xe9\ncat/b.jpg,x\n")
    with pytest.raises(InputError, match=r"line 2: the label .* is not UTF-8"):
        read(images, path)


def test_class_folders_elsewhere_join_the_pool(images: Path, tmp_path: Path):
    """Their images follow those of IMAGES, under absolute keys, and can be read."""
    for name in ("cat/x.jpg", "owl/y.jpg", "loose.jpg"):
        path = tmp_path / "more" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    source, labels = read_labels(str(tmp_path / "more"), open_source(images), images)
    more = (tmp_path / "more").resolve()
    assert by_key(source, labels) == {f"{more}/cat/x.jpg": "cat", f"{more}/owl/y.jpg": "owl"}
    assert len(source) == 8
    assert [source.read(i) for i in labels.index] == [b"cat/x.jpg", b"owl/y.jpg"]
    assert any("join the pool unlabelled" in note for note in labels.notes)


def test_class_folders_within_images_are_not_counted_twice(images: Path):
    """An image that lies in both is labelled where it is: the pool does not grow."""
    (images / "owl").mkdir()
    (images / "owl" / "f.jpg").write_bytes(b"f")
    link = images.parent / "link"
    link.symlink_to(images, target_is_directory=True)
    source, labels = read_labels(str(link), open_source(images), images)
    assert len(source) == 6
    assert by_key(source, labels)["owl/f.jpg"] == "owl"


def test_a_folder_of_class_folders_without_folders_is_refused(images: Path, tmp_path: Path):
    """Images without a class folder say how to make one."""
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "x.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="put those of each class in a folder"):
        read(images, tmp_path / "flat")
    with pytest.raises(InputError, match="1 images, all directly in it"):
        read(tmp_path / "flat", "folders")


def test_the_labels_of_an_idx_pair(tmp_path: Path, write_idx: WriteIdx):
    """Label i belongs to image i, and its name is the number."""
    path = write_idx(tmp_path / "images.gz", np.zeros((100, 4, 4), np.uint8))
    target = np.arange(100, dtype=np.uint8) % 3 + 7
    found, labels = read(path, write_idx(tmp_path / "labels.gz", target))
    assert labels.names == ("7", "8", "9")
    assert [found[f"{i:02d}"] for i in range(100)] == [str(k) for k in target]


def test_idx_files_that_are_no_pair_are_refused(tmp_path: Path, images: Path, write_idx: WriteIdx):
    """Another count, images given as labels, and labels of an idx file for a folder."""
    path = write_idx(tmp_path / "images.gz", np.zeros((100, 4, 4), np.uint8))
    with pytest.raises(InputError, match="99 labels for 100 images; they are no pair"):
        read(path, write_idx(tmp_path / "labels.gz", np.zeros(99, np.uint8)))
    with pytest.raises(InputError, match="holds images; --labels takes the labels file"):
        read(path, path)
    with pytest.raises(InputError, match="labels the images of an idx file"):
        read(images, tmp_path / "labels.gz")
    with pytest.raises(InputError, match="no files in folders"):
        read(path, "folders")


@pytest.mark.parametrize("spec", ["nothing", "nothing.csv", "images/e.jpg"])
def test_what_is_no_form_of_labels_is_named_beside_what_is(images: Path, spec: str):
    """Every refusal lists the forms that `--labels` takes."""
    with pytest.raises(InputError, match=r"--labels takes a \.csv file"):
        read(images, images.parent / spec)


def test_one_class_is_enough_where_the_caller_says_so(images: Path):
    """To evaluate on images of a single class is no mistake."""
    path = table(images, "path,label\ncat/a.jpg,cat\ncat/b.jpg,cat\n")
    _, labels = read_labels(str(path), open_source(images), images, min_classes=1)
    assert labels.counts() == {"cat": 2}
