"""The verdict says what the numbers say, and how much they leave open."""

import pytest

from handful_training.ladder import catalogue as name
from handful_training.report.findings import Data, Findings
from handful_training.report.verdict import round_up, verdict


def test_yes_where_the_interval_is_above_zero(made):
    """900 images, the VAE alone right on 90, the control on 30: it makes 60 of 240 fewer errors."""
    found = verdict(made(630, 30, 90, 150))
    assert found.answer == "yes"
    assert "25 % fewer errors" in found.sentence
    assert "80.0 % against 73.3 %" in found.sentence
    assert "+6.7 points" in found.sentence
    assert "900 labelled images" in found.sentence


def test_no_where_it_is_below(made):
    """The same the other way round is a plain no, with the better way's name."""
    found = verdict(made(630, 90, 30, 150))
    assert found.answer == "no"
    assert found.sentence.startswith("No: “Whitened PCA of pixels, graph” is more accurate")
    assert "−6.7 points" in found.sentence


def test_cannot_tell_with_few_labels(made):
    """With 40 labels a lead of 3 images is no result, and the sentence says how many would do."""
    found = verdict(made(26, 2, 5, 7))
    assert found.answer == "cannot tell"
    assert found.sentence.startswith("Cannot tell with 40 labels")
    assert "77.5 %" in found.sentence
    assert "70.0 %" in found.sentence
    assert "It would take about" in found.sentence


def test_no_number_of_labels_shows_what_is_not_there(made):
    """Equally many on both sides: it is said that no number of labels would do."""
    found = verdict(made(30, 4, 4, 2))
    assert found.answer == "cannot tell"
    assert "too small for any number of labels" in found.sentence


def test_no_difference_that_matters(made):
    """Where the interval lies within a point of zero, that is what is said."""
    found = verdict(made(9000, 20, 25, 955, on="unused labels"))
    assert found.answer == "no difference"
    assert "10,000 unused labels" in found.sentence


def test_the_best_control_is_the_one_to_beat(made):
    """Of two controls the more accurate one is named, wherever it stands on the ladder."""
    findings = made(630, 30, 90, 150)
    assert "Whitened PCA" in verdict(findings).sentence
    rungs, against = dict(findings.ladder.rungs), dict(findings.ladder.against)
    for both in (rungs, against):
        both[name.PIXELS_LINEAR], both[name.PIXELS_GRAPH_WHITENED] = (
            both[name.PIXELS_GRAPH_WHITENED], both[name.PIXELS_LINEAR],
        )  # fmt: skip
    exchanged = findings.ladder.model_copy(update={"rungs": rungs, "against": against})
    found = verdict(findings.model_copy(update={"ladder": exchanged}))
    assert "“PCA of pixels, linear”" in found.sentence


@pytest.mark.parametrize(
    ("classes", "words"), [({}, "there are no labels"), ({"a": 1, "b": 5}, "single label")]
)
def test_nothing_is_said_where_nothing_was_measured(classes, words):
    """Without a ladder the sentence says why there is none, and what to do."""
    data = Data(source="x", images=9, rejected=0, duplicates=0, shape=(8, 8, 1), classes=classes)
    found = verdict(Findings(data=data))
    assert found.answer == "not measured"
    assert words in found.sentence


def test_estimates_are_rounded_up_to_two_digits():
    """An estimate promises no more digits than it has, and never too little."""
    assert [round_up(n) for n in (7, 99, 101, 1234, 98_001)] == [7, 99, 110, 1300, 99_000]
