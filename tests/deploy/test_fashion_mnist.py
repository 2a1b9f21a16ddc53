"""Where the demo's data may come from, and that nothing else is taken for it."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from demo import fashion_mnist
from demo.cut import cut, read_pair
from demo.fashion_mnist import SHA256, DataMissing, NoWay, find, from_debian, from_site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The real data set."""
    cache = tmp_path_factory.mktemp("fashion-mnist")
    try:
        return find(cache, os.environ.get(fashion_mnist.VARIABLE))
    except DataMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def site(tmp_path):
    """A web server for a folder; returns the folder and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_named_folder_is_taken(data, tmp_path):
    """The folder that the user names is used as it is; nothing is copied."""
    assert find(tmp_path / "cache", str(data)) == data
    assert not (tmp_path / "cache").exists()


def test_a_changed_byte_is_refused(data, tmp_path):
    """A folder with one changed byte is refused with the file's name and the remedy."""
    for name in SHA256:
        (tmp_path / name).write_bytes((data / name).read_bytes())
    path = tmp_path / fashion_mnist.TEST_LABELS
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataMissing, match=f"{path.name} has SHA-256 .* fetch it again"):
        find(tmp_path / "cache", str(tmp_path))


def test_the_debian_package_gives_it(tmp_path, program):
    """apt-get and dpkg bring the very files into the cache, where they are found again."""
    program("apt-get")
    cache = tmp_path / "cache"
    try:
        assert from_debian(cache) == cache
    except NoWay as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert {path.name for path in cache.iterdir()} == set(SHA256)
    assert find(cache) == cache


def test_the_site_gives_it(data, site, tmp_path):
    """Files that a web site serves are kept in the cache once their digests agree."""
    folder, address = site
    for name in SHA256:
        (folder / name).symlink_to(data / name)
    cache = tmp_path / "cache"
    assert from_site(cache, address) == cache
    assert {path.name for path in cache.iterdir()} == set(SHA256)


def test_a_site_with_other_bytes_leaves_no_cache(data, site, tmp_path):
    """A cut-off file, or none, is no way, and nothing of it stays."""
    folder, address = site
    for name in SHA256:
        (folder / name).write_bytes((data / name).read_bytes()[:-1])
    with pytest.raises(NoWay, match="SHA-256"):
        from_site(tmp_path / "cache", address)
    (folder / fashion_mnist.TRAIN_IMAGES).unlink()
    with pytest.raises(NoWay, match="404"):
        from_site(tmp_path / "cache", address)
    assert not (tmp_path / "cache").exists()


def test_without_data_the_demo_names_three_ways(tmp_path):
    """`python -m demo` without data exits with 2 and names all three ways to get it."""
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "deploy"), fashion_mnist.VARIABLE: "nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    for way in (f"{fashion_mnist.VARIABLE}=FOLDER", "apt-get install", fashion_mnist.SITE):
        assert way in done.stderr


def test_a_cut_is_the_beginning(data, tmp_path):
    """A cut holds the first images with their own labels, in files that read like the whole."""
    folder = cut(data, tmp_path / "cut", images=300, test_images=40)
    for names, count in (
        ((fashion_mnist.TRAIN_IMAGES, fashion_mnist.TRAIN_LABELS), 300),
        ((fashion_mnist.TEST_IMAGES, fashion_mnist.TEST_LABELS), 40),
    ):
        whole = read_pair(data / names[0], data / names[1])
        part = read_pair(folder / names[0], folder / names[1])
        for all_rows, first_rows in zip(whole, part, strict=True):
            assert (first_rows == all_rows[:count]).all()
    assert cut(data, tmp_path / "whole", images=None, test_images=None) == data
