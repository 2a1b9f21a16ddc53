"""A linear classifier as head.onnx: standardisation and temperature folded into one Gemm.

    probabilities = softmax((coefficients @ (embedding - mean) / scale + intercept) / temperature)

Standard operators only, so the graph runs on a GPU and anywhere else. Knows no sklearn.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

OPSET, IR = 20, 10


def head_graph(
    coefficients: NDArray[np.float64],
    intercept: NDArray[np.float64],
    *,
    mean: NDArray[np.float64],
    scale: float,
    temperature: float,
) -> bytes:
    """Return head.onnx: `embedding` float32 [batch, E] to `probabilities` float32 [batch, K].

    Args:
        coefficients: of the standardised embedding, [K, E]; K >= 2.
        intercept: [K].
        mean: what is subtracted from an embedding, [E].
        scale: what it is then divided by; not zero.
        temperature: what the logits are divided by.
    """
    # Folded in float64: a difference of large numbers must not be rounded twice.
    weight = (coefficients / scale / temperature).T
    bias = intercept / temperature - mean @ weight
    classes, width = coefficients.shape
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["embedding", "weight", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
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
