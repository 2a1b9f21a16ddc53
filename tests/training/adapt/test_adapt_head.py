"""A head on an adapted encoder: labels that the encoder has seen say nothing of it."""

import numpy as np
import pytest

from handful_training.head.fit import fit_head


@pytest.fixture
def adapted():
    """Embeddings in which seen images lie apart by class, and unseen ones hardly do."""
    rng = np.random.default_rng(0)
    target = np.tile([0, 1], 100)
    judges = np.arange(200) >= 120
    distance = np.where(judges, 0.3, 1.5)
    rows = rng.normal(size=(200, 8))
    rows[:, 0] += distance * (2 * target - 1)
    return rows.astype(np.float32), target, judges


def log_loss(head, target, rows):
    return float(-np.log(head.out_of_fold[rows, target[rows]]).mean())


def test_unseen_labels_calibrate(adapted):
    """By all labels the head would be far too sure of unseen images; by these it is not."""
    rows, target, judges = adapted
    blind = fit_head(rows, target, ("a", "b"))
    honest = fit_head(rows, target, ("a", "b"), judges=judges)
    unseen = np.flatnonzero(judges)
    assert log_loss(honest, target, unseen) < log_loss(blind, target, unseen)
    assert log_loss(honest, target, unseen) < 1.1 * np.log(2)
    assert honest.cv_log_loss == pytest.approx(log_loss(honest, target, unseen), abs=0.05)


def test_where_every_label_is_unseen_nothing_changes(adapted):
    """An encoder that saw no label: all rows judge, as they do without the argument."""
    rows, target, judges = adapted
    one = fit_head(rows, target, ("a", "b"))
    other = fit_head(rows, target, ("a", "b"), judges=np.ones_like(judges))
    assert one.kind == other.kind
    np.testing.assert_allclose(one.out_of_fold, other.out_of_fold, atol=0.02)


def test_without_any_unseen_label_a_head_is_fitted_all_the_same(adapted):
    """There is nothing better to judge by than what there is."""
    rows, target, judges = adapted
    one = fit_head(rows, target, ("a", "b"))
    other = fit_head(rows, target, ("a", "b"), judges=np.zeros_like(judges))
    assert one.onnx == other.onnx
