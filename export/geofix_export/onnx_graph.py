"""An ONNX graph by tensor names: types, constants, who makes a tensor and who takes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper


@dataclass(frozen=True)
class OnnxGraph:
    """The graph of a model, without what control flow has inside. Types are ONNX's numbers."""

    opset: int  # 0 where the model names none
    nodes: tuple[NodeProto, ...]
    inputs: tuple[ValueInfoProto, ...]  # without constants
    outputs: tuple[ValueInfoProto, ...]
    constants: dict[str, TensorProto]  # initializers, and what `Constant` nodes give
    types: dict[str, int]
    makers: dict[str, NodeProto]
    takers: dict[str, list[NodeProto]]

    def type_of(self, tensor: str) -> str:
        """Return a tensor's element type as NumPy would say it, "" where it is not known."""
        number = self.types.get(tensor, TensorProto.UNDEFINED)
        return "" if number == TensorProto.UNDEFINED else type_name(number)

    def array(self, tensor: str) -> npt.NDArray[Any] | None:
        """Return the value of a constant, None where it is none, or lies in another file."""
        found = self.constants.get(tensor)
        if found is None or found.data_location == TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(found))

    def of_type(self, *op_types: str) -> Iterator[NodeProto]:
        """Yield the nodes with these operators."""
        return (node for node in self.nodes if node.op_type in op_types)


def read_graph(model: bytes) -> OnnxGraph:
    """Read an ONNX file, and infer the types of its tensors.

    Raises:
        ValueError: the bytes are no ONNX model.
    """
    try:
        proto = onnx.load_model_from_string(model)
        if not any(t.data_location == TensorProto.EXTERNAL for t in proto.graph.initializer):
            onnx.checker.check_model(proto)  # would look for the other file
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except (DecodeError, onnx.checker.ValidationError, RuntimeError) as e:
        raise ValueError(f"not a readable ONNX model: {e}") from e
    constants = _constants(graph)
    infos = [*graph.input, *graph.value_info, *graph.output]
    takers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for tensor in node.input:
            takers.setdefault(tensor, []).append(node)
    return OnnxGraph(
        opset=max([o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")] or [0]),
        nodes=tuple(graph.node),
        inputs=tuple(info for info in graph.input if info.name not in constants),
        outputs=tuple(graph.output),
        constants=constants,
        types={info.name: info.type.tensor_type.elem_type for info in infos}
        | {name: tensor.data_type for name, tensor in constants.items()},
        makers={tensor: node for node in graph.node for tensor in node.output},
        takers=takers,
    )


def node_name(node: NodeProto) -> str:
    """Return what a user finds a node by: operator, name, and what it gives."""
    name = f" {node.name!r}" if node.name else ""
    return f"{node.op_type}{name} -> {', '.join(filter(None, node.output))}"


def type_name(number: int) -> str:
    """Return the name of an ONNX element type: "float32", "int8", "string"."""
    name = str(TensorProto.DataType.Name(number)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node; texts as str."""
    for found in node.attribute:
        if found.name == name:
            value = helper.get_attribute_value(found)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = _constant_value(node)
            if value is not None:
                found[node.output[0]] = value
    return found


def _constant_value(node: NodeProto) -> TensorProto | None:
    """Return what a `Constant` node gives, None for texts and sparse tensors."""
    for found in node.attribute:
        value = helper.get_attribute_value(found)
        if found.name == "value":
            return value if isinstance(value, TensorProto) else None
        if found.name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.asarray(value, np.float32))
        if found.name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.asarray(value, np.int64))
    return None
