"""Encoders that somebody broke, and the layer where."""

import onnx
from onnx import helper, numpy_helper


def sabotaged(model: bytes) -> dict[str, tuple[bytes, str]]:
    """Return an ONNX encoder broken in each way, and the name of the broken layer, by the way."""
    return {
        "one layer's weights doubled": with_weights(model, "Conv", "scale", number=2),
        "one layer's channels in the wrong order": with_weights(model, "Conv", "swap", number=2),
        "normalized twice": normalized_twice(model),
    }


def with_weights(
    model: bytes, name_part: str, change: str, *, number: int = 0
) -> tuple[bytes, str]:
    """Return the model with one layer's weights changed, and the layer's name.

    Args:
        model: ONNX.
        name_part: the layer's operator.
        change: "scale", twice as large; or "swap", the other way round along the outputs.
        number: which of these layers.
    """
    loaded = onnx.load_from_string(model)
    layers = [node for node in loaded.graph.node if node.op_type == name_part]
    layer = layers[number]
    (weights,) = (t for t in loaded.graph.initializer if t.name == layer.input[1])
    values = numpy_helper.to_array(weights)
    values = 2 * values if change == "scale" else values[::-1].copy()
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return bytes(loaded.SerializeToString()), layer.name


def normalized_twice(model: bytes) -> tuple[bytes, str]:
    """Return the model with its normalization applied to what is normalized already."""
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    names = [node.op_type for node in graph.node]
    division = graph.node[names.index("Div")]
    subtraction = next(n for n in graph.node if n.output[0] == division.input[0])
    right = division.output[0]
    division.output[0] = "once"
    at = names.index("Div") + 1
    graph.node.insert(at, helper.make_node("Sub", ["once", subtraction.input[1]], ["less"]))
    graph.node.insert(
        at + 1, helper.make_node("Div", ["less", division.input[1]], [right], name="node_div_again")
    )
    return bytes(loaded.SerializeToString()), division.name
