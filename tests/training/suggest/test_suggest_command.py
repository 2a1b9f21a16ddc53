"""`suggest`: from a registered version and images to a table, a contact sheet and a run."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from handful_training.cli import main
from handful_training.errors import InputError
from handful_training.suggest.table import COLUMNS
from handful_training.tracking import Tracker


def folder(path):
    return path.lstrip("'").partition("/")[0]


def test_three_colours_get_one_suggestion_each(ask, read, tmp_path):
    """Of images of three colours, the first three suggestions show one of each; path, rank, reason
    and strategy are there, the label is empty, and the sheet shows each image beside its reason.
    """
    said = ask(6, output=tmp_path / "s.csv")
    rows = read(said["output"])
    assert tuple(rows[0]) == COLUMNS
    assert {folder(row["path"]) for row in rows[:3]} == {"red", "green", "blue"}
    assert len({row["path"] for row in rows}) == len(rows) == said["suggested"] == 6
    assert [row["rank"] for row in rows] == list("123456")
    assert {row["chosen_by"] for row in rows} == {said["strategy"]} == {"coverage"}
    assert not any(row["label"] for row in rows)
    sheet = Path(said["sheet"])
    assert sheet == tmp_path / "s.html"
    page = sheet.read_text()
    assert "<script" not in page
    for row in rows:
        assert row["reason"] in page
        assert row["path"] in page


def test_from_suggestions_to_a_head_and_to_better_suggestions(
    ask, read, fill_in, home, tmp_path, monkeypatch, capsys
):
    """The table, filled in, fits a head by `--labels`; given back, it leads to other images, chosen
    for their uncertainty, and the file then holds the labels above and the suggestions below.
    """
    table = tmp_path / "labels.csv"
    fill_in(ask(6, output=table)["output"], table)
    first = read(table)
    words = ["head", "colours", str(home.images), "--labels", str(table), "--json"]
    monkeypatch.setattr(sys, "argv", ["handful-train", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code in (0, None)
    assert json.loads(capsys.readouterr().out)["version"]

    said = ask(5, labels=table, output=table)
    assert (said["strategy"], said["labels"], said["suggested"]) == ("uncertainty", 6, 5)
    rows = read(table)
    assert rows[:6] == first
    assert [row["rank"] for row in rows[6:]] == list("12345")
    assert not any(row["label"] for row in rows[6:])
    assert len({row["path"] for row in rows}) == 11
    assert all(("between" in row["reason"] or "probably" in row["reason"]) for row in rows[6:])


def test_the_same_arguments_write_the_same_table(ask, tmp_path):
    """A table and a sheet that nobody filled in are written again, byte for byte."""
    files = []
    for _ in range(2):
        ask(8, output=tmp_path / "s.csv", seed=3)
        files.append([path.read_bytes() for path in sorted(tmp_path.glob("s.*"))])
    assert len(files[0]) == 2
    assert files[0] == files[1]


@pytest.mark.parametrize("purpose", ["label", "audit"])
def test_labelled_and_excepted_images_are_never_suggested(ask, read, fill_in, tmp_path, purpose):
    """Labels of any form and tables given by --except keep their images out, until none is left:
    then there are fewer suggestions than asked for.
    """
    audit = ask(10, purpose="audit", output=tmp_path / "audit.csv")["output"]
    table = fill_in(ask(12, output=tmp_path / "s.csv")["output"], tmp_path / "labels.csv")
    taken = {row["path"] for row in read(audit)} | {row["path"] for row in read(table)}
    said = ask(
        100, labels=table, purpose=purpose, exceptions=(Path(audit),), output=tmp_path / "n.csv"
    )
    found = [row["path"] for row in read(said["output"])]
    assert said["suggested"] == len(found) == len(set(found)) == 60 - len(taken)
    assert not taken & set(found)


def test_folders_as_labels_leave_nothing_to_suggest(ask, read):
    """Where all images are labelled the table is empty, and there is no sheet."""
    said = ask(3, labels="folders")
    assert (said["suggested"], said["sheet"]) == (0, None)
    assert read(said["output"]) == []


@pytest.mark.parametrize("purpose", ["label", "audit"])
def test_copies_are_suggested_once(ask, read, home, tmp_path, purpose):
    """Of copies of an image one is suggested, and none whose copy is labelled."""
    images = tmp_path / "images"
    shutil.copytree(home.images, images)
    for name in ("red", "green"):
        shutil.copytree(images / name, images / f"{name} again")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nred/=image 00.png,red\ngreen again/=image 01.png,green\n")
    said = ask(100, labels=table, images=images, purpose=purpose)
    paths = [row["path"].replace(" again", "") for row in read(said["output"])]
    assert len(paths) == len(set(paths)) == 58
    assert not {"red/=image 00.png", "green/=image 01.png"} & set(paths)


def test_an_audit_says_how_much_it_will_tell(ask, read, tmp_path):
    """Audit rows say so, a smaller audit is the beginning of a larger one, and the interval that
    its labels will give is announced.
    """
    small = ask(5, purpose="audit", seed=2, output=tmp_path / "a.csv")
    large = ask(20, purpose="audit", seed=2, output=tmp_path / "b.csv")
    low, high = large["expected_interval"]
    assert low < 0.9 < high
    assert small["expected_interval"][0] < low
    few, many = read(small["output"]), read(large["output"])
    assert [row["path"] for row in few] == [row["path"] for row in many[:5]]
    assert {row["chosen_by"] for row in many} == {"audit"}


def test_wrong_labels_are_doubted(ask, read, home, tmp_path):
    """Three of 45 labels are wrong: they come first, with the label given and the one proposed, and
    the corrected table is again what `--labels` takes.
    """
    wrong = {"red/=image 03.png": "blue", "green/=image 07.png": "red", "blue/=image 00.png": "red"}
    lines = [
        f"{name}/=image {i:02}.png,{wrong.get(f'{name}/=image {i:02}.png', name)}"
        for name in ("red", "green", "blue")
        for i in range(15)
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *lines]))
    said = ask(10, labels=table, purpose="doubts", output=tmp_path / "d.csv")
    rows = read(said["output"])
    assert {row["path"]: row["label"] for row in rows[:3]} == wrong
    assert all(row["proposed"] == folder(row["path"]) for row in rows[:3])
    assert all(0 < float(row["probability"]) <= 1 for row in rows)
    with pytest.raises(InputError, match="--doubts looks at labels"):
        ask(purpose="doubts")


def test_one_label_a_class_cannot_be_doubted(ask, tmp_path):
    """Where each label is the only one of its class, nothing can be held out, and that is said."""
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nred/=image 00.png,red\nblue/=image 00.png,blue\n")
    with pytest.raises(InputError, match="two labels of two classes"):
        ask(labels=table, purpose="doubts")


def test_the_run_keeps_table_and_sheet(ask, home):
    """A run called "suggest" holds both files, the strategy, and which images it saw."""
    ask(4, seed=9)
    client = Tracker.open()._store.client
    experiment = client.get_experiment_by_name("handful/colours")
    found = client.search_runs(
        [experiment.experiment_id], "attributes.run_name = 'suggest' and params.seed = '9'"
    )[0]
    assert found.data.params["strategy"] == "coverage"
    assert found.data.metrics["suggested"] == 4
    assert len(found.inputs.dataset_inputs) == 1
    kept = {item.path for item in client.list_artifacts(found.info.run_id, "suggest")}
    assert kept == {"suggest/suggest.csv", "suggest/suggest.html"}


@pytest.fixture
def command(home, monkeypatch, capsys):
    """`handful-train suggest colours IMAGES` with more arguments: status, stdout and stderr."""

    def call(*arguments):
        words = ["handful-train", "suggest", "colours", str(home.images), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, *capsys.readouterr()

    return call


def test_the_command_prints_one_object(command, read, tmp_path):
    """With --json stdout is one JSON object, and table and sheet lie where it says."""
    status, out, _ = command("-n", "7", "-o", "out.csv", "--json")
    assert status == 0
    (line,) = out.splitlines()
    said = json.loads(line)
    assert {"name", "version", "images", "suggested", "strategy", "output", "sheet"} <= said.keys()
    assert (said["output"], said["sheet"]) == ("out.csv", "out.html")
    assert len(read(tmp_path / "out.csv")) == 7
    assert (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--audit", "--doubts"], "one at a time"),
        (["-n", "0"], "handful-train suggest"),
        (["-o", "x.parquet"], ".csv"),
        (["--except", "none.csv"], "cannot be read"),
    ],
)
def test_bad_usage(command, arguments, remedy):
    """Two questions at once, no images, another format, no such file: status 2, with the remedy."""
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert remedy in err
