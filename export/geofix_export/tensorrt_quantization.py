"""The rules of `tensorrt_rules` that are about quantization (Q/DQ): one function for each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from geofix_export.onnx_graph import OnnxGraph, attribute, node_name

Finding = tuple[str, str]  # the node, what is wrong there

_WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # int8 kernels; data and weights first


def zero_points(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes whose zero point is not a given int8 zero."""
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        name = node.input[2] if len(node.input) > 2 else ""
        value = graph.array(name)
        if not name:  # then ONNX quantizes to uint8, and dequantizes what the data is
            if node.op_type == "QuantizeLinear" or graph.type_of(node.input[0]) == "uint8":
                yield node_name(node), "it has no zero point, and is uint8"
        elif value is None:
            yield node_name(node), f"its zero point {name} is computed"
        elif graph.type_of(name) == "uint8" or np.any(value != 0):
            yield node_name(node), f"its zero point is {_short(value)} of {graph.type_of(name)}"


def scales(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes whose scale is not a positive, finite constant."""
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        value = graph.array(node.input[1])
        if value is None:
            yield node_name(node), f"its scale {node.input[1]} is computed"
        elif not (value.size and np.all(np.isfinite(value)) and np.all(value > 0)):
            yield node_name(node), f"its scale is {_short(value)}"


def int8_data(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes that dequantize anything but int8."""
    for node in graph.of_type("DequantizeLinear"):
        found = graph.type_of(node.input[0])
        if found not in ("", "int8", "uint8"):  # uint8 is told by its zero point
            yield node_name(node), f"it dequantizes {node.input[0]} of {found}"


def pairs(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes of quantization that stand alone."""
    outputs = {info.name for info in graph.outputs}
    for node in graph.of_type("QuantizeLinear"):
        takers = graph.takers.get(node.output[0], [])
        wrong = [node_name(taker) for taker in takers if taker.op_type != "DequantizeLinear"]
        if wrong or not takers or node.output[0] in outputs:
            yield node_name(node), f"it is taken by {wrong[0] if wrong else 'no DequantizeLinear'}"
    for node in graph.of_type("DequantizeLinear"):
        maker = graph.makers.get(node.input[0])
        made = maker is not None and maker.op_type == "QuantizeLinear"
        if not made and node.input[0] not in graph.constants:
            yield node_name(node), f"its data {node.input[0]} is not quantized in the graph"


def activation_scales(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes that give an activation more than one scale."""
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = graph.array(node.input[1])
        if scale is not None and scale.size > 1 and not _is_weight(graph, node.input[0]):
            yield node_name(node), f"it has {scale.size} scales for {node.input[0]}"


def weight_axes(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes whose scales do not go along a layer's output channels."""
    for node in graph.of_type("DequantizeLinear"):
        scale = graph.array(node.input[1])
        if scale is None or scale.size < 2 or not _is_weight(graph, node.input[0]):
            continue
        for taker in graph.takers.get(node.output[0], []):
            wrong = _wrong_axis(graph, node, taker)
            if wrong:
                yield node_name(node), wrong


def fusion(graph: OnnxGraph) -> Iterator[Finding]:
    """Yield the nodes that keep TensorRT from an int8 kernel."""
    dequantized = {node.output[0] for node in graph.of_type("DequantizeLinear")}
    for node in graph.of_type("DequantizeLinear"):
        for taker in graph.takers.get(node.output[0], []):
            fits = taker.op_type in _WITH_WEIGHTS and node.output[0] in taker.input[:2]
            int8 = graph.type_of(node.input[0]) == "int8"
            if int8 and _is_weight(graph, node.input[0]) and not fits:
                yield node_name(node), f"the weights go to {node_name(taker)}"
    for node in graph.of_type(*_WITH_WEIGHTS):
        quantized = [tensor in dequantized for tensor in node.input[:2]]
        if any(quantized) and not all(quantized):
            yield node_name(node), f"{node.input[quantized.index(False)]} is not quantized"


def _short(value: npt.NDArray[Any]) -> str:
    return np.array2string(value.ravel(), threshold=4, edgeitems=2)


def _is_weight(graph: OnnxGraph, tensor: str) -> bool:
    """Return whether a tensor is a constant, or a constant that a node quantizes."""
    maker = graph.makers.get(tensor)
    if maker is not None and maker.op_type == "QuantizeLinear":
        tensor = maker.input[0]
    return tensor in graph.constants


def _wrong_axis(graph: OnnxGraph, node: NodeProto, taker: NodeProto) -> str:
    """Say in which way the scales of weights do not go along the outputs of who takes them."""
    if taker.op_type not in _WITH_WEIGHTS or list(taker.input).index(node.output[0]) != 1:
        return ""  # see the rule of fusion
    source = node.input[0]
    if source not in graph.constants:
        source = graph.makers[source].input[0]
    sizes, scale = graph.constants[source].dims, graph.constants[node.input[1]].dims
    wanted = {"Conv": 0, "ConvTranspose": 1, "MatMul": len(sizes) - 1}.get(
        taker.op_type, 0 if attribute(taker, "transB", 0) else 1
    )
    axis = attribute(node, "axis", 1) % max(len(sizes), 1)
    if axis == wanted and list(scale) == [sizes[wanted]]:
        return ""
    return (
        f"{list(scale)} scales along axis {axis} of {list(sizes)}; {taker.op_type} wants one for "
        f"each of axis {wanted}"
    )
