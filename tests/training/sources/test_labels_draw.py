from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from handful_training.errors import InputError
from handful_training.labels.labels import Labels, read_labels
from handful_training.sources.source import open_source


class Rows(NamedTuple):
    row_of: NDArray[np.int64]


def make(target: list[int]) -> Labels:
    """Return labels of images 3, 6, 9, … with these classes out of a, b, c, …."""
    used = sorted(set(target))
    return Labels(
        names=tuple("abcdefghij"[k] for k in used),
        index=np.arange(1, len(target) + 1) * 3,
        target=np.searchsorted(used, target),
        keys=tuple(f"{i}.jpg" for i in range(len(target))),
    )


targets = st.lists(st.integers(0, 4), min_size=2, max_size=60).filter(lambda t: len(set(t)) > 1)


@given(targets, st.integers(1, 8), st.integers(0, 2**32))
def test_a_draw_is_balanced_and_part_of_the_labels(target: list[int], n: int, seed: int):
    """Each class gets n of its own labels, or all where it has fewer; nothing else changes."""
    labels = make(target)
    drawn = labels.take(n, seed)
    assert drawn.counts() == {name: min(n, have) for name, have in labels.counts().items()}
    assert drawn.names == labels.names
    label_of = dict(zip(labels.index.tolist(), labels.target.tolist(), strict=True))
    assert all(label_of[i] == k for i, k in zip(drawn.index, drawn.target, strict=True))
    assert np.all(np.diff(drawn.index) > 0)
    assert bool(drawn.notes) == any(have < n for have in labels.counts().values())


@given(targets, st.integers(1, 8), st.integers(0, 2**32))
def test_a_smaller_draw_is_part_of_a_larger_one(target: list[int], n: int, seed: int):
    """Adding labels per class adds to what was drawn, so learning curves compare like with like."""
    labels = make(target)
    small, large = labels.take(n, seed), labels.take(n + 1, seed)
    assert set(small.index.tolist()) <= set(large.index.tolist())
    assert np.array_equal(small.index, labels.take(n, seed).index)


def test_a_draw_does_not_depend_on_other_classes():
    """Taking a class away leaves the draw of the others."""
    all_three, two = make([0, 1, 2] * 20), make([0, 1, 2] * 20)
    kept = np.flatnonzero(two.target != 1)
    two = Labels(
        ("a", "c"), two.index[kept], two.target[kept] // 2, tuple(two.keys[i] for i in kept)
    )
    drawn = all_three.take(5, 0)
    assert set(two.take(5, 0).index) == set(drawn.index[drawn.target != 1])


def test_seeds_draw_differently():
    """Ten seeds give ten draws."""
    labels = make([0, 1] * 100)
    assert len({labels.take(5, seed).digest for seed in range(10)}) == 10


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_impossible_draws_are_refused(n: int, seed: int):
    """No labels at all, or a negative seed, is bad input."""
    with pytest.raises(InputError, match="or more"):
        make([0, 1]).take(n, seed)


def test_the_digest_tells_who_is_labelled_as_what(tmp_path: Path):
    """The order of lines does not change it; a label, a path and their number do."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")

    def digest(*lines: str) -> str:
        table = tmp_path / "labels.csv"
        table.write_text("path,label\n" + "\n".join(lines))
        return read_labels(str(table), open_source(tmp_path), tmp_path)[1].digest

    base = digest("a.jpg,x", "b.jpg,y")
    assert base == digest("b.jpg,y", "a.jpg,x")
    others = [
        digest("a.jpg,y", "b.jpg,x"),
        digest("a.jpg,x", "c.jpg,y"),
        digest("a.jpg,x", "b.jpg,y", "c.jpg,y"),
        digest("a.jpg,x", "b.jpg,z"),
    ]
    assert len({base, *others}) == 5


def test_labels_of_unreadable_images_are_dropped_with_a_count():
    """What is left counts through the pack, and a class that is gone is gone from the names."""
    labels = make([0, 1, 2, 2])  # of images 3, 6, 9, 12
    row_of = np.arange(13) - 1
    row_of[[6, 9]] = -1
    left = labels.in_pack(Rows(row_of))
    assert left.index.tolist() == [2, 11]
    assert left.names == ("a", "c")
    assert left.target.tolist() == [0, 1]
    assert left.keys == ("0.jpg", "3.jpg")
    assert left.notes == ("2 of 4 labels dropped: their images are unreadable",)


def test_one_class_left_after_unreadable_images_is_refused():
    """A class whose every image is unreadable may be the second to last."""
    row_of = np.full(13, -1)
    row_of[3] = 0
    with pytest.raises(InputError, match=r"unreadable images were dropped: a \(1\)"):
        make([0, 1]).in_pack(Rows(row_of))
