"""Hostile ONNX graphs are recognised from their bytes alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from handful_bundle.errors import BundleCorrupt
from handful_bundle.graph import FLOAT, UINT8, Port, check_graph

INPUTS = {"images": Port(UINT8, (2, 2, 1))}
OUTPUTS = {"embedding": Port(FLOAT, (4,))}


def graph() -> onnx.ModelProto:
    """Flatten, scale: the smallest graph that fits the ports above."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["embedding"]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 2, 2, 1])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 4])],
            [numpy_helper.from_array(np.float32(1 / 255), "scale")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def check(model: onnx.ModelProto) -> None:
    check_graph(model.SerializeToString(), "encoder.onnx", INPUTS, OUTPUTS)


def test_the_honest_graph_passes() -> None:
    """The control: the graph that the mutations below start from is fine."""
    check(graph())


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="x")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.evil"


def unlisted_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "RandomNormalLike"


def control_flow(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=graph().graph))


def hidden_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("body", graph().graph))


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="Relu", domain="")


def new_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def new_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 11


def other_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "logits"


def other_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def other_shape(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch"]))


@pytest.mark.parametrize(
    "mutate",
    [
        external,
        external_constant,
        custom_operator,
        unlisted_operator,
        control_flow,
        hidden_subgraph,
        function,
        new_opset,
        no_opset,
        new_ir,
        other_name,
        other_type,
        other_shape,
        fixed_batch,
        second_input,
    ],
)
def test_each_violation_is_refused(mutate: Callable[[onnx.ModelProto], None]) -> None:
    """Each single violation of the contract refuses the graph, with the file in the message."""
    model = graph()
    mutate(model)
    with pytest.raises(BundleCorrupt, match=r"encoder\.onnx"):
        check(model)


@pytest.mark.parametrize("data", [b"", b"\0", b"not a model", b"\x80\x04K\x01."])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    """Bytes that are no ONNX model, a pickle among them, are refused."""
    with pytest.raises(BundleCorrupt):
        check_graph(data, "encoder.onnx", INPUTS, OUTPUTS)


def test_truncated_models_are_refused(bundle_dir: Path) -> None:
    """No prefix of a real encoder passes: what parses lacks outputs or weights."""
    data = (bundle_dir / "encoder.onnx").read_bytes()
    ports = {
        "embedding": Port(FLOAT, (8,)),
        "mean": Port(FLOAT, (4,)),
        "log_variance": Port(FLOAT, (4,)),
    }
    inputs = {"images": Port(UINT8, (16, 16, 3))}
    check_graph(data, "encoder.onnx", inputs, ports)
    refused = 0
    cuts = range(0, len(data) - 1, max(1, len(data) // 200))
    for cut in cuts:
        with pytest.raises(BundleCorrupt):
            check_graph(data[:cut], "encoder.onnx", inputs, ports)
        refused += 1
    assert refused == len(cuts)
