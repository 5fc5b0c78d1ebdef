"""Turn Google's MobileNetV2 as ONNX into a folder of transformers, for `model.backbone`.

    python -m benchmarks.mobilenet_v2 MODEL.onnx OUT

The ONNX file has batch norm folded into its 52 convolutions, which stand in the order of the graph:
three of the stem, three of each of 16 blocks, and the last. Each becomes a convolution whose batch
norm does nothing but add the bias.
"""

import argparse
import json
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

_SIZE_PX = 224
_NUM_CONVOLUTIONS = 52
_PROCESSOR = {  # pixels from -1 to 1
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "size": {"height": _SIZE_PX, "width": _SIZE_PX},
}


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder")
    arguments = parser.parse_args()
    convert_mobilenet(arguments.model, arguments.out)


def convert_mobilenet(path: Path, out: Path) -> Path:
    """Write the transformers folder of an ONNX MobileNetV2; return it.

    Args:
        path: takes (B, 3, H, W) from -1 to 1; padded as TensorFlow does.
        out: receives config.json, model.safetensors and preprocessor_config.json.

    Raises:
        ValueError: the file has other convolutions than a MobileNetV2.
    """
    from transformers import MobileNetV2Config, MobileNetV2Model

    weights = _convolutions(onnx.load(path))
    if len(weights) != _NUM_CONVOLUTIONS:
        raise ValueError(f"{path}: {len(weights)} convolutions, not those of a MobileNetV2")
    config = MobileNetV2Config(
        image_size=_SIZE_PX, depth_multiplier=len(weights[0][1]) / 32, tf_padding=True
    )
    model = MobileNetV2Model(config)
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    found = [tuple(weight.shape) for weight, _ in weights]
    if found != [tuple(layer.weight.shape) for layer in layers]:
        raise ValueError(f"{path}: {len(found)} convolutions of other sizes than a MobileNetV2 has")
    for layer, norm, (weight, bias) in zip(layers, norms, weights, strict=True):
        _set(layer, norm, weight, bias)
    model.save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(_PROCESSOR, indent=2) + "\n")
    return out


@torch.no_grad()
def _set(layer: nn.Conv2d, norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    norm.bias.copy_(bias)
    # What is divided by is the root of variance + eps.
    norm.load_state_dict({"running_var": torch.full_like(bias, 1 - norm.eps)}, strict=False)


def _convolutions(model: onnx.ModelProto) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each convolution in the order of the graph."""
    constants = {c.name: torch.tensor(numpy_helper.to_array(c)) for c in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [(constants[node.input[1]], constants[node.input[2]]) for node in convolutions]


if __name__ == "__main__":
    main()
