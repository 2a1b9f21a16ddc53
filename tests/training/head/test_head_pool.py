"""Heads that learn from a pool of unlabelled images: graph, student, and when they are chosen."""

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import onnxruntime as ort
import pytest
from scipy.special import softmax

from handful_bundle.head import Head
from handful_training.config import HeadConfig
from handful_training.errors import InputError
from handful_training.graph.poisson import poisson
from handful_training.graph.pool_graph import PoolGraph
from handful_training.graph.spreading import spread
from handful_training.head import teaching
from handful_training.head.calibration import row_losses
from handful_training.head.choice import FEW, Judged, choose, favourite, in_words
from handful_training.head.fit import fit_head
from handful_training.head.nodes import place
from handful_training.head.stacking import GRAPH_ALONE, GRAPH_AND_LINEAR, combine, fit_scales
from handful_training.head.student import distil
from handful_training.head.teacher import pool_logits
from handful_training.head.teaching import teach
from handful_training.whitening import Whitening

QUICK = HeadConfig(repeats=1, c_grid=(1e-2, 1.0))


@dataclass
class SmallPool:
    embedding: np.ndarray
    features: np.ndarray
    whitening: Whitening
    graph: PoolGraph


def pool_of(embedding):
    embedding = embedding.astype(np.float32)
    whitening = Whitening.fit(embedding)
    features = whitening(embedding)
    return SmallPool(embedding, features, whitening, PoolGraph.build(features))


def moons(count, seed):
    """Return two half circles, one in the other's arms: embedding [count, 6], class."""
    rng = np.random.default_rng(seed)
    target = np.arange(count) % 2
    angle = rng.uniform(0, np.pi, count) + np.pi * target
    plane = np.stack([np.cos(angle) + target, np.sin(angle) + 0.5 * target], 1)
    plane += rng.normal(0, 0.06, plane.shape)
    return np.hstack([2 + plane, np.full((count, 4), 2.0)]), target


def stripes(count, seed):
    """Return tight blobs that are cut in half by the boundary between the classes."""
    rng = np.random.default_rng(seed)
    blob = rng.integers(0, 8, count)
    rows = np.hstack([np.eye(8)[blob] * 3, rng.normal(0, 0.3, (count, 4))])
    return rows + 2, (rows[:, 8] > 0).astype(np.int64)


def labelled(target, per_class, seed):
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(np.flatnonzero(target == k), per_class, replace=False) for k in range(2)]
    )


def right(fitted, embedding, target):
    return (run(fitted.onnx, embedding).argmax(1) == target).mean()


def run(model, embedding):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"embedding": embedding.astype(np.float32)})[0]


def fit(pool, target, rows, config=QUICK, seed=0):
    return fit_head(
        pool.embedding[rows], target[rows], ("a", "b"), config, pool=pool, positions=rows, seed=seed
    )


@pytest.fixture(scope="module")
def two_moons():
    embedding, target = moons(800, 0)
    return pool_of(embedding), target


def test_graph_sees_what_a_line_cannot(two_moons):
    """On two moons with four labels each, the default is a graph, which beats logistic regression
    by far on images that no graph has seen.
    """
    pool, target = two_moons
    rows = labelled(target, 4, 1)
    fitted = fit(pool, target, rows)
    fresh, truth = moons(1000, 9)
    assert fitted.kind == "graph"
    linear = fit(pool, target, rows, HeadConfig(family="logistic"))
    assert right(fitted, fresh, truth) > 0.95
    assert right(fitted, fresh, truth) > right(linear, fresh, truth) + 0.05


@pytest.mark.parametrize("learner", [spread, poisson])
def test_student_keeps_up_with_its_teacher(two_moons, learner):
    """What is served loses less than a point against what the graph says of its own nodes, in the
    way that is asked for.
    """
    pool, target = two_moons
    rows = labelled(target, 5, 2)
    name = "poisson" if learner is poisson else "spreading"
    fitted = fit(pool, target, rows, HeadConfig(family="graph", repeats=1, graph=name))
    assert fitted.choice["recipe"]["graph"] == name
    graph = (learner(pool.graph, rows, target[rows], 2).argmax(1) == target).mean()
    assert right(fitted, pool.embedding, target) > graph - 0.01
    assert fitted.choice["student_agreement"] > 0.95


def test_line_wins_where_the_graph_misleads():
    """Where classes cut through the clusters, cross-validation finds that a graph is no use."""
    embedding, target = stripes(900, 0)
    pool, rows = pool_of(embedding), labelled(target, 40, 0)
    fitted = fit(pool, target, rows)
    fresh, truth = stripes(900, 5)
    graph = fit(pool, target, rows, HeadConfig(family="graph", repeats=1))
    assert fitted.kind != "graph"
    assert right(fitted, fresh, truth) > right(graph, fresh, truth) + 0.1
    scores = fitted.choice["out_of_fold"]
    assert scores["logistic"]["log_loss"] < scores["graph"]["log_loss"]


def test_rule_for_few_labels():
    """The graph alone is preferred below FEW labels per class, graph and line together from there,
    a line without a pool, and always what the settings name.
    """
    for per_class in (1, FEW - 1, FEW, 50):
        target = np.repeat(np.arange(3), per_class)
        preferred = "graph" if per_class < FEW else "combined"
        assert favourite(target, HeadConfig(), pool=True) == preferred
        assert favourite(target, HeadConfig(), pool=True, adapted=True) == "graph"
        assert favourite(target, HeadConfig(), pool=False) == "logistic"
        assert favourite(target, HeadConfig(family="lda"), pool=True) == "lda"


@pytest.mark.parametrize(("better", "kind"), [(0.0, "graph"), (0.02, "graph"), (0.5, "logistic")])
def test_favourite_is_left_for_a_clear_gain_only(better, kind):
    """A candidate takes the favourite's place when its gain is beyond two standard errors."""
    rng = np.random.default_rng(0)
    target = np.arange(40) % 2
    logits = rng.normal(np.where(np.eye(2)[target] > 0, 1, 0), 1)[None]
    other = rng.normal(0, 0.3, logits.shape) + logits + better * np.eye(2)[target]
    candidates = [
        Judged("graph", None, "whitened", 0, 1, logits, row_losses(logits, target).mean()),
        Judged("logistic", None, "embedding", 1, 0, other, row_losses(other, target).mean()),
    ]
    assert choose(candidates, "graph", target, HeadConfig()).kind == kind


def test_one_label_per_class(two_moons):
    """With one label per class the graph is taken unseen: no out-of-fold predictions, and the line
    for the user says that the rule decided.
    """
    pool, target = two_moons
    fitted = fit(pool, target, labelled(target, 1, 3))
    assert fitted.kind == "graph"
    assert fitted.out_of_fold is None
    assert fitted.cv_log_loss is None
    assert "by rule" in in_words(fitted.choice)


@pytest.mark.parametrize("unlabelled", [None, 60])
def test_without_a_pool_it_is_a_line(unlabelled):
    """The labelled images alone, or with few others, give a linear head; a graph that is asked for
    is refused with the remedy.
    """
    embedding, target = moons(500, 0)
    rows = labelled(target, 8, 0)
    pool = positions = None
    if unlabelled is not None:
        few = np.r_[rows, np.setdiff1d(np.arange(500), rows)[:unlabelled]]
        pool, positions = pool_of(embedding[few]), np.arange(len(rows))
    given = embedding[rows].astype(np.float32), target[rows], ("a", "b")
    fitted = fit_head(*given, QUICK, pool=pool, positions=positions)
    assert fitted.kind in ("logistic", "lda", "nearest_mean")
    with pytest.raises(InputError, match="the folder of all images"):
        fit_head(*given, HeadConfig(family="graph"), pool=pool, positions=positions)


@pytest.mark.parametrize("family", ["logistic", "lda", "nearest_mean", "graph", "combined"])
def test_every_family_can_be_asked_for(two_moons, family):
    """Each family that the settings name is the one that is fitted; its probabilities sum to 1,
    also out of fold, and the graph is a bundle's head.
    """
    pool, target = two_moons
    fitted = fit(pool, target, labelled(target, 6, 0), HeadConfig(family=family, repeats=2))
    assert fitted.kind == fitted.choice["kind"] == family
    np.testing.assert_allclose(fitted.out_of_fold.sum(1), 1, atol=1e-5)
    head = Head.open(fitted.onnx, 6, ("a", "b"), "cpu")
    np.testing.assert_allclose(head(pool.embedding).sum(1), 1, atol=1e-5)


def test_out_of_fold_never_saw_the_label(two_moons):
    """Shuffled labels are predicted at chance out of fold by the graph, though the graph is sure of
    the labels that it was given.
    """
    pool, target = two_moons
    noise = np.random.default_rng(0).permutation(target)
    rows = labelled(noise, 60, 0)
    fitted = fit(pool, noise, rows, HeadConfig(family="graph", repeats=1))
    assert 0.35 < (fitted.out_of_fold.argmax(1) == noise[rows]).mean() < 0.65


def test_same_arguments_same_bytes(two_moons):
    """A head with a student is deterministic to the byte; another seed starts elsewhere."""
    pool, target = two_moons
    rows = labelled(target, 3, 0)
    first, again, other = (fit(pool, target, rows, seed=seed).onnx for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_order_of_the_pool_makes_no_difference():
    """A student is the same whichever way the pool's rows are ordered."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 8)).astype(np.float32)
    taught = softmax(rng.normal(size=(300, 3)), axis=1).astype(np.float32)
    shuffled = rng.permutation(300)
    found, _ = distil(features, taught, None, seed=1)
    again, _ = distil(features[shuffled], taught[shuffled], None, seed=1)
    for one, other in zip(found.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)


def test_combined_lies_between():
    """The combination's log odds lie between those of graph and line where factors sum to 1, and
    the more reliable of the two gets the larger factor.
    """
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 400)
    good = (4 * np.eye(3)[target] + rng.normal(size=(400, 3)))[None]
    poor = (np.eye(3)[target] + 2 * rng.normal(size=(400, 3)))[None]
    both = combine([good, poor], (0.3, 0.7))
    for pair in (0, 1), (0, 2), (1, 2):
        odds = [logits[..., pair[0]] - logits[..., pair[1]] for logits in (good, poor, both)]
        assert (np.minimum(*odds[:2]) - 1e-9 <= odds[2]).all()
        assert (odds[2] <= np.maximum(*odds[:2]) + 1e-9).all()
    ones = np.ones(400)
    scales = fit_scales([good, poor], target, ones, GRAPH_AND_LINEAR)
    assert scales.values[0] > 2 * scales.values[1]
    assert scales.log_loss <= fit_scales([good], target, ones, GRAPH_ALONE).log_loss + 1e-6


def test_labels_outside_the_pool_count(two_moons):
    """Labelled images that a bounded pool left out teach as much as if they were in it."""
    pool, _ = two_moons
    others, truth = moons(40, 7)
    fitted = fit_head(
        others[:12].astype(np.float32), truth[:12], ("a", "b"),
        HeadConfig(family="graph", repeats=1), pool=pool, positions=np.full(12, -1),
    )  # fmt: skip
    assert right(fitted, *moons(500, 11)) > 0.93


def test_attached_nodes_are_linked_as_others(two_moons):
    """Attached images are new nodes with ten links to their nearest; the pool's own links stay;
    a picture that is labelled twice becomes two nodes.
    """
    pool, _ = two_moons
    others = pool.whitening(moons(3, 7)[0].astype(np.float32))
    features = np.vstack([pool.features[[5, 5]], others])
    nodes = place(pool, np.array([5, 5, -1, -1, -1]), features)
    assert nodes.rows.tolist() == [5, 800, 801, 802, 803]
    weights = nodes.graph.weights
    assert abs(weights - weights.T).max() == 0
    assert abs(weights[:800, :800] - pool.graph.weights).max() == 0
    distance = np.linalg.norm(others[:, None] - pool.features, axis=2)
    for row, near in zip(weights[801:].toarray(), np.argsort(distance, axis=1), strict=True):
        assert set(np.flatnonzero(row)) == set(near[:10])
    assert pool.graph is place(pool, np.arange(5), pool.features[:5]).graph


def test_unbalanced_classes_and_a_lone_label(two_moons):
    """Classes of 12, 4 and 1 labels give a head that knows all three, without out-of-fold
    predictions, which the lone label cannot have.
    """
    pool, target = two_moons
    rng = np.random.default_rng(0)
    third = replace(pool, embedding=pool.embedding.copy())
    corner = np.arange(60)
    third.embedding[corner] = [4, -3, 2, 2, 2, 2] + 0.05 * rng.normal(size=(60, 6))
    third = pool_of(third.embedding)
    truth = target.copy()
    truth[corner] = 2
    rows = np.r_[
        np.flatnonzero(truth == 0)[:12],
        np.flatnonzero(truth == 1)[:4],
        np.flatnonzero(truth == 2)[:1],
    ]
    fitted = fit_head(
        third.embedding[rows], truth[rows], ("a", "b", "c"), QUICK, pool=third, positions=rows
    )
    found = run(fitted.onnx, third.embedding).argmax(1)
    assert fitted.out_of_fold is None
    assert (found[truth == 2] == 2).mean() > 0.9
    assert (found == truth).mean() > 0.9


def test_a_second_round_mixes_up_fewer(monkeypatch):
    """Where neighbours are often of two classes, a second round on links that the first one's
    student has weighed finds more of both than one on the links as they are, and is as sure as the
    first was on average.
    """
    rng = np.random.default_rng(0)
    target = np.arange(1000) % 2
    plane = rng.normal(size=(1000, 10))
    plane[:, 0] += 3 * target
    pool = pool_of(plane + 8)
    gains = []
    for seed in range(4):
        rows = labelled(target, 5, seed)
        nodes = place(pool, rows.copy(), pool.features[rows])
        views = {"embedding": pool.embedding[rows], "whitened": pool.features[rows]}

        def found(nodes=nodes, views=views, rows=rows):
            return teach(
                pool, nodes, views, target[rows], QUICK, graph_scale=1.5, linear=None, seed=0
            )

        weighed = found()
        with monkeypatch.context() as patched:
            patched.setattr(teaching, "agreeing", lambda graph, _: graph)
            as_it_is = found()
        right = [
            (taught.term(pool.features).argmax(1) == target).mean()
            for taught in (as_it_is, weighed)
        ]
        gains.append(right[1] - right[0])
        assert as_it_is.changed == 0
        assert 0 < weighed.changed < 0.2
        first = softmax(1.5 * pool_logits(nodes, target[rows], 1000, QUICK), axis=1)
        sure = softmax(weighed.term(pool.features), axis=1)
        assert sure.max(1).mean() == pytest.approx(first.max(1).mean(), abs=0.03)
    assert min(gains) >= 0
    assert np.mean(gains) > 0.005


def test_a_second_round_asks_labelled_images_outside_the_pool_too(two_moons):
    """Labels of images outside the pool and their copies inside it give almost the same student:
    links of attached nodes are weighed by what the draft says of these images.
    """
    pool, target = two_moons
    rows = labelled(target, 6, 5)
    views = {"embedding": pool.embedding[rows], "whitened": pool.features[rows]}
    said = []
    for positions in (rows, np.full(12, -1)):
        nodes = place(pool, positions.copy(), pool.features[rows])
        taught = teach(
            pool, nodes, views, target[rows], QUICK, graph_scale=1.5, linear=None, seed=0
        )
        said.append(softmax(taught.term(pool.features), axis=1))
    assert (said[0].argmax(1) == said[1].argmax(1)).mean() > 0.97


def test_a_student_needs_no_compiler():
    """Fitting one imports nothing of torch's compiler, which would take a third of a refit."""
    code = (
        "import sys, numpy as np; from handful_training.head.student import distil\n"
        "rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)\n"
        "distil(rows, np.full((200, 2), 0.5, np.float32), None, seed=0, steps=2)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
