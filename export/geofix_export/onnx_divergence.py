"""Where an ONNX model first computes something else than the one that it was made from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from geofix_index.onnx_runtime import import_onnxruntime

LARGE_ERROR = 0.2  # of what a layer gives; rounding to int8 stays below a tenth
GROWTH = 2.0  # an error that a layer only passes on does not grow like this

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LayerError:
    """How far what a layer gives is off."""

    node: str
    op: str
    error: float  # length of the difference over that of what is right


def first_divergence(reference: bytes, candidate: bytes, images: Images) -> LayerError | None:
    """Return the first layer that diverges; None where no layer can be compared.

    That is the first whose error is large and at least twice that of what it is given; where there
    is none, the layer with the largest error.

    Args:
        reference: ONNX.
        candidate: the same graph in another precision: tensors have kept their names.
        images: (N, H, W, 3) for both.
    """
    errors = layer_errors(reference, candidate, images)
    graph = onnx.load_from_string(reference).graph
    given: dict[str, float] = {}
    for node in graph.node:
        own = errors.get(node.output[0])
        before = max((given.get(name, 0.0) for name in node.input), default=0.0)
        given[node.output[0]] = before if own is None else own.error
        if own is not None and own.error >= LARGE_ERROR and own.error >= GROWTH * before:
            return own
    return max(errors.values(), key=lambda layer: layer.error, default=None)


def layer_errors(reference: bytes, candidate: bytes, images: Images) -> dict[str, LayerError]:
    """Return the error of each tensor that both models have, by its name, in graph order."""
    graph = onnx.load_from_string(reference).graph
    makers = {node.output[0]: node for node in graph.node if node.output}
    there = {name for node in onnx.load_from_string(candidate).graph.node for name in node.output}
    common = [name for name in makers if name in there]
    wanted, got = (_values(model, common, images) for model in (reference, candidate))
    return {
        name: LayerError(makers[name].name, makers[name].op_type, _error(got[name], wanted[name]))
        for name in common
        if name in wanted and name in got and wanted[name].shape == got[name].shape
    }


def _values(model: bytes, names: list[str], images: Images) -> dict[str, npt.NDArray[Any]]:
    """Return what the named tensors hold, those of floats."""
    ort = import_onnxruntime()

    loaded = onnx.load_from_string(model)
    final = {output.name for output in loaded.graph.output}
    inferred = onnx.shape_inference.infer_shapes(loaded)
    floats = set(_float_names(inferred)) | final
    wanted = [name for name in names if name in floats]
    loaded.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in wanted if name not in final
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Fused layers would hide what is between them.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        loaded.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(wanted, {session.get_inputs()[0].name: images})
    return dict(zip(wanted, values, strict=True))


def _float_names(model: onnx.ModelProto) -> Iterator[str]:
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for value in model.graph.value_info:
        if value.type.tensor_type.elem_type in kinds:
            yield value.name


def _error(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    difference = np.linalg.norm(got.astype(np.float64) - wanted.astype(np.float64))
    return float(difference / max(float(np.linalg.norm(wanted.astype(np.float64))), 1e-12))
