"""The head: a fit on few embeddings, its graph, and what it says of rows that it has not seen."""

import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from handful_bundle.head import Head
from handful_bundle.manifest import digest
from handful_training.config import HeadConfig
from handful_training.errors import InputError
from handful_training.head.fit import fit_head, head_info
from handful_training.head.linear import Linear, Standardised
from handful_training.head.onnx_graph import (
    Layer,
    Term,
    classifier_part,
    compose,
    predict,
    whitened_part,
)
from handful_training.metrics import expected_calibration_error, log_loss
from handful_training.whitening import Whitening

QUICK = HeadConfig(family="logistic", folds=3, repeats=2, c_grid=(1e-3, 1e-1, 1e1))


def blobs(classes, per_class, width=24, spread=1.5, seed=0, centres_seed=0):
    """Return overlapping Gaussian clusters: embeddings float32 [n, width], target [n]."""
    centres = np.random.default_rng(centres_seed).normal(0, 1, (classes, width))
    target = np.repeat(np.arange(classes), per_class)
    noise = np.random.default_rng(seed).normal(0, spread, (len(target), width))
    return (centres[target] + noise + 3).astype(np.float32), target


def names(classes):
    return tuple(f"class {k:04}" for k in range(classes))


def run(model, embeddings):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"embedding": embeddings})[0]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("per_class", [2, 20])
def test_graph_is_sklearn(classes, per_class):
    """head.onnx gives what sklearn's predict_proba gives on standardised embeddings, within 1e-5,
    for two classes too, once the temperature is undone.
    """
    embeddings, target = blobs(classes, per_class)
    fitted = fit_head(embeddings, target, names(classes), QUICK)
    rows = embeddings.astype(np.float64)
    mean = rows.mean(0)
    scale = np.sqrt(np.square(rows - mean).mean())
    model = LogisticRegression(C=fitted.C, tol=1e-9, max_iter=10_000)
    model.fit((rows - mean) / scale, target)
    others, _ = blobs(classes, 30, seed=1)
    expected = model.predict_proba((others - mean) / scale)
    tempered = expected ** (1 / fitted.temperature)
    tempered /= tempered.sum(1, keepdims=True)
    np.testing.assert_allclose(run(fitted.onnx, others), tempered, atol=1e-5)


def test_graph_folds_exactly():
    """Standardisation, intercept and temperature folded into one Gemm change no probability by
    more than 1e-5, even where the mean is ten deviations away.
    """
    rng = np.random.default_rng(0)
    mean, deviation, temperature = rng.normal(10, 5, 256), 1.3, 0.7
    rows = (mean + deviation * rng.normal(size=(50, 256))).astype(np.float32)
    standardised = Standardised.of(rows)
    fitted = Linear(rng.normal(size=(7, len(standardised.basis))) / 16, rng.normal(size=7))
    folded = standardised.unfold(fitted)
    term = Term("embedding", (folded.layer(),)).scaled(1 / temperature)
    expected = softmax(fitted.logits(standardised.rows) / temperature, axis=1)
    model = compose(256, [classifier_part([term])])
    np.testing.assert_allclose(run(model, rows), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_graph_is_numpys(scale):
    """A linear term on the embedding and a student on W(embedding) give in ONNX what they give in
    numpy, within 1e-5, at any scale of the embedding and for a row of zeros.
    """
    rng = np.random.default_rng(0)
    embeddings = (scale * rng.normal(1, 1, (60, 24))).astype(np.float32)
    embeddings[7] = 0
    whitening = Whitening.fit(embeddings)
    features = whitening(embeddings)
    hidden = Layer(rng.normal(size=(features.shape[1], 9)), rng.normal(size=9))
    terms = [
        Term("embedding", (Layer(rng.normal(size=(24, 5)) / scale, rng.normal(size=5)),)),
        Term("whitened", (hidden, Layer(rng.normal(size=(9, 5)), rng.normal(size=5)))),
    ]
    model = compose(24, [whitened_part(whitening), classifier_part(terms)])
    expected = predict(terms, {"embedding": embeddings, "whitened": features})
    np.testing.assert_allclose(run(model, embeddings), expected, atol=1e-5)
    Head.open(model, 24, names(5), "cpu")  # the operators are allowed


def test_graph_keeps_the_contract(tmp_path):
    """The graph has the names, types, axis, opset and IR of the bundle contract, standard operators
    only, and opens as a bundle's head.
    """
    embeddings, target = blobs(3, 5)
    fitted = fit_head(embeddings, target, names(3), QUICK)
    model = onnx.load_from_string(fitted.onnx)
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert {node.op_type for node in model.graph.node} == {"Gemm", "Softmax"}
    (given,), (made,) = model.graph.input, model.graph.output
    assert (given.name, made.name) == ("embedding", "probabilities")
    for port, width in ((given, 24), (made, 3)):
        batch, size = port.type.tensor_type.shape.dim
        assert (batch.dim_param, size.dim_value) == ("batch", width)
        assert port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    head = Head.open(fitted.onnx, 24, names(3), "cpu")
    np.testing.assert_allclose(head(embeddings).sum(1), 1, atol=1e-6)
    assert head(embeddings[:0]).shape == (0, 3)


def test_same_arguments_same_bytes():
    """A fit is deterministic by its seed, to the byte."""
    embeddings, target = blobs(4, 6)
    first = fit_head(embeddings, target, names(4), QUICK, seed=3)
    again = fit_head(embeddings, target, names(4), QUICK, seed=3)
    assert first.onnx == again.onnx
    np.testing.assert_array_equal(first.out_of_fold, again.out_of_fold)
    other = fit_head(embeddings, target, names(4), QUICK, seed=4)
    assert not np.array_equal(first.out_of_fold, other.out_of_fold)


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_one_label_per_class_works(classes):
    """With one label per class the head still beats chance by far, is not calibrated on anything,
    and claims no out-of-fold predictions; sklearn's warning about it is not the user's.
    """
    embeddings, target = blobs(classes, 1, spread=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_head(embeddings, target, names(classes), QUICK)
    others, truth = blobs(classes, 20, spread=0.5, seed=1)
    assert (run(fitted.onnx, others).argmax(1) == truth).mean() > 0.8
    assert fitted.out_of_fold is None
    assert fitted.cv_log_loss is None
    assert fitted.temperature == 1


def test_a_lone_label_stays_in_training():
    """One class with a single label does not stop cross-validation of the others, and the head
    knows that class; but there are no out-of-fold predictions for all rows.
    """
    embeddings, target = blobs(3, 20, spread=0.5)
    keep = np.r_[0:40, 40]
    fitted = fit_head(embeddings[keep], target[keep], names(3), QUICK)
    assert fitted.cv_log_loss is not None
    assert fitted.out_of_fold is None
    assert run(fitted.onnx, embeddings[41:]).argmax(1).mean() == pytest.approx(2, abs=0.2)


def test_out_of_fold_never_saw_the_row():
    """On labels that are pure noise, out-of-fold predictions are at chance, though the classifier
    can tell its own training rows apart.
    """
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(80, 200)).astype(np.float32)
    target = np.repeat(np.arange(4), 20)
    fitted = fit_head(embeddings, target, names(4), QUICK)
    assert fitted.out_of_fold.shape == (80, 4)
    np.testing.assert_allclose(fitted.out_of_fold.sum(1), 1, atol=1e-5)
    assert (fitted.out_of_fold.argmax(1) == target).mean() < 0.45
    assert (run(fitted.onnx, embeddings).argmax(1) == target).mean() > 0.8


def test_is_calibrated():
    """On fresh rows the head is as right as it is confident, and as good as its folds said."""
    embeddings, target = blobs(5, 40, spread=2.5)
    fitted = fit_head(embeddings, target, names(5), HeadConfig(family="logistic", repeats=2))
    others, truth = blobs(5, 800, spread=2.5, seed=1)
    probabilities = run(fitted.onnx, others)
    assert expected_calibration_error(probabilities, truth) < 0.06
    assert log_loss(probabilities, truth) == pytest.approx(fitted.cv_log_loss, abs=0.12)


def test_regularisation_follows_the_data():
    """Noise is regularised more strongly than clean clusters."""
    clean = fit_head(*blobs(3, 20, spread=0.3), names(3), QUICK)
    embeddings, target = blobs(3, 20, spread=0.3)
    shuffled = np.random.default_rng(0).permutation(target)
    noise = fit_head(embeddings, shuffled, names(3), QUICK)
    assert noise.C < clean.C


def test_nearly_dead_features_do_not_drown_the_rest():
    """A hundred features of tiny noise leave the head as right as without them."""
    embeddings, target = blobs(5, 2, width=8, spread=0.5)
    others, truth = blobs(5, 50, width=8, spread=0.5, seed=1)
    rng = np.random.default_rng(0)

    def widen(rows):
        return np.hstack([rows, rng.normal(0, 0.01, (len(rows), 100)).astype(np.float32)])

    plain = fit_head(embeddings, target, names(5), QUICK)
    wide = fit_head(widen(embeddings), target, names(5), QUICK)
    accuracy = (run(plain.onnx, others).argmax(1) == truth).mean()
    assert (run(wide.onnx, widen(others)).argmax(1) == truth).mean() >= accuracy - 0.03


def test_constant_features_are_safe():
    """Constant features leave the probabilities finite; nothing but constants makes them equal."""
    embeddings, target = blobs(3, 4)
    embeddings[:, ::2] = 7
    assert np.isfinite(run(fit_head(embeddings, target, names(3), QUICK).onnx, embeddings)).all()
    embeddings[:] = 7
    uniform = run(fit_head(embeddings, target, names(3), QUICK).onnx, embeddings)
    np.testing.assert_allclose(uniform, 1 / 3, atol=1e-5)


def test_many_classes():
    """A thousand classes with two labels each fit, and most fresh rows are recognised."""
    embeddings, target = blobs(1000, 2, width=64, spread=0.4)
    one = HeadConfig(family="logistic", folds=2, repeats=1, c_grid=(0.1,))
    fitted = fit_head(embeddings, target, names(1000), one)
    others, truth = blobs(1000, 1, width=64, spread=0.4, seed=1)
    assert (run(fitted.onnx, others).argmax(1) == truth).mean() > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, t, n: (e, t * 0, n[:1]), "at least two"),
        (lambda e, t, n: (e, t, (*n, "owl")), "no labelled image of: owl"),
        (lambda e, t, n: (e, t + 1, n), "outside 0 ... 2"),
        (lambda e, t, n: (e[:-1], t, n), "one row per label"),
        (lambda e, t, n: (e * np.float32("nan"), t, n), "not finite"),
    ],
)
def test_refuses_what_it_cannot_use(change, message):
    """Unusable input ends in an InputError that says what was found."""
    embeddings, target, labels = change(*blobs(3, 2), names(3))
    with pytest.raises(InputError, match=message):
        fit_head(embeddings, target, labels, QUICK)


def test_head_info_describes_the_graph():
    """The manifest's block carries digest, temperature and number of labels of the fitted head."""
    embeddings, target = blobs(3, 4)
    fitted = fit_head(embeddings, target, names(3), QUICK)
    info = head_info(fitted, digest(b"labels"))
    assert info.kind == "logistic"
    assert info.digest == digest(fitted.onnx)
    assert info.labels_digest == digest(b"labels")
    assert info.label_count == 12
    assert info.temperature == fitted.temperature
