"""Find Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747), byte for byte, or say how.

Three ways, in this order: a folder that the user names, the Debian package, the data set's own
site. Whatever a way brings counts only when the SHA-256 digests agree. Knows nothing of training.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx

NAME = "Fashion-MNIST"
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
SHA256 = {
    TRAIN_IMAGES: "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    TRAIN_LABELS: "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    TEST_IMAGES: "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    TEST_LABELS: "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}

VARIABLE = "HANDFUL_FASHION_MNIST"
PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CONNECT_SECONDS = 10
COMMAND_SECONDS = 120


class DataMissing(Exception):
    """No way led to the data set. The message names all three."""


class NoWay(Exception):
    """This way is barred; the message says by what."""


def find(cache: Path, named: str | None = None) -> Path:
    """Return a folder that holds the four files of `SHA256`, fetching them into `cache` if need be.

    Args:
        cache: where fetched files are kept for the next time.
        named: a folder that the user names; then no other is tried.

    Raises:
        DataMissing: there is no such folder, and none could be fetched.
    """
    if named is not None:
        try:
            return _checked(Path(named))
        except NoWay as error:
            raise DataMissing(f"{VARIABLE}={named}: {error}\n{_three_ways(cache)}") from error
    ways: dict[str, Callable[[], Path]] = {
        f"kept in {cache}": lambda: _checked(cache),
        f"installed in {INSTALLED}": lambda: _checked(INSTALLED),
        f"Debian package {PACKAGE}": lambda: from_debian(cache),
        SITE: lambda: from_site(cache),
    }
    barred = []
    for way, attempt in ways.items():
        try:
            return attempt()
        except NoWay as error:
            barred.append(f"  {way}: {error}")
    tried = "\n".join(barred)
    raise DataMissing(f"{NAME} was not found. Tried:\n{tried}\n{_three_ways(cache)}")


def _three_ways(cache: Path) -> str:
    return (
        "Any of these three gives it:\n"
        f"  {VARIABLE}=FOLDER make demo   with the four files {', '.join(SHA256)}\n"
        f"  apt-get install {PACKAGE}   on Debian and its kin\n"
        f"  the four files from {SITE} put into {cache}"
    )


def _checked(folder: Path) -> Path:
    for name, expected in SHA256.items():
        path = folder / name
        if not path.is_file():
            raise NoWay(f"no {name} there")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise NoWay(f"{name} has SHA-256 {found}, not {expected}; fetch it again")
    return folder


def _keep(found: Path, cache: Path) -> Path:
    """Move the checked files of `found` into `cache`, each at once, and return `cache`."""
    _checked(found)
    cache.mkdir(parents=True, exist_ok=True)
    for name in SHA256:
        part = cache / f".{name}.{os.getpid()}"
        shutil.copyfile(found / name, part)
        part.replace(cache / name)
    return cache


def from_debian(cache: Path) -> Path:
    """Unpack the Debian package into `cache` and return it; needs no root and installs nothing.

    Raises:
        NoWay: no apt-get here, or it cannot fetch the package.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NoWay("no apt-get here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            _apt_get(folder, "download", PACKAGE)
        except NoWay:  # this machine's package lists are empty or old: use lists of our own
            (folder / "lists/partial").mkdir(parents=True)
            own = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
            _apt_get(folder, *own, "update")
            _apt_get(folder, *own, "download", PACKAGE)
        (package,) = folder.glob("*.deb")
        _command(["dpkg", "--extract", str(package), "unpacked"], folder)
        return _keep(folder / "unpacked" / INSTALLED.relative_to("/"), cache)


def _apt_get(folder: Path, *arguments: str) -> None:
    patience = [f"Acquire::{scheme}::Timeout={CONNECT_SECONDS}" for scheme in ("http", "https")]
    # The unprivileged user that apt switches to as root cannot write into our private folder.
    options = [*patience, "Acquire::Retries=0", "APT::Sandbox::User=root"]
    flags = [word for option in options for word in ("-o", option)]
    _command(["apt-get", "--quiet=2", *flags, *arguments], folder)


def _command(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise NoWay(f"{command[0]}: {lines[-1]}") from error
    except subprocess.TimeoutExpired as error:
        raise NoWay(f"{command[0]}: no answer in {COMMAND_SECONDS} s") from error


def from_site(cache: Path, site: str = SITE) -> Path:
    """Download the four files into `cache` and return it.

    Raises:
        NoWay: no answer, or other bytes than they must be.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in SHA256:
            try:
                with (
                    httpx.stream("GET", site + name, timeout=CONNECT_SECONDS) as answer,
                    Path(folder, name).open("wb") as file,
                ):
                    answer.raise_for_status()
                    file.writelines(answer.iter_raw())  # raw: the files stay packed
            except httpx.HTTPError as error:
                raise NoWay(f"{name}: {error}") from error
        return _keep(Path(folder), cache)
