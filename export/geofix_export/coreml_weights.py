"""Weights in fewer bits: int8 with a scale for each channel, or a table for each layer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_export.coreml_tools import import_coremltools

_MIN_SIZE = 2048  # weights with fewer numbers stay in 16 bits: there is nothing to save
_ROUNDS = 1000  # of k-means, at most; it stops where nothing moves


def compress_weights(model: Any, precision: str) -> Any:
    """Return a converted model with the weights that its precision asks for."""
    optimize = import_coremltools().optimize.coreml
    if precision in ("int8", "int8_activations"):
        how = optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype="int8",
            granularity="per_channel",
            weight_threshold=_MIN_SIZE,
        )
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(how))
    if precision.startswith("palettized"):
        num_bits = int(precision.removeprefix("palettized"))
        how = optimize.OpPalettizerConfig(
            mode="custom",
            lut_function=lambda weights: _palette(weights, num_bits),
            weight_threshold=_MIN_SIZE,
        )
        # The first layer stays in 16 bits: it has few weights, and what it loses is lost to all.
        # A trained encoder of the town kept cosine 0.992 with its original so, and 0.977 otherwise.
        first = {_first_weights(model): None}
        return optimize.palettize_weights(
            model, optimize.OptimizationConfig(how, op_name_configs=first)
        )
    return model


def _first_weights(model: Any) -> str:
    """Return the name of the weights of a model's first convolution or linear layer."""
    (function,) = model._mil_program.functions.values()
    layer = next(op for op in function.operations if op.op_type in ("conv", "linear"))
    return str(layer.weight.op.name)


def _palette(
    weights: npt.NDArray[Any], num_bits: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Return a table of 2 ** num_bits values and the position of each weight in it."""
    values = np.sort(weights.astype(np.float64), axis=None)
    table = nearest_values(values, 1 << num_bits)
    edges = (table[1:] + table[:-1]) / 2
    indices = np.searchsorted(edges, weights.astype(np.float64).ravel())
    return table.astype(weights.dtype), indices.astype(np.uint8)


def nearest_values(values: npt.NDArray[np.float64], num: int) -> npt.NDArray[np.float64]:
    """Return `num` ascending numbers that sorted values are near to: k-means in one dimension.

    It starts from the middles of equally many values each, and draws nothing at random.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    starts = ((np.arange(num) + 0.5) * len(values) / num).astype(np.intp)
    centres = values[starts]
    for _ in range(_ROUNDS):
        edges = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(values)]])
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.sort(centres)
