"""Compares a Core ML package with the encoder that it was made of, layer by layer.

Layers are matched by name (`coreml_names`). What the converter folds away, for instance a scale
into the weights before it, has no operation of its own: then the layer before it is compared with
what the encoder has after it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.fx import Node

from geofix.input_spec import InputSpec
from geofix_export.coreml_graph import Layer, TracedEncoder, operator_of, trace_encoder
from geofix_export.mil_evaluator import evaluate
from geofix_export.mil_program import read_program

TOLERANCE = 0.1  # of `first_divergence`; a program of 16 bits stays ten times below
_LEAST_SCALE = 2.0**-14  # the smallest number that 16 bits hold in full; less than that is nothing
_CHANNELS_FIRST = (0, 3, 1, 2)
_CHANNELS_LAST = (0, 2, 3, 1)
# What the converter may fold into the layer before it, if the other argument is constant.
_FOLDED = ("add", "sub", "mul", "div", "batch_norm")
# Operators whose results may cancel to nearly nothing: rounding counts against what they take.
_CANCELLING = ("add", "sub", "logsumexp")


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """How far one layer of a program is from the encoder's."""

    name: str  # of the operation, "backbone_0_0__conv2d"; "output" for the embeddings
    module: str  # of the encoder, "backbone.0.0"
    relative_error: float  # length of the difference over that of what the encoder gives or takes
    cosine: float  # of both, all images together


def compare_layers(
    encoder: nn.Module,
    package: bytes,
    images: npt.NDArray[np.uint8],
    *,
    rounding: str = "float16",
) -> list[LayerDifference]:
    """Compare each layer that both have, in the order in which they run.

    Args:
        encoder: what the package was made of, in float32.
        package: the bytes of `encoder.mlpackage.zip`.
        images: (B, H, W, 3) uint8 RGB.
        rounding: as `evaluate` takes it.

    Raises:
        MilError: as `evaluate`.
    """
    shape = read_program(package).input_type.shape
    traced = trace_encoder(encoder, InputSpec(width=shape[3], height=shape[2]))
    wanted = traced.intermediates(torch.from_numpy(images))
    evaluation = evaluate(package, images, rounding=rounding)
    found = evaluation.intermediates
    differences = []
    for layer, after in _matched(traced, found):
        same = _same_layout(found[layer.name], wanted[after.name].numpy())
        if same is not None:
            scale = _rms(same[1], *_taken(after, traced, wanted))
            differences.append(_difference(layer, *same, scale=scale))
    output = wanted["output"].numpy()
    last = replace(traced.layers[-1], name="output", module="")
    return [*differences, _difference(last, evaluation.embeddings, output, scale=_rms(output))]


def first_divergence(
    differences: Iterable[LayerDifference], *, tolerance: float = TOLERANCE
) -> LayerDifference | None:
    """Return the first layer whose relative error is above the tolerance, or NaN; None if none."""
    return next((d for d in differences if not d.relative_error <= tolerance), None)


def _matched(traced: TracedEncoder, found: Any) -> Iterator[tuple[Layer, Layer]]:
    """Yield each layer that the program has, and the one whose result it should give."""
    by_node = {layer.node: layer for layer in traced.layers}
    for layer in traced.layers:
        if layer.name in found:
            after = layer
            while (following := _folded(after.node, by_node)) and following.name not in found:
                after = following
            yield layer, after


def _folded(node: Node, by_node: dict[Node, Layer]) -> Layer | None:
    """Return the layer that alone uses a node, if it could be folded into it."""
    users = list(node.users)
    if len(users) != 1 or users[0] not in by_node:
        return None
    others = [argument for argument in users[0].all_input_nodes if argument is not node]
    constant = all(other.op == "placeholder" or not _sees_image(other) for other in others)
    is_first = users[0].args and users[0].args[0] is node
    return by_node[users[0]] if operator_of(users[0]) in _FOLDED and constant and is_first else None


def _sees_image(node: Node) -> bool:
    """Return whether a node depends on what is computed, not on weights alone."""
    return any(n.op == "call_function" for n in node.all_input_nodes) or node.op == "call_function"


def _same_layout(
    found: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return both in one layout: the converter moves channels, and what is nearest is meant."""
    layouts = [wanted]
    if wanted.ndim == 4:
        layouts += [wanted.transpose(_CHANNELS_FIRST), wanted.transpose(_CHANNELS_LAST)]
    fitting = [layout for layout in layouts if layout.shape == found.shape]
    if not fitting or not np.issubdtype(wanted.dtype, np.floating):
        return None
    return found, min(fitting, key=lambda layout: _rms(found - layout))


def _taken(
    layer: Layer, traced: TracedEncoder, wanted: Mapping[str, Tensor]
) -> Iterator[npt.NDArray[Any]]:
    """Yield what a layer takes, if its result may be near nothing beside it."""
    if operator_of(layer.node) in _CANCELLING:
        for other in traced.layers:
            if other.node in layer.node.all_input_nodes and other.name in wanted:
                yield wanted[other.name].numpy()


def _rms(*arrays: npt.NDArray[Any]) -> float:
    """Return the largest root mean square of arrays, at least `_LEAST_SCALE`."""
    squares = [np.square(array, dtype=np.float64).mean() for array in arrays]
    return max(_LEAST_SCALE, float(np.sqrt(max(squares))))


def _difference(
    layer: Layer, found: npt.NDArray[Any], wanted: npt.NDArray[Any], *, scale: float
) -> LayerDifference:
    a, b = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    lengths = max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    error = float(np.sqrt(np.square(a - b).mean()))
    return LayerDifference(layer.name, layer.module, error / scale, float(a @ b) / lengths)
