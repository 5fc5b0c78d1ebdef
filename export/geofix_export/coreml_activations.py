"""What layers take, rounded to int8: ranges from calibration photos, written into the graph.

coremltools' own pass runs the model on a Mac to learn ranges; here the trained encoder tells them,
on any system. Each convolution and linear layer gets a quantize and a dequantize operation before
it; with int8 weights, which come later, that is what Core ML's runtime looks for.
"""

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_LAYERS = (nn.Conv2d, nn.Linear)
_LEVELS = 127
_BATCH = 16


class _Round:
    """A hook that rounds what a layer takes to multiples of a scale."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        how = (self.scale, 0, -_LEVELS - 1, _LEVELS, torch.int8)
        operators = torch.ops.quantized_decomposed
        rounded = operators.quantize_per_tensor(inputs[0], *how)
        return (operators.dequantize_per_tensor(rounded, *how), *inputs[1:])


def round_activations(encoder: nn.Module, calibration: npt.NDArray[np.uint8]) -> nn.Module:
    """Return a copy of an encoder whose layers round what they take to 8 bits.

    Args:
        encoder: takes (B, H, W, 3).
        calibration: (N, H, W, 3) uint8; a scale is the largest magnitude that a layer takes of
            them, over 127.
    """
    import torch.ao.quantization.fx._decomposed  # noqa: F401  registers the operators

    rounded = copy.deepcopy(encoder).eval()
    for name, largest in _largest_inputs(encoder, calibration).items():
        layer = rounded.get_submodule(name)
        layer.register_forward_pre_hook(_Round(max(largest, 1e-6) / _LEVELS))
    return rounded


@torch.no_grad()
def _largest_inputs(encoder: nn.Module, calibration: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the largest magnitude that each layer takes."""
    largest: dict[str, float] = {}
    watched = copy.deepcopy(encoder).eval()
    for name, layer in watched.named_modules():
        if isinstance(layer, _LAYERS):

            def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                largest[name] = max(largest.get(name, 0.0), float(inputs[0].abs().max()))

            layer.register_forward_pre_hook(note)
    for at in range(0, len(calibration), _BATCH):
        watched(torch.from_numpy(calibration[at : at + _BATCH]))
    return largest
