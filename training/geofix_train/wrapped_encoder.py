"""Any ONNX encoder, made to take (B, H, W, 3) uint8 RGB and to give (B, D) of unit length.

Preprocessing, pooling of feature maps and PCA whitening become part of the graph.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from geofix.input_spec import InputSpec

IMAGES, EMBEDDINGS = "geofix_images", "geofix_embeddings"  # names inside a wrapped graph
_GEM_POWER = 3.0


class EncoderError(ValueError):
    """An encoder that cannot be used; the message says what was wanted."""


@dataclass(frozen=True)
class Projection:
    """PCA whitening: (x - mean) @ matrix."""

    mean: npt.NDArray[np.float32]  # (K,)
    matrix: npt.NDArray[np.float32]  # (K, D)


def load_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX model; raise EncoderError where it is none."""
    try:
        return onnx.load(path)
    except Exception as e:  # protobuf's errors share no base class with onnx's
        raise EncoderError(f"{path}: not an ONNX model: {e}") from e


def guess_spec(model: onnx.ModelProto, path: Path) -> InputSpec:
    """Return the spec of a model that takes (B, H, W, 3) uint8; nothing else is guessed.

    Raises:
        EncoderError: not an image encoder, or one that needs an input spec.
    """
    inputs = _inputs(model)
    if len(inputs) != 1 or len(model.graph.output) == 0:
        raise EncoderError(
            f"{path}: {len(inputs)} inputs and {len(model.graph.output)} outputs: not an image "
            "encoder, which takes images and nothing else"
        )
    images = inputs[0]
    dims = [d.dim_value for d in images.type.tensor_type.shape.dim]
    is_uint8 = images.type.tensor_type.elem_type == TensorProto.UINT8
    if is_uint8 and len(dims) == 4 and dims[3] == 3 and dims[1] and dims[2]:
        return InputSpec(
            width=dims[2],
            height=dims[1],
            input_name=images.name,
            output_name=model.graph.output[0].name,
        )
    raise EncoderError(
        f"{path}: takes {images.name!r} of shape {dims}, which does not say the size or how "
        "pixels are scaled: give --input-spec FILE, JSON with width, height, layout, dtype, mean, "
        "scale, input_name, output_name"
    )


def wrap_encoder(
    model: onnx.ModelProto, spec: InputSpec, *, projection: Projection | None
) -> tuple[onnx.ModelProto, InputSpec]:
    """Return the model with preprocessing before and pooling, projection, L2 norm after it.

    Args:
        model: takes what `spec` says.
        spec: of the model as it is.
        projection: applied to the pooled features, if given.

    Raises:
        EncoderError: the model is not what `spec` says, or too old.
    """
    rank = _output_rank(model, spec)
    build = _GraphBuilder()
    before = build.preprocess(spec)
    before_nodes, build.nodes = build.nodes, []
    build.postprocess(spec.output_name, rank, projection)
    images = helper.make_tensor_value_info(
        IMAGES, TensorProto.UINT8, ["batch", spec.height, spec.width, 3]
    )
    embeddings = helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["batch", None])
    wrapped = helper.make_graph(
        [*before_nodes, *model.graph.node, *build.nodes],
        "geofix_encoder",
        [images],
        [embeddings],
        [*model.graph.initializer, *build.constants],
    )
    for node in wrapped.node:  # the model's own input becomes the result of preprocessing
        node.input[:] = [before if name == spec.input_name else name for name in node.input]
    proto = helper.make_model(
        wrapped, opset_imports=list(model.opset_import), functions=list(model.functions)
    )
    proto.ir_version = model.ir_version
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as e:
        reason = str(e).strip().splitlines()[0]
        raise EncoderError(f"the model cannot be wrapped with this input spec: {reason}") from e
    outside = InputSpec(  # what is left to the caller
        width=spec.width,
        height=spec.height,
        resize=spec.resize,
        hfov_deg=spec.hfov_deg,
        input_name=IMAGES,
        output_name=EMBEDDINGS,
    )
    return proto, outside


def _output_rank(model: onnx.ModelProto, spec: InputSpec) -> int:
    """Return the rank of the features, after checking that the model is what `spec` says."""
    inputs = [value.name for value in _inputs(model)]
    if inputs != [spec.input_name]:
        raise EncoderError(
            f"input spec names input {spec.input_name!r}; the model has "
            f"{', '.join(map(repr, inputs)) or 'none'}, want this one alone"
        )
    output = next((o for o in model.graph.output if o.name == spec.output_name), None)
    if output is None:
        known = [o.name for o in model.graph.output]
        raise EncoderError(f"input spec names output {spec.output_name!r}; the model has {known}")
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < 13:
        raise EncoderError(f"the model has opset {opset}, want 13 or newer: convert it with onnx")
    return len(output.type.tensor_type.shape.dim)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return what a caller of the model gives: inputs without those that are weights."""
    constants = {constant.name for constant in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


class _GraphBuilder:
    """Collects nodes and constants under names that a user's model does not have."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"geofix_{op.lower()}_{len(self.nodes)}_{len(self.constants)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"geofix_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def preprocess(self, spec: InputSpec) -> str:
        """From (B, H, W, 3) uint8 RGB to what the model takes."""
        at = IMAGES
        if spec.color == "bgr":
            at = self.node("Gather", at, self.constant(np.array([2, 1, 0])), axis=3)
        if spec.dtype == "float32":
            at = self.node("Cast", at, to=TensorProto.FLOAT)
            at = self.node("Sub", at, self.constant(np.asarray(spec.mean, np.float32)))
            at = self.node("Div", at, self.constant(np.asarray(spec.scale, np.float32)))
        if spec.layout == "nchw":
            at = self.node("Transpose", at, perm=[0, 3, 1, 2])
        return self.node("Identity", at)

    def postprocess(self, at: str, rank: int, projection: Projection | None) -> None:
        """From feature vectors or maps (B, K, h, w) to (B, D) of unit length."""
        if rank == 4:  # generalized-mean pooling (arXiv 1711.02512)
            at = self.node("Clip", at, self.constant(np.float32(1e-6)))
            at = self.node("Pow", at, self.constant(np.float32(_GEM_POWER)))
            at = self.node("GlobalAveragePool", at)
            at = self.node("Pow", at, self.constant(np.float32(1 / _GEM_POWER)))
        at = self.node("Flatten", at, axis=1)
        at = self._unit(at)
        if projection is not None:
            at = self.node("Sub", at, self.constant(projection.mean))
            at = self.node("MatMul", at, self.constant(projection.matrix))
            at = self._unit(at)
        self.nodes.append(helper.make_node("Identity", [at], [EMBEDDINGS]))

    def _unit(self, at: str) -> str:
        return self.node("LpNormalization", at, axis=1, p=2)
