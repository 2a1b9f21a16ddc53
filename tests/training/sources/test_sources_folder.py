import os
from pathlib import Path

import pytest

from handful_bundle.errors import ImageError
from handful_training.errors import InputError
from handful_training.sources.source import open_source


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_a_folder_is_searched_to_its_leaves_in_sorted_order(tmp_path: Path):
    """Keys are sorted paths with slashes, whatever the order on disk and the case of suffixes."""
    touch(tmp_path, "z.jpg", "b/y.PNG", "b/c/d/x.WebP", "a/w.JPEG")
    source = open_source(tmp_path)
    assert list(source.keys) == ["a/w.JPEG", "b/c/d/x.WebP", "b/y.PNG", "z.jpg"]
    assert [source.read(i) for i in range(4)] == [key.encode() for key in source.keys]


def test_other_files_are_counted_and_hidden_ones_are_not_seen(tmp_path: Path):
    """The summary tells how many files of which sort were left aside; hidden ones don't count."""
    touch(tmp_path, "a.jpg", "notes.txt", "b/more.txt", "b/data.bmp", ".hidden.jpg", ".git/x.jpg")
    touch(tmp_path, "handful-work/runs/1/plot.png", "mlruns/1/plot.png")  # of a run in this folder
    source = open_source(tmp_path)
    assert list(source.keys) == ["a.jpg"]
    assert "3 other files (2 .txt, 1 .bmp)" in source.summary


def test_links_are_followed_once_and_real_names_win(tmp_path: Path):
    """A loop of links ends, and an image that has a real path under IMAGES is found only there."""
    touch(tmp_path, "in/z/one.jpg", "out/two.jpg")
    root = tmp_path / "in"
    (root / "a").symlink_to(root / "z", target_is_directory=True)
    (root / "z" / "loop").symlink_to(root, target_is_directory=True)
    (root / "out").symlink_to(tmp_path / "out", target_is_directory=True)
    (root / "out2").symlink_to(tmp_path / "out", target_is_directory=True)
    assert list(open_source(root).keys) == ["out/two.jpg", "z/one.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
def test_a_pipe_with_an_image_name_blocks_nobody(tmp_path: Path):
    """A pipe is no image in a folder, and in a CSV it is refused instead of waited for."""
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list(open_source(tmp_path).keys) == ["a.jpg"]
    (tmp_path / "list.csv").write_text("path\npipe.jpg\n")
    with pytest.raises(ImageError, match="not a regular file") as caught:
        open_source(tmp_path / "list.csv").read(0)
    assert caught.value.code == "file_unreadable"


def test_a_broken_link_is_one_missing_image(tmp_path: Path):
    """What is called like an image but leads nowhere is reported by its name, not passed over."""
    touch(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    source = open_source(tmp_path)
    assert list(source.keys) == ["a.jpg", "gone.jpg"]
    with pytest.raises(ImageError) as caught:
        source.read(1)
    assert caught.value.code == "file_missing"


def test_names_that_are_not_utf8_can_be_read(tmp_path: Path):
    """A file name in an old encoding does no harm."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(path)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert open_source(tmp_path).read(0) == b"x"


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path):
    """The message counts what was found instead, and names the suffixes that count."""
    touch(tmp_path, "a.bmp", "b.bmp", "c.txt")
    with pytest.raises(InputError, match=r"3 other files \(2 \.bmp, 1 \.txt\).*\.webp"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "does not exist"),
        ("one.jpg", "single image; give the folder"),
        ("data.bin", "not a source of images"),
    ],
)
def test_what_is_no_source_is_named_beside_what_is(tmp_path: Path, name: str, message: str):
    """Every refusal ends with the forms that are taken."""
    if name != "nothing":
        (tmp_path / name).write_bytes(b"12345678")
    with pytest.raises(InputError, match=f"{message}.*`path` column"):
        open_source(tmp_path / name)
