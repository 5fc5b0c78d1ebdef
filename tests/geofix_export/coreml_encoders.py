"""Encoders with random weights as Core ML packages; each is converted once in a test run."""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import nn

from geofix.input_spec import InputSpec
from geofix_export.coreml import convert_to_coreml
from geofix_train.architecture import Architecture
from geofix_train.backbones import PretrainedBackbone
from geofix_train.config import ModelConfig
from geofix_train.model import Encoder
from tests.geofix_train.tiny_backbones import FAMILIES, SIZES

TOWN_SIZE = (96, 128)
VIT_SIZE = (56, 84)
MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

Images = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]


@cache
def make_encoder(name: str) -> Encoder:
    """Return the encoder of the town ("town"), one of a tiny family, or a ViT of 12 MB ("vit")."""
    torch.manual_seed(0)
    if name == "town":
        return Encoder(ModelConfig()).eval()
    if name == "vit":
        return _with_backbone(
            transformers.Dinov2Config(
                image_size=56, hidden_size=192, num_hidden_layers=7, num_attention_heads=3
            ),
            VIT_SIZE,
            ModelConfig(),
        )
    small = ModelConfig(num_clusters=4, cluster_dim=4, dim=16)
    return _with_backbone(FAMILIES[name]().config, SIZES[name], small)


def _with_backbone(
    config: transformers.PretrainedConfig, size: tuple[int, int], model: ModelConfig
) -> Encoder:
    architecture = Architecture(config.to_dict(), MEAN, SCALE)
    backbone = PretrainedBackbone(architecture, height=size[0], width=size[1])
    encoder = Encoder(model, backbone)
    with torch.no_grad():  # as they are made, most layers change nothing
        for part, value in [*encoder.named_parameters(), *encoder.named_buffers()]:
            if part.endswith(("lambda1", "running_var", "gamma", "layer_scale", "norm.weight")):
                value.uniform_(0.5, 1.5)
    return encoder.eval()


def spec_of(name: str) -> InputSpec:
    """Return the input spec of an encoder."""
    height, width = {"town": TOWN_SIZE, "vit": VIT_SIZE, **SIZES}[name]
    return InputSpec(width=width, height=height)


def images_of(name: str, num: int = 2, *, seed: int = 5) -> Images:
    """Return noise of an encoder's size."""
    spec = spec_of(name)
    size = (num, spec.height, spec.width, 3)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@cache
def package_of(name: str, precision: str) -> bytes:
    """Return an encoder as a package."""
    calibration = images_of(name, 8, seed=1) if precision == "int8_activations" else None
    return convert_to_coreml(
        make_encoder(name), spec_of(name), precision=precision, calibration=calibration
    )


@torch.no_grad()
def embed_with(encoder: nn.Module, images: Images) -> Embeddings:
    """Return what an encoder gives in float32, one image at a time."""
    rows = [encoder(torch.from_numpy(image[None])) for image in images]
    return np.asarray(torch.cat(rows).numpy())


def cosines(a: Embeddings, b: Embeddings) -> Embeddings:
    """Return the cosine of each row of one with the same row of the other."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths)
