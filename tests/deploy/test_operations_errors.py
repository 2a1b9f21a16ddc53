"""docs/operations.md on errors: a row for each, with the status that the code has."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import handful_bundle
import handful_client.errors
import handful_service
import handful_training
from handful_bundle.errors import BundleError, BundleMissing, HandfulError, ImageError
from handful_client.problems import _BY_STATUS
from handful_service.errors import KINDS, ServiceError
from handful_service.keys import KeysUnusable
from handful_service.registry import RegistryError
from handful_training.errors import InputError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()


def _section(title: str) -> str:
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def _rows(section: str) -> dict[str, list[str]]:
    """Return the cells of each table row of a section, by the first cell's word."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}


CODES = _rows(_section("Codes of the service"))
CLASSES = {
    name: cells
    for name, cells in _rows(_section("Errors in the log, and exit statuses")).items()
    if name[0].isupper()  # the table of commands stands beside
}
CLIENT = _rows(_section("Errors of the client"))


def _load_errors(package: ModuleType) -> None:
    """Import the modules of a package that define errors."""
    (root,) = package.__path__
    definition = re.compile(r"^class \w+\(\w*(Error|Bundle\w+|Unavailable)\):", re.MULTILINE)
    for path in Path(root).rglob("*.py"):
        if definition.search(path.read_text()):
            name = path.relative_to(Path(root).parent).with_suffix("")
            importlib.import_module(".".join(name.parts))


def _below(root: type[Exception]) -> Iterator[type[Exception]]:
    for child in root.__subclasses__():
        yield child
        yield from _below(child)


@pytest.fixture(scope="module")
def classes() -> list[type[Exception]]:
    """Every error class of bundle, service and training that is raised."""
    for package in (handful_bundle, handful_service, handful_training):
        _load_errors(package)
    return [error for error in set(_below(HandfulError)) if error not in (BundleError, ImageError)]


def test_each_code_has_its_row() -> None:
    """Each code of a problem or of an item's error has a row with its status and whether to try
    again; no row is about a code that does not exist.
    """
    told = {code: (cells[0], cells[1]) for code, cells in CODES.items()}
    assert told == {
        code: (str(kind.status), "yes" if kind.retryable else "no") for code, kind in KINDS.items()
    }


def test_each_row_names_meaning_and_remedy() -> None:
    """No cell of the tables of errors is empty."""
    for table, width in ((CODES, 4), (CLASSES, 4), (CLIENT, 3)):
        for name, cells in table.items():
            assert len(cells) == width, name
            assert all(cells), name


def test_each_image_code_is_told(classes) -> None:
    """The codes of images are among the service's, or in the sentence about rejected.csv."""
    (sentence,) = re.findall(r"^In `rejected\.csv`.*$", PAGE, re.MULTILINE)
    codes = {error.code for error in classes if issubclass(error, ImageError)}
    assert codes
    assert not {code for code in codes if code not in CODES and f"`{code}`" not in sentence}


def test_each_class_has_its_row(classes) -> None:
    """Each error that can end a command has a row with that command's exit status."""
    ours = [error for error in classes if not issubclass(error, (ImageError, ServiceError))]
    assert {error.__name__ for error in ours} == set(CLASSES)
    for error in ours:
        place, said = CLASSES[error.__name__][:2]
        statuses = []
        if "service" in place:
            usage = (BundleMissing, KeysUnusable, RegistryError)
            statuses.append(2 if issubclass(error, usage) else 1)
        if "training" in place:
            statuses.append(2 if issubclass(error, InputError) else 1)
        assert said == ", ".join(map(str, dict.fromkeys(statuses))), error.__name__
        assert ("service" in place) >= error.__module__.startswith("handful_service")
        assert ("training" in place) >= error.__module__.startswith("handful_training")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["handful-serve", "--model", "no-such-folder"], 2),
        (["handful-serve", "--port", "ninety"], 2),
        (["handful-serve", "--model", "models:/"], 2),
        (["handful-train", "run", "photos", "--time-budget", "soon"], 2),
        (["handful", "embed", "no-such-file.png"], 2),
        (["handful", "embed", "image.png", "--url", "http://127.0.0.1:1"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_commands_end_with_the_status_that_the_page_says(command, status, tmp_path) -> None:
    """Bad usage or input is status 2, a failure 1, each with one line on stderr."""
    (tmp_path / "image.png").write_bytes(b"image")
    done = subprocess.run(
        [Path(sys.executable).with_name(command[0]), *command[1:]],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{command[0]}: ")
    assert "Traceback" not in done.stderr


def test_each_client_error_has_its_row() -> None:
    """Each error of the client has a row: its own code or its status, and whether to try again."""
    errors = set(_below(handful_client.errors.HandfulError))
    assert {error.__name__ for error in errors} == set(CLIENT)
    statuses: dict[str, list[str]] = {}
    for status, error in _BY_STATUS.items():
        statuses.setdefault(error.__name__, []).append(str(status))
    for error in errors:
        what, again, _ = CLIENT[error.__name__]
        for status in statuses.get(error.__name__, []):
            assert status in what, error.__name__
        if "default_code" in vars(error) and error.__name__ != "ServiceError":
            assert f"`{error.default_code}`" in what
        if error.__name__ != "ServiceError":
            said = any(str(kind.status) in what for kind in KINDS.values() if kind.retryable)
            assert (again == "yes") == (error.default_retryable or said), error.__name__


def test_quoted_messages_are_messages() -> None:
    """What the page quotes of the lines of `handful-train` stands in its source."""
    table = _section("Errors in the log, and exit statuses").split("What the lines of")[1]
    quoted = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(quoted) >= 10
    source = "".join(
        path.read_text() for path in (ROOT / "training" / "handful_training").rglob("*.py")
    )
    # A message may be written as several strings, one a line.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    assert not [text for text in quoted if text not in source]
