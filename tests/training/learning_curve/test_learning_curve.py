"""Learning curves: what counts as right, intervals, and what is said of the next labels."""

import json

import numpy as np
import pytest

from handful_training.graph import solve as solver
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import spread
from handful_training.head.linear import Logistic
from handful_training.learning_curve.curve import Curve
from handful_training.learning_curve.forecast import NEXT, forecast
from handful_training.learning_curve.measure import learning_curve
from handful_training.learning_curve.methods import (
    NOT_ASKED,
    BothMethod,
    GraphMethod,
    LinearMethod,
    graph_columns,
    predict,
)
from handful_training.learning_curve.subsets import draw_subsets


class Told:
    """A method that is right on exactly the images it is told to be right on."""

    def __init__(self, right):
        self.right = right  # [J, q]

    def logits(self, _inside, _asked, target):
        """Name the class, or the next one where wrong."""
        classes = int(target.max()) + 1
        named = np.where(self.right, target, (target + 1) % classes)
        return np.eye(classes, dtype=np.float32)[named]


def clouds(count, seed=0, noise=0.9):
    """Return rows of three overlapping clouds, and which each is of."""
    rng = np.random.default_rng(seed)
    target = np.arange(count) % 3
    centres = np.eye(3, 8) * 2
    return (centres[target] + rng.normal(0, noise, (count, 8))).astype(np.float32), target


def curve_of(accuracy, sizes, images=4000, repeats=4):
    """Return a curve with (nearly) that accuracy at each size, the same images in all repeats."""
    right = np.arange(images) < np.rint(np.array(accuracy) * images)[:, None]
    right = np.stack([right] * repeats)
    return Curve("served", "t", tuple(sizes), right, np.ones_like(right))


def test_only_images_outside_the_subset_count():
    """Accuracy at a size is the share right among images not in the subset, counted by hand."""
    target = np.arange(40) % 4
    subsets = draw_subsets(target, repeats=3, hold_out=True, seed=0)
    right = np.random.default_rng(0).random((3 * len(subsets.sizes), 40)) < 0.6
    found = learning_curve({"served": ("x", Told(right))}, subsets, target)
    (curve,) = found.curves
    for s in range(len(subsets.sizes)):
        hits = asked = 0
        for r in range(3):
            row = right[r * len(subsets.sizes) + s]
            outside = ~subsets.inside[r, s]
            hits, asked = hits + (row & outside).sum(), asked + outside.sum()
        assert curve.accuracy[s] == pytest.approx(hits / asked)
    assert found.on == "labels not in the subset"


def test_left_over_labels_are_asked_about_instead():
    """Where there are images that no subset holds, these alone count."""
    target = np.arange(70) % 2
    subsets = draw_subsets(target[:20], repeats=2, hold_out=False, seed=0)
    right = np.zeros((2 * len(subsets.sizes), 70), bool)
    right[:, 20:45] = True
    found = learning_curve({"served": ("x", Told(right))}, subsets, target, unused=50)
    assert found.curves[0].accuracy == pytest.approx(0.5)
    assert (found.on, found.curves[0].images, found.labels) == ("unused labels", 50, 20)


def test_graph_answers_are_those_of_spreading(monkeypatch: pytest.MonkeyPatch):
    """All subsets at once give what spreading each subset alone gives, with walks as long as its
    size asks for, and never its own labels.
    """
    monkeypatch.setattr(solver, "ACCURACY", 1e-6)  # so that ties too fall alike
    rows, target = clouds(240)
    graph = PoolGraph.build(rows)
    nodes = np.random.default_rng(1).permutation(240)[:60]
    subsets = draw_subsets(target[nodes], repeats=2, hold_out=True, seed=0)
    shape = (-1, 60)
    inside, asked = subsets.inside.reshape(shape), subsets.asked.reshape(shape)
    found = predict(GraphMethod(graph, nodes), inside, asked, target[nodes])
    for known, wanted, said in zip(inside, asked, found, strict=True):
        alone = spread(graph, nodes[known], target[nodes][known], 3)
        assert (alone[nodes[wanted]].argmax(1) == said[wanted]).all()
        assert (said[~wanted] == NOT_ASKED).all()


def test_a_method_never_sees_other_labels():
    """Changing labels outside a subset changes no answer of any method."""
    rows, target = clouds(90)
    subsets = draw_subsets(target, repeats=2, hold_out=True, seed=0)
    linear = LinearMethod(rows, Logistic(1.0))
    graph = GraphMethod(PoolGraph.build(rows), np.arange(90))
    flow = GraphMethod(graph.graph, graph.nodes, learner="poisson")
    for method in (linear, graph, flow, BothMethod(graph, linear, (1.0, 0.4))):
        inside, asked = subsets.inside[0, 1][None], subsets.asked[0, 1][None]
        lied = np.where(inside[0], target, (target + 1) % 3)
        np.testing.assert_array_equal(
            predict(method, inside, asked, target), predict(method, inside, asked, lied)
        )


def test_accuracy_rises_on_clouds():
    """On overlapping clouds the curve of a linear head rises, and its law expects further gains."""
    rows, target = clouds(300, noise=1.6)
    subsets = draw_subsets(target, repeats=4, hold_out=True, seed=0)
    found = learning_curve({"served": ("x", LinearMethod(rows, Logistic(0.1)))}, subsets, target)
    accuracy = found.curves[0].accuracy
    assert accuracy[-1] > accuracy[0] + 0.05
    assert found.forecast.doubled.expected >= found.forecast.next.expected >= 0


def test_cost_is_at_most_one_column_per_label():
    """Subsets of 300 labels, five of each size, cost at most 300 solutions, and one subset less."""
    target = np.arange(300) % 3
    inside = draw_subsets(target, repeats=5, hold_out=True, seed=0).inside.reshape(-1, 300)
    assert graph_columns(inside, target) <= 300
    assert graph_columns(inside[:1], target) <= 6


def test_intervals_hold_the_point_and_wilson():
    """Every interval holds its point and is at least as wide as Wilson's; when all are right it is
    not a point.
    """
    always = curve_of([1.0, 1.0, 1.0], (3, 6, 12), images=20)
    for point in always.points():
        assert point.low < 0.9
        assert point.high == 1
    mixed = curve_of([0.3, 0.5, 0.8], (3, 6, 12), images=50)
    for point in mixed.points():
        assert 0 <= point.low < point.accuracy < point.high <= 1


def test_interval_knows_how_draws_differ():
    """Repeats that disagree widen the interval beyond that of the images."""
    steady, shaky = np.zeros((4, 1, 2000), bool), np.zeros((4, 1, 2000), bool)
    steady[..., :1000] = True
    shaky[:2, :, :1800] = shaky[2:, :, :200] = True
    widths = []
    for right in (steady, shaky):
        point = Curve("k", "t", (10,), right, np.ones_like(right)).points()[0]
        assert point.accuracy == 0.5
        widths.append(point.high - point.low)
    assert widths[1] > 5 * widths[0]


def test_sentence_says_what_the_formula_says():
    """The sentence's numbers are those of a - b n^-c, for a curve that follows it."""
    sizes = (10, 20, 40, 80, 160)
    truth = [0.9 - 1.2 * n**-0.6 for n in sizes]
    found = forecast(curve_of(truth, sizes), 160)
    now, then = (100 * (0.9 - 1.2 * n**-0.6) for n in (160, 160 + NEXT))
    assert f"bring {then - now:+.1f} points" in found.sentence
    twice = 100 * (0.9 - 1.2 * 320**-0.6)
    assert f"{now:.1f} % with 160 labels, {then:.1f} % with 170, and {twice:.1f} % with 320." in (
        found.sentence
    )
    assert found.next.low <= found.next.expected <= found.next.high
    assert found.next.expected == pytest.approx((then - now) / 100, abs=1e-3)
    assert float(found.law(1e9)) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("sizes", "images", "labels", "why"),
    [
        ((3, 6, 12), 4000, 15, "a curve of 3 points"),
        ((3, 6, 12, 24), 19, 30, "19 images only"),
        ((3, 6, 12, 24), 4000, 49, "too far from the 49"),
    ],
)
def test_too_little_is_said_to_be_too_little(sizes, images, labels, why):
    """With too few points, too few images or too far from the curve, no number is named."""
    found = forecast(curve_of(np.linspace(0.5, 0.8, len(sizes)), sizes, images), labels)
    assert why in found.sentence
    assert "cannot be said" in found.sentence
    assert found.law is None
    assert found.to_json()["next"] is None


def test_json_is_plain():
    """The JSON survives a round trip and has a curve, an interval and a forecast."""
    rows, target = clouds(120)
    subsets = draw_subsets(target, repeats=2, hold_out=True, seed=0)
    said = learning_curve(
        {"served": ("x", LinearMethod(rows, Logistic(1.0)))}, subsets, target
    ).to_json()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said.keys() == {
        "evaluated_on", "classes", "labels", "images", "repeats", "curves", "forecast",
    }  # fmt: skip
    point = said["curves"][0]["points"][0]
    assert point.keys() == {"labels", "accuracy", "accuracy_ci", "spread"}
    assert said["forecast"]["next"].keys() == {"labels", "gain", "gain_ci"}
