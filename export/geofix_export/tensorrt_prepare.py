"""Small changes of an ONNX file that TensorRT needs and that change no number."""

import onnx
from onnx import GraphProto, TensorProto


def prepare_for_tensorrt(model: bytes) -> bytes:
    """Return a model that takes the size of the batch from the cast images, not from uint8.

    TensorRT lets nothing read a uint8 input but a Cast. PyTorch's exporter reads the batch from the
    input itself, with Shape, and a Cast keeps the shape.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    raw = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    casts = [n for n in graph.node if n.op_type == "Cast" and n.input[0] in raw]
    floats = {cast.input[0]: cast.output[0] for cast in casts}
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in floats:
            node.input[0] = floats[node.input[0]]
    _move_to_front(graph, {cast.output[0] for cast in casts})
    return bytes(proto.SerializeToString())


def _move_to_front(graph: GraphProto, tensors: set[str]) -> None:
    """Put the nodes that give these tensors first, so that nodes stay in order."""
    nodes = sorted(graph.node, key=lambda node: node.output[0] not in tensors)
    del graph.node[:]
    graph.node.extend(nodes)
