"""The detector as a part of head.onnx: `embedding` → `novelty`, in standard operators."""

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from handful_bundle.head import NOVELTY
from handful_training.head.onnx_graph import Part
from handful_training.novelty.curve import Curve
from handful_training.novelty.detector import TINY, Detector
from handful_training.novelty.gaussian import ShrunkGaussian


def novelty_part(detector: Detector) -> Part:
    """Return the part that makes `novelty` float32 [batch] of `embedding`."""
    graph = _Graph()
    seen, curves = detector.witnesses, detector.surprises.curves
    norm = graph.add("ReduceL2", "embedding", graph.integers("last", [-1]), keepdims=1)
    unit = graph.add("Div", "embedding", graph.add("Max", norm, graph.floats("tiny", TINY)))
    unit = _coordinates(graph, "unit", unit, seen.unit)
    plain = _coordinates(graph, "plain", "embedding", seen.plain)
    said = [
        graph.add("ReduceL2", view, graph.integers("last", [-1]), keepdims=1)
        for view in (unit, plain)
    ]
    if seen.distortion is not None:
        both = graph.add("Concat", unit, plain, axis=1)
        weight = graph.floats("distortion.weight", seen.distortion.weight[:, None])
        bias = graph.floats("distortion.bias", np.array([seen.distortion.bias]))
        predicted = graph.add("Gemm", both, weight, bias)
        said += [predicted, graph.add("Neg", predicted)]
    each = _evaluate(graph, "surprise", graph.add("Concat", *said, axis=1), curves)
    largest = graph.add("ReduceMax", each, graph.integers("last", [-1]), keepdims=1)
    share = _evaluate(graph, "share", largest, (detector.share,))
    graph.add("Squeeze", share, graph.integers("last", [-1]), output=NOVELTY)
    port = helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["batch"])
    return Part(tuple(graph.nodes), tuple(graph.tensors.values()), port)


class _Graph:
    """Gathers nodes and tensors whose names do not meet those of other parts."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: int) -> str:
        output = output or f"novelty.{len(self.nodes)}.{operator}"
        node = helper.make_node(operator, list(inputs), [output])
        node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
        self.nodes.append(node)
        return output

    def floats(self, name: str, values: NDArray[np.float64] | float) -> str:
        return self._tensor(name, np.asarray(values, np.float32))

    def integers(self, name: str, values: list[int]) -> str:
        return self._tensor(name, np.array(values, np.int64))

    def _tensor(self, name: str, values: NDArray[np.generic]) -> str:
        name = f"novelty.{name}"
        self.tensors[name] = numpy_helper.from_array(values, name)
        return name


def _coordinates(graph: _Graph, name: str, rows: str, fitted: ShrunkGaussian) -> str:
    """Add (rows - mean) @ axes; centred first, for folding would subtract large numbers."""
    centred = graph.add("Sub", rows, graph.floats(f"{name}.mean", fitted.mean))
    return graph.add("MatMul", centred, graph.floats(f"{name}.axes", fitted.axes))


def _evaluate(graph: _Graph, name: str, x: str, curves: tuple[Curve, ...]) -> str:
    """Add one curve per column of `x`, [batch, C]; returns [batch, C]."""
    most = max(len(curve.knots) for curve in curves)

    def table(role: str) -> str:  # [C, J]; curves of fewer pieces get some that stay at 0
        rows = [getattr(curve, role) for curve in curves]
        padded = [np.pad(row, (0, most - len(row))) for row in rows]
        return graph.floats(f"{name}.{role}", np.stack(padded))

    wide = graph.add("Unsqueeze", x, graph.integers("last", [-1]))
    beyond = graph.add("Sub", wide, table("knots"))
    within = graph.add("Max", beyond, graph.floats("zero", 0.0))
    within = graph.add("Min", within, table("widths"))
    risen = graph.add("Mul", within, table("slopes"))
    total = graph.add("ReduceSum", risen, graph.integers("last", [-1]), keepdims=0)
    start = np.array([curve.start for curve in curves])
    return graph.add("Add", total, graph.floats(f"{name}.start", start))
