"""How large every tensor of an ONNX graph becomes, told from its bytes without running it.

A few bytes can ask for any amount of memory (`Expand` of one number to 10^10) or name a size that
only the data will tell. A graph is runnable when the shapes of all its tensors follow from the
batch size alone, and none is larger than `MAX_BYTES`. Knows neither ports nor operators.
"""

import math
from collections.abc import Iterable, Mapping

import onnx
from onnx import TensorProto, shape_inference

from handful_bundle.batches import BUCKETS
from handful_bundle.errors import BundleCorrupt

MAX_BYTES = 4 * 2**30
"""Most bytes of one tensor at the largest batch: 64 channels of 512 x 512 fit."""

_MOST_COPIES = 2**20
_SMALL = 1024  # numbers; shapes, axes and scales are smaller, weights need not be copied
NUMBERS: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.INT8: 1,
    TensorProto.INT16: 2,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT8: 1,
    TensorProto.UINT16: 2,
    TensorProto.UINT32: 4,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}
"""Element types that a tensor may have, and their bytes: no strings, no sequences."""

_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def check_tensors(tensors: Iterable[TensorProto], file: str) -> None:
    """Check that each stored tensor holds as many numbers as it declares, and nothing else.

    Raises:
        BundleCorrupt: one does not; the message names it.
    """
    for tensor in tensors:
        if not _is_whole(tensor):
            raise BundleCorrupt(
                f"{file}: tensor {tensor.name!r:.50} of type {tensor.data_type} and shape "
                f"{list(tensor.dims)[:8]} does not hold the numbers that it declares; export the "
                "bundle again"
            )


def check_extents(model: onnx.ModelProto, file: str) -> None:
    """Infer the shape of every tensor for the largest batch and bound its size.

    Args:
        model: its inputs and outputs have a batch axis and fixed sizes after it.
        file: its name, for messages.

    Raises:
        BundleCorrupt: the graph is inconsistent, or a size is unknown, too large, or not the one
            that an output declares.
    """
    light = _without_weights(model)
    shapes = _known(light, file, follow_values=False)
    if unknown := _unknown(model, shapes):
        # Sizes that are computed from other sizes. Following values costs memory for each of them,
        # and a few `Concat` can make them many.
        copies = math.prod(
            len(node.input)
            for node in model.graph.node
            if node.op_type == "Concat" and unknown.intersection(node.output)
        )
        if copies <= _MOST_COPIES:
            shapes = _known(light, file, follow_values=True)
            unknown = _unknown(model, shapes)
    if unknown:
        raise BundleCorrupt(
            f"{file}: the size of {next(iter(unknown))!r:.50} cannot be told from the graph; "
            "export it with fixed shapes but for the batch axis"
        )
    for value in model.graph.output:
        declared = [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
        if shapes.get(value.name) != [BUCKETS[-1], *declared]:
            raise BundleCorrupt(
                f"{file}: output {value.name!r:.50} is declared as {declared} a row, the graph "
                f"gives {shapes.get(value.name)} for {BUCKETS[-1]} rows; export the bundle again"
            )


def _known(light: onnx.ModelProto, file: str, *, follow_values: bool) -> dict[str, list[int]]:
    """Return the shapes that can be told, by tensor, none of them too large."""
    try:
        found = shape_inference.infer_shapes(
            light, check_type=True, strict_mode=True, data_prop=follow_values
        ).graph
    except Exception as error:  # onnx raises its own unrelated classes
        raise BundleCorrupt(
            f"{file}: the graph is inconsistent ({type(error).__name__}); export the bundle again"
        ) from error
    shapes = {}
    for values in (found.value_info, found.output):
        for value in values:
            shape, item = _sizes(value), NUMBERS.get(value.type.tensor_type.elem_type)
            if shape is None or item is None:
                continue
            if math.prod(shape) * item > MAX_BYTES:
                raise BundleCorrupt(
                    f"{file}: {value.name!r:.50} becomes {shape} for a batch of {BUCKETS[-1]}, at "
                    f"most {MAX_BYTES // 2**30} GiB are allowed; export a smaller model"
                )
            shapes[value.name] = shape
    return shapes


def _unknown(model: onnx.ModelProto, shapes: Mapping[str, list[int]]) -> set[str]:
    return {name for node in model.graph.node for name in node.output if name} - shapes.keys()


def _is_whole(tensor: TensorProto) -> bool:
    item = NUMBERS.get(tensor.data_type)
    if item is None or tensor.string_data or min(tensor.dims, default=0) < 0:
        return False
    count = math.prod(tensor.dims)
    typed = sum(len(getattr(tensor, field)) for field in _TYPED)
    return sorted([typed * item, len(tensor.raw_data)]) == [0, count * item]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph for the largest batch, large weights turned into inputs of their shape.

    What the file itself says of shapes is left out, but for its inputs: it may lie.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = "g"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = BUCKETS[-1]
    for value in model.graph.output:
        kind = value.type.tensor_type.elem_type
        graph.output.append(onnx.helper.make_tensor_value_info(value.name, kind, None))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light


def _sizes(value: onnx.ValueInfoProto) -> list[int] | None:
    """Return the shape, or None if any of it is unknown."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return sizes if min(sizes, default=0) >= 0 else None
