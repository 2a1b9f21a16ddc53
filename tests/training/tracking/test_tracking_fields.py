"""Names and values as MLflow takes them, and what a run says of its origin."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful_training.errors import InputError
from handful_training.tracking import fields, names, patient
from handful_training.tracking.names import Reference
from handful_training.tracking.origin import origin
from handful_training.tracking.patient import Patient
from handful_training.tracking.store import absolute, redacted, without_credentials


def test_nested_settings_become_dotted_names():
    """A block's settings keep their path."""
    nested = {"seed": 0, "model": {"width": None, "grid": (0.1, 1)}, "empty": {}}
    assert fields.flatten(nested) == {
        "seed": 0, "model.width": None, "model.grid": (0.1, 1),
    }  # fmt: skip


@settings(deadline=None)
@given(st.text(max_size=600))
def test_every_name_becomes_one_that_mlflow_accepts(name):
    """MLflow's own validation takes each name that we make, and good names are left alone."""
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    key = fields.key(name)
    _validate_metric_name(key)
    _validate_param_name(key)
    assert len(key) <= fields.MAX_KEY
    assert fields.key(key) == key


@settings(deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_two_names_stay_two(first, second):
    """Different names never fall together."""
    assert (fields.key(first) == fields.key(second)) == (first == second)


@settings(deadline=None)
@given(st.text(min_size=400, max_size=700), st.text(min_size=400, max_size=700))
def test_long_values_are_cut_but_stay_distinct(first, second):
    """A parameter has at most 500 characters, and two values never fall together."""
    assert len(fields.value(first)) <= fields.MAX_VALUE
    assert (fields.value(first) == fields.value(second)) == (first == second)


def test_values_read_as_people_write_them():
    """Plain values are left as they are, the rest is JSON."""
    values = [None, True, 3, 0.1, "fit", (0.1, 1), {"a": [1]}]
    assert [fields.value(value) for value in values] == [
        "None", "True", "3", "0.1", "fit", "[0.1, 1]", '{"a": [1]}',
    ]  # fmt: skip


def test_numbers_that_are_not_finite_are_set_apart():
    """NaN and infinities never reach a chart."""
    finite, other = fields.split_finite({"a": 1, "b": math.nan, "c": math.inf, "d": -math.inf})
    assert finite == {"a": 1.0}
    assert other.keys() == {"b", "c", "d"}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("fashion", Reference("fashion")),
        ("fashion@champion", Reference("fashion", alias="champion")),
        ("fashion/12", Reference("fashion", version="12")),
        ("models:/fashion@previous", Reference("fashion", alias="previous")),
        ("models:/my model.v2/3", Reference("my model.v2", version="3")),
    ],
)
def test_references_are_read(text, meaning):
    """NAME, NAME@ALIAS and NAME/VERSION, with or without models:/ before them."""
    assert names.parse(text) == meaning


@pytest.mark.parametrize(
    "text", ["", "a/b", "a/0", "a/1/2", "a@", "@b", "a@b@c", "a:b", " a", "a'b", "../a", "x" * 300]
)
def test_other_references_are_refused(text):
    """What could not be a model's name is refused with the forms that can."""
    with pytest.raises(InputError, match=r"NAME|letters"):
        names.parse(text)


def test_a_relative_sqlite_file_is_bound_to_the_folder_of_the_start(tmp_path, monkeypatch):
    """The file stays the same when the current folder changes later; other URIs are untouched."""
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute("sqlite:////var/m.db?timeout=9") == "sqlite:////var/m.db?timeout=9"
    assert absolute("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_passwords_are_never_shown():
    """User and password of a URI do not reach messages."""
    assert redacted("postgresql://ann:secret@db/mlflow") == "postgresql://…@db/mlflow"
    assert redacted("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_the_origin_names_no_folders():
    """A command is recorded without the absolute folders that its words hold."""
    words = ["/home/ann/.venv/bin/handful-train", "run", "/home/ann/photos/", "--labels",
             "~/labels.csv", "--config=/etc/x.toml", "relative/set", "--set", "a.b=1"]  # fmt: skip
    tags = origin(words)
    assert tags["handful.command"] == (
        "handful-train run photos --labels labels.csv --config=x.toml relative/set --set a.b=1"
    )
    assert tags["mlflow.source.name"] == "handful-train"
    assert "handful.version.numpy" in tags
    assert not any("ann" in text for text in tags.values())


@pytest.mark.parametrize(
    ("source", "kind", "shown"),
    [
        ("/home/ann/photos", "local", "photos"),
        ("photos/", "local", "photos"),
        ("file:///home/ann/photos", "local", "photos"),
        ("s3://key:secret@bucket/photos", "s3", "s3://bucket/photos"),
        ("https://ann:secret@host:8/a.tar?token=secret#secret", "https", "https://host:8/a.tar"),
    ],
)
def test_a_place_is_told_without_what_is_private(source, kind, shown):
    """Of a path the last part stays, of a URL neither credentials nor query."""
    assert fields.place(source) == (kind, shown)
    assert origin(["handful-train", "run", f"--images={source}"])["handful.command"].endswith(
        f"--images={shown}"
    )


def test_passwords_in_an_error_are_not_repeated():
    """What a library says of a URL is passed on without the credentials in it."""
    said = "cannot reach http://ann:secret@host/path nor postgresql://bob:secret@db/x"
    assert without_credentials(said) == "cannot reach http://…@host/path nor postgresql://…@db/x"


class Locked:
    """A database that refuses `times` times."""

    def __init__(self, times, words="(sqlite3.OperationalError) database is locked") -> None:
        self.left, self.words = times, words

    def create(self, name, *, tag):
        if self.left:
            self.left -= 1
            raise ValueError(self.words)
        return name, tag


def test_a_locked_database_is_asked_again(monkeypatch):
    """A transaction that was undone is repeated with growing waits, other errors at once raised."""
    waits = []
    monkeypatch.setattr(patient.time, "sleep", waits.append)
    assert Patient(Locked(3)).create("a", tag="b") == ("a", "b")
    assert len(waits) == 3
    assert waits == sorted(waits)
    with pytest.raises(ValueError, match="locked"):
        Patient(Locked(99)).create("a", tag="b")
    with pytest.raises(ValueError, match="no such table"):
        Patient(broken := Locked(99, "no such table")).create("a", tag="b")
    assert broken.left == 98


def test_mlflow_is_not_imported_before_it_is_needed():
    """`import handful_training.tracking` does not cost MLflow's seconds, scipy's or pandas'."""
    code = (
        "import sys, handful_training.tracking\n"
        "print(sorted({'mlflow', 'pandas', 'scipy.stats', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
