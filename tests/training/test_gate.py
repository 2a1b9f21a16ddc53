"""The gate between a new version and the champion: laws of the paired test."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful_training.errors import TrainingError
from handful_training.gate import ALPHA, Candidate, GateDecision, OutOfFold, decide

CAT, DOG = "cat", "dog"


def predictions(right, *, labels=(CAT, DOG), keys=None, truth=None) -> OutOfFold:
    """Predictions that are right exactly where `right` says; class 0 is true unless told."""
    target = np.zeros(len(right), np.int64) if truth is None else np.asarray(truth, np.int64)
    said = np.where(right, target, (target + 1) % len(labels))
    probabilities = np.full((len(right), len(labels)), 0.01, np.float32)
    probabilities[np.arange(len(right)), said] = 0.9
    names = [f"image {i}" for i in range(len(right))] if keys is None else keys
    return OutOfFold(tuple(names), probabilities, target, tuple(labels))


def versus(champion, challenger) -> GateDecision:
    old, new = predictions(champion), predictions(challenger)
    return decide(Candidate(old.labels, old), Candidate(new.labels, new))


pairs = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@settings(deadline=None)
@given(pairs)
def test_a_challenger_that_is_right_wherever_the_champion_is_passes(drawn):
    """A challenger that loses no image is never refused."""
    champion = [old for old, _ in drawn]
    assert versus(champion, [old or new for old, new in drawn]).promoted


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_an_equal_challenger_passes(right):
    """The same predictions again are promoted, and nothing is claimed to have been decided."""
    decision = versus(right, right)
    assert decision.promoted
    assert not decision.decided


@settings(deadline=None)
@given(pairs)
def test_two_versions_never_refuse_each_other(drawn):
    """Of two versions at most one is significantly worse than the other."""
    old, new = [a for a, _ in drawn], [b for _, b in drawn]
    there, back = versus(old, new), versus(new, old)
    assert there.promoted or back.promoted
    assert there.decided == back.decided
    assert (there.champion_only, there.challenger_only) == (
        back.challenger_only,
        back.champion_only,
    )


@settings(deadline=None)
@given(pairs)
def test_the_p_value_is_the_binomial_tail(drawn):
    """The p-value is P(X >= b) under Binomial(b + c, 1/2), summed here by hand."""
    decision = versus([a for a, _ in drawn], [b for _, b in drawn])
    b, n = decision.champion_only, decision.champion_only + decision.challenger_only
    if decision.p_value is None:
        assert 0.5**n >= ALPHA
    else:
        tail = sum(math.comb(n, k) for k in range(b, n + 1)) / 2**n
        assert decision.p_value == pytest.approx(tail)
        assert decision.promoted == (tail >= ALPHA)


@settings(deadline=None)
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_images_and_of_classes_is_of_no_importance(drawn, random):
    """Shuffled rows and renumbered classes give the same decision."""
    old = predictions([a for a, _ in drawn])
    new = predictions([b for _, b in drawn])
    rows = list(range(len(drawn)))
    random.shuffle(rows)
    shuffled = OutOfFold(
        tuple(new.keys[i] for i in rows),
        new.probabilities[rows][:, ::-1],
        1 - new.target[rows],
        new.labels[::-1],
    )
    champion = Candidate(old.labels, old)
    plain = decide(champion, Candidate(new.labels, new))
    assert decide(champion, Candidate(shuffled.labels, shuffled)) == plain


@pytest.mark.parametrize(
    ("lost", "won", "promoted", "decided"),
    [(4, 0, True, False), (5, 0, False, True), (0, 5, True, True), (8, 2, True, True),
     (9, 1, False, True), (30, 70, True, True), (70, 30, False, True)],
)  # fmt: skip
def test_the_limits_of_its_power(lost, won, promoted, decided):
    """Below 5 discordant images it cannot decide; of 10 it takes 9 to refuse."""
    same = [True] * 100
    champion = [True] * lost + [False] * won + same
    challenger = [False] * lost + [True] * won + same
    decision = versus(champion, challenger)
    assert (decision.promoted, decision.decided) == (promoted, decided)
    assert decision.images == 100 + lost + won
    assert "could not decide" in decision.reason or decided


def test_only_images_that_both_have_seen_are_compared():
    """Images are matched by key; the rest of either side has no say."""
    old = predictions([True] * 20, keys=[f"old {i}" for i in range(10)] + list("abcdefghij"))
    new = predictions([False] * 10 + [True] * 10, keys=[*"abcdefghij", *"klmnopqrst"])
    decision = decide(Candidate(old.labels, old), Candidate(new.labels, new))
    assert (decision.images, decision.champion_only, decision.promoted) == (10, 10, False)


def test_no_shared_image_decides_nothing():
    """Two label sets without a common image cannot be compared; the newer data wins."""
    old, new = predictions([True] * 9, keys=list("abcdefghi")), predictions([False] * 9)
    decision = decide(Candidate(old.labels, old), Candidate(new.labels, new))
    assert decision.promoted
    assert not decision.decided
    assert "no labelled image" in decision.reason


def test_the_truth_is_that_of_the_newer_labels_by_name():
    """Classes are matched by name, and a change of classes is named in the reason."""
    old = predictions([True] * 10, labels=("dog", "wolf"))  # says dog, which was true then
    new = predictions([True] * 10, labels=("dog", "owl"), truth=[1] * 10)  # now they are owls
    decision = decide(Candidate(old.labels, old), Candidate(new.labels, new))
    assert (decision.promoted, decision.challenger_only) == (True, 10)
    assert decision.reason.endswith("; new classes: owl; classes gone: wolf")


def test_versions_without_predictions():
    """First versions and first heads pass, a lost head is refused, missing folds are said."""
    some = predictions([True] * 9)
    headed, bare, thin = Candidate(some.labels, some), Candidate(None), Candidate(some.labels)
    outcome = {
        (old, new): decide(old_side, new_side)[:2]
        for old, old_side in {"none": None, "bare": bare, "thin": thin, "headed": headed}.items()
        for new, new_side in {"bare": bare, "thin": thin, "headed": headed}.items()
    }
    decided, undecided, refused = (True, True), (True, False), (False, True)
    assert outcome == {
        ("none", "bare"): decided, ("none", "thin"): decided, ("none", "headed"): decided,
        ("bare", "bare"): undecided, ("bare", "thin"): decided, ("bare", "headed"): decided,
        ("thin", "bare"): refused, ("thin", "thin"): undecided, ("thin", "headed"): undecided,
        ("headed", "bare"): refused, ("headed", "thin"): undecided,
        ("headed", "headed"): undecided,
    }  # fmt: skip


@settings(deadline=None)
@given(pairs, st.lists(st.text(st.characters(exclude_characters="\0"), max_size=9), max_size=60))
def test_predictions_survive_their_file(drawn, names):
    """What is packed is unpacked, whatever the keys are called."""
    keys = [f"{i} {name}!" for i, name in enumerate(names[: len(drawn)])]
    before = predictions([a for a, _ in drawn[: len(keys)]], keys=keys)
    after = OutOfFold.unpack(before.pack())
    assert (after.keys, after.labels) == (before.keys, before.labels)
    assert np.array_equal(after.probabilities, before.probabilities)
    assert np.array_equal(after.target, before.target)


def damaged() -> dict[str, bytes]:
    whole = predictions([True] * 9).pack()
    pickled = io.BytesIO()
    np.savez(pickled, keys=np.array([object()], object))
    arrays = {
        "keys": np.array(["a"]), "labels": np.array(["cat"]),
        "target": np.array([3]), "probabilities": np.ones((1, 1), np.float32),
    }  # fmt: skip
    wrong = io.BytesIO()
    np.savez(wrong, **arrays)
    return {"empty": b"", "text": b"no", "cut": whole[:-30], "pickle": pickled.getvalue(),
            "class out of range": wrong.getvalue()}  # fmt: skip


@pytest.mark.parametrize("data", damaged().values(), ids=damaged().keys())
def test_a_damaged_file_is_refused_with_the_remedy(data):
    """Anything but the four plain arrays is refused, pickles included."""
    with pytest.raises(TrainingError, match="handful-train promote"):
        OutOfFold.unpack(data)
