"""How labels came to be: what a table says of it, kept beside each label, and what it is worth."""

from pathlib import Path

import numpy as np
import pytest

from handful_training.labels.fairness import Fairness
from handful_training.labels.labels import AUDIT, Labels, read_labels
from handful_training.pipeline.evaluation import MAX_UNUSED, Predictions, sample_unused
from handful_training.sources.source import open_source


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "=d.jpg"):
        (folder / name).write_bytes(name.encode())
    return folder


def read(images: Path, text: str) -> Labels:
    path = images.parent / "labels.csv"
    path.write_text(text)
    return read_labels(str(path), open_source(images), images)[1]


def test_each_label_keeps_how_it_was_chosen(images):
    """The column `chosen_by` goes with its image, through neutralised names too; an empty cell is
    not known.
    """
    labels = read(
        images,
        "path,label,rank,chosen_by\nc.jpg,x,1,audit\na.jpg,y,2,uncertainty\nb.jpg,x,3,\n"
        "'=d.jpg,y,4,audit\n",
    )
    assert dict(zip(labels.keys, labels.chosen_by, strict=True)) == {
        "=d.jpg": "audit", "a.jpg": "uncertainty", "b.jpg": "", "c.jpg": "audit",
    }  # fmt: skip
    assert {labels.keys[i] for i in np.flatnonzero(labels.audit)} == {"=d.jpg", "c.jpg"}


def test_nothing_is_known_without_the_column(images):
    """Without the column nothing is known of any label, and none is an audit's."""
    labels = read(images, "path,label\na.jpg,x\nb.jpg,y\n")
    assert labels.chosen_by == ()
    assert labels.audit.tolist() == [False, False]
    assert Fairness.of(labels.chosen_by, 2).random is None


def test_drawn_labels_keep_theirs():
    """Labels that are drawn, and those that are left over and sampled, keep their own."""
    count = MAX_UNUSED + 50
    labels = Labels(
        ("a", "b"), np.arange(count), np.arange(count) % 2,
        tuple(map(str, range(count))), chosen_by=tuple(f"by {i}" for i in range(count)),
    )  # fmt: skip
    for kept in (labels.take(5, 0), sample_unused(labels, 0)):
        assert kept.chosen_by == tuple(f"by {key}" for key in kept.keys)
        assert len(kept.audit) == len(kept)


@pytest.mark.parametrize(
    ("chosen_by", "random"),
    [
        (("audit",) * 3, True),
        (("audit", "", ""), None),
        (("audit", "uncertainty"), False),
        ((), None),
    ],
)
def test_what_is_known_of_a_sample(chosen_by, random):
    """All drawn at random: yes; one chosen by a strategy: no, with a warning that names it and the
    remedy; else it is not known.
    """
    found = Fairness.of(chosen_by, max(1, len(chosen_by)))
    assert found.random is random
    warning = found.warning()
    if random is False:
        assert "1 of 2" in warning
        assert "uncertainty 1" in warning
        assert "--audit" in warning
    else:
        assert warning is None


def test_audit_figures_are_those_of_the_audit_alone():
    """Where some images are an audit and others are not, the JSON has the figures of the audit
    alone beside those of all.
    """
    probabilities = np.array([[0.9, 0.1]] * 6, np.float32)
    target = np.array([0, 0, 1, 1, 1, 1])
    chosen_by = (AUDIT, AUDIT, AUDIT, "uncertainty", "uncertainty", "")
    found = Predictions(
        "given images", probabilities, target, ("a", "b"), None, None, chosen_by
    ).evaluate()
    said = found.to_json()
    assert said["accuracy"] == pytest.approx(2 / 6)
    assert (said["audit"]["accuracy"], said["audit"]["n"]) == (pytest.approx(2 / 3), 3)
    assert said["labels_chosen_by"] == {"": 1, "audit": 3, "uncertainty": 2}
    assert said["random_sample"] is False
    assert found.metrics()["audit_accuracy"] == pytest.approx(2 / 3)
    alone = Predictions("given images", probabilities, target, ("a", "b"), None, None, (AUDIT,) * 6)
    assert alone.evaluate().to_json()["audit"] is None
    assert alone.evaluate().to_json()["random_sample"] is True
