"""The table of suggestions is what `--labels` takes, and costs nobody's labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful_training.errors import InputError
from handful_training.labels.labels import read_labels
from handful_training.labels.named_rows import read_named
from handful_training.sources.source import open_source
from handful_training.suggest.suggestion import Suggestion, covering_reason, uncertain_reason
from handful_training.suggest.table import (
    COLUMNS,
    check_output,
    filled_rows,
    write_suggestions,
)

ODD = ("=1+1.png", "-a, b.png", "@x/'y'.png", "nön/\udcff.png", '"q".png', "'=z.png")


@pytest.fixture
def odd(tmp_path) -> Path:
    folder = tmp_path / "images"
    for name in ODD:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    return folder


def test_oddly_named_images_come_back(odd, tmp_path, read):
    """Whatever images are called, commas, quotes, formulas, no UTF-8: the filled table labels just
    the images that it names, and no cell can act as a formula.
    """
    source = open_source(str(odd), tmp_path / "lists")
    keys = list(source.keys)
    table = tmp_path / "suggest.csv"
    given = [Suggestion(i, "why", label=f"={i % 2}") for i in range(len(ODD))]
    write_suggestions(table, given, keys, "coverage")
    for row in read(table):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    _, labels = read_labels(str(table), source, str(odd))
    assert dict(zip(labels.keys, (labels.names[k] for k in labels.target), strict=True)) == {
        key: f"={i % 2}" for i, key in enumerate(keys)
    }
    assert read_named(table, str(odd), keys).rows.tolist() == list(range(len(ODD)))


def test_lines_without_a_label_are_no_labels(odd, tmp_path):
    """Of a table half filled in, the filled half counts, and a note says how many lines do not."""
    source = open_source(str(odd), tmp_path / "lists")
    table = tmp_path / "suggest.csv"
    given = [Suggestion(i, "why", label="ab"[i % 2] if i < 4 else "") for i in range(len(ODD))]
    write_suggestions(table, given, list(source.keys), "coverage")
    _, labels = read_labels(str(table), source, str(odd))
    assert len(labels) == 4
    assert any("2 lines" in note for note in labels.notes)


def test_ranks_and_columns(tmp_path, read):
    """Ranks count from 1 in the order given, below the lines that are kept; columns keep theirs."""
    table = tmp_path / "t.csv"
    kept = [("old.png", "cat", "1", "because", "audit")]
    more = (("proposed", "dog"), ("probability", "0.9"))
    given = [Suggestion(1, "x", more=more), Suggestion(0, "y", more=more)]
    write_suggestions(table, given, ["a.png", "b.png"], "doubts", kept)
    rows = read(table)
    assert list(rows[0]) == [*COLUMNS, "proposed", "probability"]
    assert [row["path"] for row in rows] == ["old.png", "b.png", "a.png"]
    assert [row["rank"] for row in rows] == ["1", "1", "2"]
    assert filled_rows(table) == kept


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("t.csv", "path,label\na.png,\nb.png,cat\n", "1 of its lines are labelled"),
        ("t.csv", "name\nx\n", "no column `path`"),
        ("t.xlsx", None, "ends in .csv"),
        ("no/such/t.csv", None, "make it first"),
    ],
)
def test_labels_are_never_overwritten(tmp_path, name, text, remedy):
    """A file with somebody's labels, or of another kind, is refused, with the remedy."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=remedy):
        check_output(path, None, extend=True)


def test_what_may_be_written(tmp_path):
    """A new file, one that nobody filled in, and the file of the labels itself; the last not where
    labels are doubted.
    """
    check_output(None, None, extend=True)
    check_output(tmp_path / "new.csv", None, extend=True)
    table = tmp_path / "t.csv"
    table.write_text("path,label\na.png,\n")
    check_output(table, None, extend=True)
    table.write_text("path,label\na.png,cat\n")
    check_output(table, str(table), extend=True)
    with pytest.raises(InputError, match="name another"):
        check_output(table, str(table), extend=False)


def test_paths_that_name_nothing(odd, tmp_path):
    """A table none of whose paths is an image is an error; single ones are told."""
    keys = list(open_source(str(odd), tmp_path / "lists").keys)
    table = tmp_path / "open.csv"
    table.write_text("path\ngone.png\n")
    with pytest.raises(InputError, match="none of its 1 paths"):
        read_named(table, str(odd), keys)
    table.write_text(f'path\ngone.png\n"{keys[1]}"\n"{keys[1]}"\n')
    found = read_named(table, str(odd), keys)
    assert (found.rows.tolist(), found.unknown) == ([1], ("gone.png",))


def test_reasons_name_the_classes_and_the_group():
    """A reason says how large the group is, and between which two classes an image lies."""
    assert "812 images" in covering_reason(812.3)
    assert covering_reason(1.2) == "unlike all others"
    p = np.array([0.05, 0.38, 0.41, 0.16])
    said = uncertain_reason(p, ("Bag", "Coat", "Shirt", "Top"), 120)
    assert said == "between Shirt (41 %) and Coat (38 %), like 120 images without a label"
    assert uncertain_reason(np.array([0.95, 0.05]), ("a", "b"), 3).startswith(
        "probably a (95 %), like 3"
    )
