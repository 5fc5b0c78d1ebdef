"""What an ONNX encoder must keep to, so that one file builds on TensorRT 10.3 and later, and on 11.

The file is strongly typed: each tensor has the type that the graph gives it, and int8 is where the
graph quantizes and dequantizes (Q/DQ). TensorRT itself has the last word; these rules are what can
be said without it, on any machine. Each names its source.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from geofix_export import tensorrt_quantization as quantization
from geofix_export.onnx_graph import OnnxGraph, attribute, node_name, read_graph
from geofix_export.tensorrt_operators import (
    CONSTANT_INPUT,
    MAIN_INPUT,
    OPERATORS,
    SOURCE,
    TYPED_BY_OUTPUT,
)
from geofix_export.tensorrt_quantization import Finding

# 13 brought scales for each channel. 19 is what the parser of 9.2 reads, so that of 10.3 does, too.
OLDEST_OPSET, NEWEST_OPSET = 13, 19

_EXPLICIT = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
    "quantized-types-explicit-quantization.html"
)
_QUANTIZED = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
    "work-quantized-types.html"
)
_IMPORTER = "https://github.com/onnx/onnx-tensorrt/blob/main/onnxOpImporters.cpp"
_MIGRATION = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x.html"
)
_SHAPES = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
    "work-dynamic-shapes.html"
)
_INT32_BIAS = "https://github.com/microsoft/onnxruntime/issues/14229"

_DYNAMIC = frozenset({"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"})
_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_POOLS = ("AveragePool", "LpPool", "MaxPool")
_RESIZES = frozenset(
    {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}
)

Check = Callable[[OnnxGraph], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its name, what it asks for, where TensorRT's side says so, and how it is checked."""

    name: str
    sentence: str
    source: str  # a URL
    check: Check


@dataclass(frozen=True, slots=True)
class Violation:
    """A place in a model that breaks a rule."""

    rule: Rule
    node: str  # the node, tensor or field that is at fault
    detail: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.node}: {self.detail}. {self.rule.sentence}"


def check_for_tensorrt(model: bytes) -> list[Violation]:
    """Return where an ONNX file breaks a rule, in the order of `RULES`; an empty list is well.

    Raises:
        ValueError: the bytes are no ONNX model.
    """
    graph = read_graph(model)
    return [Violation(rule, node, detail) for rule in RULES for node, detail in rule.check(graph)]


def _opset(graph: OnnxGraph) -> Iterator[Finding]:
    if not OLDEST_OPSET <= graph.opset <= NEWEST_OPSET:
        yield "opset_import", f"the opset is {graph.opset}"


def _self_contained(graph: OnnxGraph) -> Iterator[Finding]:
    for name, tensor in graph.constants.items():
        if tensor.data_location == TensorProto.EXTERNAL:
            yield name, "its values are in another file"


def _network_input(graph: OnnxGraph) -> Iterator[Finding]:
    if len(graph.inputs) != 1:
        names = ", ".join(info.name for info in graph.inputs) or "none"
        yield "inputs", f"the network takes {names}"
    for info in graph.inputs:
        if graph.type_of(info.name) not in ("uint8", "float32"):
            yield info.name, f"the input is {graph.type_of(info.name)}"
    for info in graph.outputs:
        if graph.type_of(info.name) not in ("float32", "float16"):
            yield info.name, f"the output is {graph.type_of(info.name)}"


def _dynamic_axes(graph: OnnxGraph) -> Iterator[Finding]:
    for info in graph.inputs:
        for axis, size in enumerate(info.type.tensor_type.shape.dim):
            if axis > 0 and not size.dim_value:
                yield info.name, f"axis {axis} has no fixed size ({size.dim_param or 'unknown'})"


def _operators(graph: OnnxGraph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield node_name(node), f"it belongs to {node.domain!r}"
        elif node.op_type not in OPERATORS and not _is_dynamic(node):
            yield node_name(node), f"{node.op_type} is not in the list"


def _is_dynamic(node: NodeProto) -> bool:
    return node.op_type in _DYNAMIC or node.op_type.startswith("QLinear")


def _dynamic_quantization(graph: OnnxGraph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.domain in ("", "ai.onnx") and _is_dynamic(node):
            yield node_name(node), f"{node.op_type} is not explicit quantization"


def _types(graph: OnnxGraph) -> Iterator[Finding]:
    others = ("", "float64", "uint8", "int8")  # unknown, or with rules of their own
    for node in graph.nodes:
        tensors = node.output if node.op_type in TYPED_BY_OUTPUT else node.input
        main = MAIN_INPUT.get(node.op_type, 0)
        found = graph.type_of(tensors[main]) if len(tensors) > main else ""
        if found not in others and found not in OPERATORS.get(node.op_type, {found}):
            wanted = ", ".join(sorted(OPERATORS[node.op_type]))
            yield node_name(node), f"{node.op_type} of {found}, want {wanted}"


def _float64(graph: OnnxGraph) -> Iterator[Finding]:
    for name in graph.types:
        if graph.type_of(name) == "float64":
            maker = graph.makers.get(name)
            yield node_name(maker) if maker else name, f"{name} is float64"


def _uint8(graph: OnnxGraph) -> Iterator[Finding]:
    inputs = {info.name for info in graph.inputs}
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue  # see the rules of quantization
        for tensor in filter(None, node.input):
            if graph.type_of(tensor) != "uint8":
                continue
            if tensor not in inputs or node.op_type != "Cast":
                yield node_name(node), f"it takes {tensor}, which is uint8"


def _one_float_type(graph: OnnxGraph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type in ("Cast", "CastLike"):
            continue
        tensors = node.input[:1] if node.op_type == "Resize" else node.input  # scales are float32
        found = {graph.type_of(tensor) for tensor in tensors} & _FLOATS - {"float64"}
        if len(found) > 1:
            yield node_name(node), f"it takes {' and '.join(sorted(found))}"


def _constant_inputs(graph: OnnxGraph) -> Iterator[Finding]:
    for node in graph.of_type(*CONSTANT_INPUT):
        at = CONSTANT_INPUT[node.op_type]
        if len(node.input) > at and node.input[at] and node.input[at] not in graph.constants:
            yield node_name(node), f"its input {node.input[at]} is computed"


def _limits(graph: OnnxGraph) -> Iterator[Finding]:
    for node in graph.nodes:
        wrong = _beyond_limits(node)
        if wrong:
            yield node_name(node), wrong


def _beyond_limits(node: NodeProto) -> str:
    """Say in which way the operator of a node is used that TensorRT does not have."""
    more = len([name for name in node.output if name]) > 1
    if node.op_type in ("LayerNormalization", "MaxPool") and more:
        return "it has a second output"
    if node.op_type in _POOLS:
        axes = len(attribute(node, "kernel_shape", []))
        dilations = attribute(node, "dilations", [])
        if axes not in (2, 3) or any(step != 1 for step in dilations):
            return f"it pools over {axes} axes with dilations {list(dilations)}"
    if node.op_type == "ScatterND" and attribute(node, "reduction", "none") != "none":
        return f"its reduction is {attribute(node, 'reduction', 'none')!r}"
    return _resize_limits(node) if node.op_type == "Resize" else ""


def _resize_limits(node: NodeProto) -> str:
    mode = attribute(node, "mode", "nearest")
    where = attribute(node, "coordinate_transformation_mode", "half_pixel")
    policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
    if attribute(node, "antialias", 0):
        return "it is antialiased"
    if mode not in ("nearest", "linear") or where not in _RESIZES or policy != "stretch":
        return f"its modes are {mode}, {where}, {policy}"
    return ""


RULES = (
    Rule(
        "opset",
        f"Export to ONNX opset {OLDEST_OPSET} to {NEWEST_OPSET}, which all these versions read.",
        SOURCE,
        _opset,
    ),
    Rule("self-contained", "Keep all weights inside the file.", SOURCE, _self_contained),
    Rule(
        "network-input",
        "An encoder takes one tensor, uint8 or float32, and gives float32 or float16.",
        SOURCE,
        _network_input,
    ),
    Rule("dynamic-axes", "Only the batch, axis 0, may vary.", _SHAPES, _dynamic_axes),
    Rule(
        "operator",
        "TensorRT runs the operators of its published list; write others in terms of these.",
        SOURCE,
        _operators,
    ),
    Rule(
        "dynamic-quantization",
        "Quantize statically, with QuantizeLinear and DequantizeLinear.",
        SOURCE,
        _dynamic_quantization,
    ),
    Rule("type", "TensorRT's list says which types an operator takes.", SOURCE, _types),
    Rule("float64", "TensorRT has no float64 arithmetic: use float32.", SOURCE, _float64),
    Rule("uint8", "uint8 is for network inputs only: cast it at once.", SOURCE, _uint8),
    Rule(
        "float-types",
        "Networks are strongly typed: nothing is converted without a Cast.",
        _MIGRATION,
        _one_float_type,
    ),
    Rule("constant-input", "This input has to be a constant.", SOURCE, _constant_inputs),
    Rule("limits", "TensorRT has this operator within limits.", SOURCE, _limits),
    Rule(
        "zero-point",
        "Quantization is symmetric: zero points are given, int8, and zero.",
        _IMPORTER,
        quantization.zero_points,
    ),
    Rule("scale", "Scales are positive, finite constants.", _IMPORTER, quantization.scales),
    Rule(
        "int8-data",
        "Only int8 is dequantized: leave biases in float, which ONNX Runtime's quantizer does with "
        "QuantizeBias=False.",
        _INT32_BIAS,
        quantization.int8_data,
    ),
    Rule(
        "pairs",
        "QuantizeLinear and DequantizeLinear follow one another, with nothing between.",
        _EXPLICIT,
        quantization.pairs,
    ),
    Rule(
        "activation-scale",
        "Activations have one scale each.",
        _QUANTIZED,
        quantization.activation_scales,
    ),
    Rule(
        "weight-axis",
        "Weights have one scale, or one for each output channel.",
        _IMPORTER,
        quantization.weight_axes,
    ),
    Rule(
        "fused",
        "Int8 kernels take both, data and weights, from DequantizeLinear; otherwise the layer runs "
        "in float, and quantizing it only costs.",
        _EXPLICIT,
        quantization.fusion,
    ),
)
