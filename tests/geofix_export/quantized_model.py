"""A tiny encoder with int8 in it as TensorRT wants it, and ways to break it.

Images are cast, convolved, averaged and projected; data and weights of both layers are quantized,
the weights for each channel.
"""

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from geofix.input_spec import InputSpec

WIDTH, HEIGHT, CHANNELS, DIM = 16, 12, 4, 8
SPEC = InputSpec(width=WIDTH, height=HEIGHT)


def quantized_model(*, opset: int = 18) -> ModelProto:
    """Return the model; its nodes are called by what they give."""
    rng = np.random.default_rng(0)
    nodes = [
        make("Cast", ["images"], "floats", to=TensorProto.FLOAT),
        make("Transpose", ["floats"], "planes", perm=[0, 3, 1, 2]),
        *pair("planes", "scale", "zero"),
        make("DequantizeLinear", ["kernel", "kernel_scales", "kernel_zeros"], "kernel_dq", axis=0),
        make("Conv", ["planes_dq", "kernel_dq", "bias"], "maps", kernel_shape=[3, 3]),
        make("Relu", ["maps"], "positive"),
        make("GlobalAveragePool", ["positive"], "means"),
        make("Flatten", ["means"], "flat"),
        *pair("flat", "scale", "zero"),
        make("DequantizeLinear", ["matrix", "matrix_scales", "matrix_zeros"], "matrix_dq", axis=1),
        make("Gemm", ["flat_dq", "matrix_dq"], "embeddings"),
    ]
    constants: dict[str, Any] = {
        "scale": np.float32(2.0),
        "zero": np.int8(0),
        "kernel": rng.integers(-127, 128, (CHANNELS, 3, 3, 3), dtype=np.int8),
        "kernel_scales": np.full(CHANNELS, 0.01, np.float32),
        "kernel_zeros": np.zeros(CHANNELS, np.int8),
        "bias": np.ones(CHANNELS, np.float32),
        "matrix": rng.integers(-127, 128, (CHANNELS, DIM), dtype=np.int8),
        "matrix_scales": np.full(DIM, 0.01, np.float32),
        "matrix_zeros": np.zeros(DIM, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def make(op_type: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """Return a node that is called by what it gives."""
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)


def pair(tensor: str, scale: str, zero: str) -> list[NodeProto]:
    """Return the nodes that quantize a tensor and dequantize it again, as `TENSOR_dq`."""
    return [
        make("QuantizeLinear", [tensor, scale, zero], f"{tensor}_q"),
        make("DequantizeLinear", [f"{tensor}_q", scale, zero], f"{tensor}_dq"),
    ]


def node(model: ModelProto, name: str) -> NodeProto:
    """Return a node by its name."""
    found: list[NodeProto] = [n for n in model.graph.node if n.name == name]
    (only,) = found
    return only


def set_constant(model: ModelProto, name: str, value: Any) -> None:
    """Give a constant another value, or add one."""
    kept = [t for t in model.graph.initializer if t.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(value), name)])


def insert_after(model: ModelProto, name: str, *added: NodeProto) -> None:
    """Put nodes behind another, in order; who takes what they take is not changed."""
    nodes = list(model.graph.node)
    at = next(i for i, n in enumerate(nodes) if n.name == name) + 1
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], *added, *nodes[at:]])


def replace_input(model: ModelProto, name: str, old: str, new: str) -> None:
    """Let a node take another tensor."""
    inputs = [new if tensor == old else tensor for tensor in node(model, name).input]
    del node(model, name).input[:]
    node(model, name).input.extend(inputs)


def set_attribute(model: ModelProto, name: str, key: str, value: Any) -> None:
    """Set an attribute of a node."""
    found = node(model, name)
    kept = [a for a in found.attribute if a.name != key]
    del found.attribute[:]
    found.attribute.extend([*kept, helper.make_attribute(key, value)])


def model_bytes(model: onnx.ModelProto) -> bytes:
    """Return the file of a model."""
    return bytes(model.SerializeToString())
