"""Tiny models of transformers with random weights, one of each family that users bring.

Each is saved as a user has it: a folder with config.json and model.safetensors.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from geofix_train.config import FitConfig, ModelConfig
from tests.geofix_train.tiny_data import tiny_config

# Height and width of photos that each takes; never the square that a model was made for.
SIZES = {
    "dinov2": (56, 84),
    "dinov3_vit": (64, 96),
    "dinov3_convnext": (64, 96),
    "swiftformer": (64, 96),
    "mobilenet_v2": (64, 96),
}
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2}


def _dinov2() -> Any:
    return transformers.Dinov2Model(
        transformers.Dinov2Config(image_size=56, patch_size=14, drop_path_rate=0.3, **VIT)
    )


def _dinov3_vit() -> Any:
    config = {**VIT, "intermediate_size": 32, "num_register_tokens": 4}
    return transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(image_size=64, patch_size=16, **config)
    )


def _dinov3_convnext() -> Any:
    return transformers.DINOv3ConvNextModel(
        transformers.DINOv3ConvNextConfig(hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1])
    )


def _swiftformer() -> Any:
    return transformers.SwiftFormerModel(
        transformers.SwiftFormerConfig(depths=[2, 1, 1, 1], embed_dims=[8, 8, 12, 16], mlp_ratio=2)
    )


def _mobilenet_v2() -> Any:
    return transformers.MobileNetV2Model(
        transformers.MobileNetV2Config(depth_multiplier=0.1, finegrained_output=False)
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "dinov2": _dinov2,
    "dinov3_vit": _dinov3_vit,
    "dinov3_convnext": _dinov3_convnext,
    "swiftformer": _swiftformer,
    "mobilenet_v2": _mobilenet_v2,
}


def save_tiny(family: str, folder: Path) -> nn.Module:
    """Write a tiny model to a folder; return it.

    Batch statistics and scales are random, too: as they are made, most layers change nothing.
    """
    torch.manual_seed(0)
    model: nn.Module = FAMILIES[family]()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point() and name.endswith(("lambda1", "running_var", "gamma")):
                value.uniform_(0.5, 1.5)
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)  # type: ignore[operator]
    return model.eval()


def tiny_backbone_config(
    family: str, data: Path, backbone: Path, *, frozen_layers: int = 0
) -> FitConfig:
    """Return settings of four steps with a saved model on the tiny data set."""
    config = tiny_config(data / "photos.parquet", data / "aerial", epochs=1)
    height, width = SIZES[family]
    model = ModelConfig(
        backbone=str(backbone), frozen_layers=frozen_layers, num_clusters=4, cluster_dim=4, dim=16
    )
    sizes = replace(config.data, photo_height=height, photo_width=width, tile_pixels=height)
    return replace(config, data=sizes, model=model)
