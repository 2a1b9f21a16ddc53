"""What an attacker may do to an ONNX graph: each function alters a model, and says what is wrong.

The models keep their ports, so that nothing but the one violation can refuse them.
"""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

Mutate = Callable[[onnx.ModelProto], None]


def _constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _node(model: onnx.ModelProto, kind: str, inputs: list[str], **attributes: object) -> str:
    """Append a node that nothing reads; return its output."""
    name = f"bad{len(model.graph.node)}"
    model.graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
    return name


def _number(model: onnx.ModelProto) -> str:
    return _constant(model, "one_number", np.ones(1, np.float32))


def _body() -> onnx.GraphProto:
    node = helper.make_node("Identity", ["going"], ["still"])
    kind = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("going", "still")]
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    return helper.make_graph([node], "body", [count, kind[0]], [kind[1]])


def _external(location: str) -> Mutate:
    def mutate(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)

    return mutate


def external_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../head.onnx")
    _node(model, "Constant", [], value=tensor)


def custom_operator(model: onnx.ModelProto) -> None:
    node = helper.make_node("Shell", [], ["bad"], domain="com.evil")
    model.graph.node.append(node)


def microsoft_operator(model: onnx.ModelProto) -> None:
    node = helper.make_node("Inverse", [_number(model)], ["bad"], domain="com.microsoft")
    model.graph.node.append(node)


def unknown_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def two_opsets(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 7))


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="Tanh", domain="")


def sparse_weights(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    sparse = helper.make_sparse_tensor(values, indices, [10**12])
    model.graph.sparse_initializer.append(sparse)


def sparse_constant(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    _node(model, "Constant", [], sparse_value=helper.make_sparse_tensor(values, indices, [10**12]))


def endless_loop(model: onnx.ModelProto) -> None:
    trips = _constant(model, "trips", np.array(2**62))
    going = _constant(model, "going0", np.array(True))
    _node(model, "Loop", [trips, going], body=_body())


def branch(model: onnx.ModelProto) -> None:
    going = _constant(model, "going0", np.array(True))
    _node(model, "If", [going], then_branch=_body(), else_branch=_body())


def scan(model: onnx.ModelProto) -> None:
    _node(model, "Scan", [_number(model)], body=_body(), num_scan_inputs=1)


def graph_in_disguise(model: onnx.ModelProto) -> None:
    """An attribute that says it is a number, and holds a graph as well."""
    attribute = helper.make_attribute("axis", 1)
    attribute.g.CopyFrom(_body())
    model.graph.node[-1].attribute.append(attribute)


def referred_attribute(model: onnx.ModelProto) -> None:
    attribute = AttributeProto(name="axis", type=AttributeProto.INT, ref_attr_name="outer")
    model.graph.node[-1].attribute.append(attribute)


def random_numbers(model: onnx.ModelProto) -> None:
    _node(model, "RandomNormal", [], shape=[2])


def filled(model: onnx.ModelProto) -> None:
    _node(model, "ConstantOfShape", [_constant(model, "size", np.array([10**10]))])


def expanded(model: onnx.ModelProto) -> None:
    _node(model, "Expand", [_number(model), _constant(model, "size", np.array([10**10]))])


def tiled(model: onnx.ModelProto) -> None:
    _node(model, "Tile", [_number(model), _constant(model, "size", np.array([10**10]))])


def padded(model: onnx.ModelProto) -> None:
    _node(model, "Pad", [_number(model), _constant(model, "size", np.array([0, 10**10]))])


def ranged(model: onnx.ModelProto) -> None:
    ends = [_constant(model, f"end{value}", np.array(value)) for value in (0, 10**10, 1)]
    _node(model, "Range", ends)


def resized(model: onnx.ModelProto) -> None:
    size = _constant(model, "size", np.array([10**10]))
    _node(model, "Resize", [_number(model), "", "", size], mode="nearest")


def doubled(model: onnx.ModelProto) -> None:
    name = _number(model)
    for _ in range(40):
        name = _node(model, "Concat", [name, name], axis=0)


def multiplied(model: onnx.ModelProto) -> None:
    tall = _constant(model, "tall", np.ones((70_000, 1), np.float32))
    _node(model, "MatMul", [tall, _node(model, "Transpose", [tall])])


def sized_by_data(model: onnx.ModelProto) -> None:
    """The size is a number in the input: no check before it runs can know it."""
    total = _node(model, "ReduceSum", [_node(model, "Cast", [model.graph.input[0].name], to=7)])
    flat = _node(model, "Reshape", [total, _constant(model, "one", np.array([1]))])
    _node(model, "ConstantOfShape", [flat])


def promised_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="big", data_type=1, dims=[10**6, 10**6]))


def cut_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[-1]
    tensor.raw_data = tensor.raw_data[:-1]


def negative_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="big", data_type=1, dims=[-1, -4]))


def text_weights(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"])
    model.graph.initializer.append(tensor)


def many_nodes(model: onnx.ModelProto) -> None:
    name = _number(model)
    model.graph.node.extend(helper.make_node("Abs", [name], [f"abs{i}"]) for i in range(20_000))


def new_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def new_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 11


def input_name(model: onnx.ModelProto) -> None:
    was, model.graph.input[0].name = model.graph.input[0].name, "x"
    for node in model.graph.node:
        node.input[:] = ["x" if name == was else name for name in node.input]


def input_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch"]))


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def output_shape(model: onnx.ModelProto) -> None:
    model.graph.output[-1].type.tensor_type.shape.dim[-1].dim_value += 1


def output_name(model: onnx.ModelProto) -> None:
    model.graph.output[-1].name = "logits"


def missing_output(model: onnx.ModelProto) -> None:
    del model.graph.output[-1]


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Abs", ["b"], ["a"]))
    model.graph.node.append(helper.make_node("Abs", ["a"], ["b"]))


def unknown_tensor(model: onnx.ModelProto) -> None:
    _node(model, "Abs", ["nobody"])


def step_of_zero(model: onnx.ModelProto) -> None:
    image = _constant(model, "picture", np.ones((1, 1, 4, 4), np.float32))
    _node(model, "MaxPool", [image], kernel_shape=[2, 2], strides=[0, 0])


MUTATIONS: dict[str, tuple[Mutate, str]] = {
    "external_parent": (_external("../../../etc/passwd"), "external data"),
    "external_absolute": (_external("/etc/passwd"), "external data"),
    "external_sibling": (_external("golden.npz"), "external data"),
    "external_memory": (_external("*/_ORT_MEM_ADDR_/*"), "external data"),
    "external_constant": (external_constant, "external data"),
    "custom_operator": (custom_operator, "allow-list"),
    "microsoft_operator": (microsoft_operator, "allow-list"),
    "unknown_domain": (unknown_domain, "operator sets"),
    "two_opsets": (two_opsets, "operator sets"),
    "function": (function, "local functions"),
    "sparse_weights": (sparse_weights, "sparse"),
    "sparse_constant": (sparse_constant, "sparse"),
    "endless_loop": (endless_loop, "allow-list"),
    "branch": (branch, "allow-list"),
    "scan": (scan, "allow-list"),
    "graph_in_disguise": (graph_in_disguise, "nested graphs"),
    "referred_attribute": (referred_attribute, "nested graphs"),
    "random_numbers": (random_numbers, "allow-list"),
    "filled": (filled, "at most 4 GiB"),
    "expanded": (expanded, "at most 4 GiB"),
    "tiled": (tiled, "at most 4 GiB"),
    "padded": (padded, "at most 4 GiB"),
    "ranged": (ranged, "at most 4 GiB"),
    "resized": (resized, "at most 4 GiB"),
    "doubled": (doubled, "at most 4 GiB"),
    "multiplied": (multiplied, "at most 4 GiB"),
    "sized_by_data": (sized_by_data, "cannot be told"),
    "promised_weights": (promised_weights, "does not hold the numbers"),
    "cut_weights": (cut_weights, "does not hold the numbers"),
    "negative_weights": (negative_weights, "does not hold the numbers"),
    "text_weights": (text_weights, "does not hold the numbers"),
    "many_nodes": (many_nodes, "at most 10000"),
    "new_opset": (new_opset, "operator sets"),
    "new_ir": (new_ir, "IR version"),
    "input_name": (input_name, "expected"),
    "input_type": (input_type, "expected"),
    "second_input": (second_input, "expected"),
    "fixed_batch": (fixed_batch, "expected"),
    "output_shape": (output_shape, "expected"),
    "output_name": (output_name, "expected"),
    "missing_output": (missing_output, "expected"),
    "cycle": (cycle, "inconsistent|cannot be told|cannot open"),
    "unknown_tensor": (unknown_tensor, "inconsistent|cannot be told|cannot open"),
    "step_of_zero": (step_of_zero, "inconsistent|cannot be told|cannot open"),
}
"""Name → what is done, and what the refusal must say."""
