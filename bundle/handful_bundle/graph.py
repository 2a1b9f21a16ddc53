"""Decide from an ONNX file's bytes alone whether it may be run at all.

A graph from a registry is untrusted. It may hold standard tensor operators only: nothing that
reads files, draws random numbers, loops, or calls code from elsewhere.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto

from handful_bundle.errors import BundleCorrupt
from handful_bundle.extents import check_extents, check_tensors

MAX_OPSET = 20
MAX_IR = 10
MAX_NODES = 10_000  # a large transformer has 3,000
BATCH = "batch"
_ORT_FORMAT = b"ORTM"  # at byte 4: onnxruntime would read its own format instead of ONNX


class Port(NamedTuple):
    """One input or output: element type and shape after the batch axis."""

    element: int  # onnx.TensorProto data type
    shape: tuple[int | None, ...]  # None: any fixed size


UINT8 = int(TensorProto.UINT8)
FLOAT = int(TensorProto.FLOAT)

ALLOWED_OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat
    Constant ConstantOfShape Conv ConvTranspose CumSum DepthToSpace Div Einsum Elu Equal Erf Exp
    Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool
    Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
    LpNormalization MatMul Max MaxPool Mean Min Mish Mul Neg Not Or PRelu Pad Pow QuantizeLinear
    DequantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu Shape Sigmoid Sign Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu
    Unsqueeze Where
    """.split()  # noqa: SIM905 - a table of words
)

_PLAIN = frozenset(
    AttributeProto.AttributeType.Value(name)
    for name in ("FLOAT", "INT", "STRING", "TENSOR", "FLOATS", "INTS", "STRINGS", "TENSORS")
)
_PLAIN_FIELDS = ("f", "i", "s", "t", "floats", "ints", "strings", "tensors")


def check_graph(
    data: bytes,
    file: str,
    inputs: Mapping[str, Port],
    outputs: Mapping[str, Port],
    *,
    optional_outputs: Mapping[str, Port] | None = None,
) -> None:
    """Check signature, operators and self-containedness of a graph.

    Args:
        data: the file's bytes.
        file: its name, for messages.
        inputs: the inputs that it must have, and no others.
        outputs: the outputs that it must have.
        optional_outputs: further outputs that it may have.

    Raises:
        BundleCorrupt: the graph is not what format 1 allows; the message says where.
    """
    model = _parse(data, file)
    try:
        _check_versions(model, file)
        _check_operators(model, file)
        _check_self_contained(model, file)
        _check_ports(model.graph.input, inputs, {}, f"{file}: input")
        _check_ports(model.graph.output, outputs, optional_outputs or {}, f"{file}: output")
        check_extents(model, file)
    except (TypeError, ValueError, OverflowError) as error:  # names that are no text, and the like
        raise BundleCorrupt(
            f"{file}: not a well-formed ONNX model ({type(error).__name__}); export the bundle "
            "again"
        ) from error


def _parse(data: bytes, file: str) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise BundleCorrupt(f"{file}: not an ONNX model; export the bundle again") from error
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if data[4:8] == _ORT_FORMAT or model.ByteSize() != size:
        # Bytes that another reader takes for something else: what is checked must be what runs.
        raise BundleCorrupt(f"{file}: more than an ONNX model; export the bundle again")
    return model


def _check_versions(model: onnx.ModelProto, file: str) -> None:
    if model.ir_version > MAX_IR:
        raise BundleCorrupt(
            f"{file}: IR version {model.ir_version}; export it with IR {MAX_IR} or older"
        )
    opsets = [(entry.domain or "ai.onnx", entry.version) for entry in model.opset_import]
    if len(opsets) != 1 or opsets[0][0] != "ai.onnx" or not 0 < opsets[0][1] <= MAX_OPSET:
        raise BundleCorrupt(
            f"{file}: operator sets {opsets[:8]}; export it with ai.onnx {MAX_OPSET} alone"
        )
    if model.functions or model.training_info:
        raise BundleCorrupt(f"{file}: local functions are refused; inline them and export again")


def _check_self_contained(model: onnx.ModelProto, file: str) -> None:
    graph = model.graph
    tensors: list[TensorProto] = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else []
            tensors += attribute.tensors
    if any(
        tensor.data_location == TensorProto.EXTERNAL or tensor.external_data for tensor in tensors
    ):
        raise BundleCorrupt(f"{file}: external data is refused; export with external_data=False")
    if graph.sparse_initializer:
        raise BundleCorrupt(f"{file}: sparse initialisers are refused; export dense ones")
    check_tensors(tensors, file)


def _check_operators(model: onnx.ModelProto, file: str) -> None:
    refused = {
        f"{node.domain or 'ai.onnx'}.{node.op_type}"
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx") or node.op_type not in ALLOWED_OPERATORS
    }
    if refused:
        raise BundleCorrupt(
            f"{file}: operators outside the allow-list: {', '.join(sorted(refused))}; "
            "export the model with standard tensor operators only"
        )
    if len(model.graph.node) > MAX_NODES:
        raise BundleCorrupt(
            f"{file}: {len(model.graph.node)} nodes, at most {MAX_NODES}; export a smaller model"
        )
    if not all(_is_plain(a) for node in model.graph.node for a in node.attribute):
        raise BundleCorrupt(
            f"{file}: nested graphs and sparse attributes are refused; export without control flow"
        )


def _is_plain(attribute: AttributeProto) -> bool:
    """Whether it holds numbers, text or tensors, by its type and by its content."""
    holds = {field.name for field, _ in attribute.ListFields()}
    return attribute.type in _PLAIN and holds <= {"name", "type", "doc_string", *_PLAIN_FIELDS}


def _check_ports(
    found: Iterable[onnx.ValueInfoProto],
    required: Mapping[str, Port],
    optional: Mapping[str, Port],
    where: str,
) -> None:
    ports = {value.name: value for value in found}
    odd = (required.keys() - ports.keys()) | (ports.keys() - required.keys() - optional.keys())
    if odd:
        raise BundleCorrupt(
            f"{where}s are {sorted(ports)}, expected {sorted(required)}; export the bundle again"
        )
    for name, port in {**optional, **required}.items():
        if name not in ports:
            continue
        tensor = ports[name].type.tensor_type
        dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        fits = (
            tensor.elem_type == port.element
            and len(dims) == len(port.shape) + 1
            and dims[0] == BATCH
            and all(
                isinstance(dim, int) and dim > 0 and want in (None, dim)
                for dim, want in zip(dims[1:], port.shape, strict=True)
            )
        )
        if not fits:
            known = tensor.elem_type in TensorProto.DataType.values()
            element = TensorProto.DataType.Name(tensor.elem_type) if known else "unknown"
            wanted = [BATCH, *("?" if size is None else size for size in port.shape)]
            raise BundleCorrupt(
                f"{where} `{name}` is {element} {dims}, expected "
                f"{TensorProto.DataType.Name(port.element)} {wanted}; export the bundle again"
            )
