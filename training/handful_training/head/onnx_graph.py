"""head.onnx: logits of one or more terms, softmax, and whatever else is read off the embedding.

    probabilities = softmax(sum of terms),   term = layers of (x @ weight + bias), ReLU in between,

x being the embedding or W(embedding). Built of parts, so that others can add outputs of their own.
Standard operators only: the graph runs on a GPU and anywhere else. Knows no fitting.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper
from scipy.special import softmax

from handful_training.whitening import Whitening

OPSET, IR = 20, 10
TINY = 1e-12  # as in `Whitening`: the least norm that is divided by

View = Literal["embedding", "whitened"]


class Layer(NamedTuple):
    """An affine map of rows."""

    weight: NDArray[np.float64]  # [in, out]
    bias: NDArray[np.float64]  # [out]


class Term(NamedTuple):
    """What one classifier adds to the logits."""

    view: View  # what it looks at
    layers: tuple[Layer, ...]  # ReLU between them

    def __call__(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the logits [n, K] of rows of the view."""
        for layer in self.layers[:-1]:
            rows = np.maximum(rows @ layer.weight + layer.bias, 0)
        last: NDArray[np.float64] = rows @ self.layers[-1].weight + self.layers[-1].bias
        return last

    def scaled(self, factor: float) -> "Term":
        """Return the term whose logits are `factor` times as large."""
        *others, last = self.layers
        return Term(self.view, (*others, Layer(last.weight * factor, last.bias * factor)))


class Part(NamedTuple):
    """Nodes of the graph. They may read `embedding` and what parts before them made."""

    nodes: tuple[NodeProto, ...]
    tensors: tuple[TensorProto, ...]
    output: ValueInfoProto | None = None  # what becomes an output of head.onnx


def predict(terms: Sequence[Term], views: dict[View, NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return what the graph computes of the same terms, in numpy: probabilities [n, K]."""
    total = np.sum([term(views[term.view]) for term in terms], axis=0)
    probabilities: NDArray[np.float64] = softmax(total, axis=1)
    return probabilities


def whitened_part(whitening: Whitening) -> Part:
    """Return the part that makes `whitened` float32 [batch, p] of `embedding`."""
    tensors = {
        "whitening.mean": whitening.mean,
        "whitening.axes": whitening.axes,
        "whitening.tiny": np.array(TINY),
        "whitening.last_axis": np.array([-1]),
    }
    nodes = [
        *_normalise("embedding", "embedding.unit"),
        helper.make_node("Sub", ["embedding.unit", "whitening.mean"], ["embedding.centred"]),
        helper.make_node("MatMul", ["embedding.centred", "whitening.axes"], ["embedding.scaled"]),
        *_normalise("embedding.scaled", "whitened"),
    ]
    return Part(tuple(nodes), tuple(_tensor(name, value) for name, value in tensors.items()))


def classifier_part(terms: Sequence[Term]) -> Part:
    """Return the part that makes `probabilities` float32 [batch, K] of the views."""
    nodes, tensors, logits = [], [], []
    for t, term in enumerate(terms):
        name = str(term.view)
        for n, layer in enumerate(term.layers):
            made = f"term{t}.layer{n}"
            for role, value in layer._asdict().items():
                tensors.append(_tensor(f"{made}.{role}", value))
            if n:
                nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
                name = f"{name}.relu"
            inputs = [name, f"{made}.weight", f"{made}.bias"]
            nodes.append(helper.make_node("Gemm", inputs, [made]))
            name = made
        logits.append(name)
    if len(logits) > 1:
        nodes.append(helper.make_node("Sum", logits, ["logits"]))
        logits = ["logits"]
    nodes.append(helper.make_node("Softmax", logits, ["probabilities"], axis=-1))
    classes = len(terms[0].layers[-1].bias)
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])
    return Part(tuple(nodes), tuple(tensors), output)


def compose(width: int, parts: Sequence[Part]) -> bytes:
    """Return head.onnx: `embedding` float32 [batch, width] to the parts' outputs."""
    graph = helper.make_graph(
        [node for part in parts for node in part.nodes],
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])],
        [part.output for part in parts if part.output is not None],
        [tensor for part in parts for tensor in part.tensors],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="handful",
    )
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _normalise(name: str, made: str) -> list[NodeProto]:
    norm, safe = f"{made}.norm", f"{made}.safe_norm"
    return [
        helper.make_node("ReduceL2", [name, "whitening.last_axis"], [norm], keepdims=1),
        helper.make_node("Max", [norm, "whitening.tiny"], [safe]),
        helper.make_node("Div", [name, safe], [made]),
    ]


def _tensor(name: str, value: NDArray[np.generic]) -> TensorProto:
    kind = np.int64 if np.issubdtype(value.dtype, np.integer) else np.float32
    return numpy_helper.from_array(np.asarray(value, kind), name)
