"""An adapted encoder has to be shown better, by labels that it has not seen."""

import io
from math import comb

import numpy as np
import pytest

from handful_training.gate import PROOF, OutOfFold, shown_better
from handful_training.pipeline.adaptation import judge

NAMES = ("a", "b")


def predictions(right) -> OutOfFold:
    """Return predictions for len(right) images, right where it says so."""
    target = np.arange(len(right)) % 2
    said = np.where(right, target, 1 - target)
    keys = tuple(f"{i:064x}" for i in range(len(right)))
    return OutOfFold(keys, np.eye(2, dtype=np.float32)[said], target, NAMES)


@pytest.mark.parametrize("n", [1, 3, 4, 7, 12])
def test_the_test_is_exact(n):
    """p = P(at least c of n fall to the new one by chance), for every c."""
    for c in range(n + 1):
        new_alone = np.arange(n) < c
        found = shown_better(predictions(~new_alone), predictions(new_alone))
        tail = sum(comb(n, i) for i in range(c, n + 1)) / 2**n
        assert found.p_value == pytest.approx(tail)
        assert found.promoted == (tail < PROOF)


def test_equal_is_not_better():
    """Where both are right on the same images nothing is shown, and nothing changes."""
    same = predictions(np.ones(1000, bool))
    found = shown_better(same, same)
    assert not found.promoted
    assert not found.decided


def test_too_few_held_out_labels_keep_the_frozen_encoder():
    """Three images that only the adapted one gets right are no proof."""
    found = shown_better(predictions(np.zeros(3, bool)), predictions(np.ones(3, bool)))
    assert not found.promoted
    assert "too few" in found.reason


def test_worse_is_refused():
    """An encoder that lost what it knew stays out."""
    found = judge(predictions(np.ones(40, bool)), predictions(np.arange(40) % 2 == 0), held_out=40)
    assert not found.promoted
    assert found.decided


@pytest.mark.parametrize("which", ["frozen", "adapted", "held out"])
def test_without_judges_nothing_is_shown(which):
    """No out-of-fold predictions, or no held-out label: the frozen encoder stays."""
    good = predictions(np.ones(40, bool))
    bad = predictions(np.zeros(40, bool))
    found = judge(
        None if which == "frozen" else bad,
        None if which == "adapted" else good,
        held_out=0 if which == "held out" else 40,
    )
    assert not found.promoted


def test_seen_labels_do_not_speak():
    """What the encoder was adapted to is left out of the predictions, and is remembered."""
    whole = predictions(np.ones(6, bool))
    honest = whole.without(whole.keys[:4])
    assert honest.keys == whole.keys[4:]
    np.testing.assert_array_equal(honest.target, whole.target[4:])
    again = OutOfFold.unpack(honest.pack())
    assert again.seen == whole.keys[:4]
    assert again.without(whole.keys[4:5]).seen == whole.keys[:5]
    assert shown_better(whole, again).images == 2


def test_predictions_of_an_earlier_release_are_read():
    """A file without the list of seen images is one of an encoder that has seen none."""
    whole = predictions(np.ones(3, bool))

    with np.load(io.BytesIO(whole.pack())) as arrays:
        old = {name: arrays[name] for name in arrays.files if name != "seen"}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **old)
    assert OutOfFold.unpack(buffer.getvalue()).seen == ()
