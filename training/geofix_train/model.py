"""Encoders: an image in, a unit-length embedding out.

Images enter as (B, H, W, 3) uint8 RGB, and normalization happens inside, so that what is exported
is exactly what was trained. Nothing here depends on the data, so every encoder exports as it is.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix_train.aggregators import make_aggregator
from geofix_train.architecture import Architecture
from geofix_train.backbones import PretrainedBackbone
from geofix_train.config import FitConfig, ModelConfig

PATCH_PX = 8  # side of the squares that the first layer cuts an image into
_MEAN = (118.0, 118.0, 114.0)  # of street photos and orthophotos, 0 to 255
_SCALE = (62.0, 62.0, 62.0)
_NUM_PATCHES = 20_000  # that the first layer starts from
_BATCH = 32  # images whose descriptors are whitened at once
_MIN_LENGTH = 1e-3  # directions that images differ in less, beside the first, are noise
_MIN_VARIANCE = 0.01  # weaker components are noise and are not blown up further


class _Block(nn.Module):
    """A residual 3 x 3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.conv(x)))


def _down(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    padding = (kernel - stride + 1) // 2
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class ConvBackbone(nn.Sequential):
    """A small convolutional network: 0.2 million weights at width 32."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int):
        super().__init__(
            _down(3, 2 * width, PATCH_PX, PATCH_PX),
            _Block(2 * width),
            _down(2 * width, 4 * width, 3, 2),
            _Block(4 * width),
        )
        self.channels = 4 * width
        self.register_buffer("mean", torch.tensor(_MEAN), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE), persistent=False)

    @torch.no_grad()
    def start_from(self, images: Tensor, generator: torch.Generator) -> None:
        """Let the first layer start from the principal components of patches of images.

        Each is whitened, and there twice with opposite signs, since a ReLU follows. A layer that
        starts at random spends a good part of a short training on finding them.

        Args:
            images: (N, H, W, 3), 0 to 255.
            generator: draws the patches.
        """
        stem = self[0][0]  # type: ignore[index]
        patches = functional.unfold(self._pixels(images), PATCH_PX, stride=PATCH_PX)
        patches = patches.transpose(1, 2).flatten(0, 1)
        chosen = torch.randperm(len(patches), generator=generator)[:_NUM_PATCHES]
        patches = patches[chosen] - patches[chosen].mean(dim=0)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        num = len(stem.weight) // 2
        scale = (variances[-num:] + _MIN_VARIANCE).sqrt()
        filters = (directions[:, -num:] / scale).T.flip(0)
        stem.weight.copy_(torch.cat([filters, -filters]).view_as(stem.weight))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature map (B, C, h, w) of images (B, H, W, 3), and its mean (B, C)."""
        tokens = self._pixels(images)
        for stage in self:
            tokens = stage(tokens)
        return tokens, tokens.mean(dim=(2, 3))

    def _pixels(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.scale).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """A backbone, an aggregator and a linear projection.

    Args:
        config: the settings.
        backbone: a pretrained one; without it, a `ConvBackbone` of the settings.
    """

    def __init__(self, config: ModelConfig, backbone: PretrainedBackbone | None = None):
        super().__init__()
        self.backbone: ConvBackbone | PretrainedBackbone
        self.backbone = ConvBackbone(config.width) if backbone is None else backbone
        self.aggregator = make_aggregator(config, self.backbone.channels)
        self.projection = nn.Linear(self.aggregator.dim, config.dim)

    def start_from(
        self, images: Tensor, generator: torch.Generator, *, pretrained: nn.Module | None = None
    ) -> None:
        """Let training start from images like those to come.

        Of "conv", the first layer does. A pretrained backbone takes its weights, and the projection
        whitens the descriptors that it gives.

        Args:
            images: (N, H, W, 3), 0 to 255.
            generator: draws patches.
            pretrained: a model that `load_pretrained` returned.
        """
        images = images.to(self.projection.weight.device)
        if isinstance(self.backbone, ConvBackbone):
            self.backbone.start_from(images, generator)
        elif pretrained is not None:
            self.backbone.take_weights(pretrained)
            self._whiten(images)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, H, W, 3), 0 to 255; return (B, dim), each row of unit length."""
        descriptor = self.aggregator(*self.backbone(images))
        # float32 from here on: losses and searches tell embeddings apart by less than bfloat16 can.
        return functional.normalize(self.projection(descriptor).float(), dim=1)

    @torch.no_grad()
    def _whiten(self, images: Tensor) -> None:
        """Let the projection start as PCA whitening: the directions images differ in, at one scale.

        At most half as many directions are whitened as there are images; the others would be noise
        blown up, and stay as they are, random and weak.
        """
        self.eval()
        parts = [images[at : at + _BATCH] for at in range(0, len(images), _BATCH)]
        descriptors = torch.cat([self.aggregator(*self.backbone(part)) for part in parts])
        mean = descriptors.mean(dim=0)
        _, lengths, directions = torch.linalg.svd(descriptors - mean, full_matrices=False)
        num_sound = int((lengths > _MIN_LENGTH * lengths[0]).sum())
        num = min(len(self.projection.weight), len(images) // 2, num_sound)
        deviations = lengths[:num] / len(images) ** 0.5
        self.projection.weight[:num] = directions[:num] / deviations[:, None]
        self.projection.bias[:num] = -self.projection.weight[:num] @ mean


def make_encoders(
    config: FitConfig, architecture: Architecture | None = None
) -> tuple[Encoder, Encoder]:
    """Return the ground and the aerial encoder of the settings, with random weights.

    Args:
        config: the settings.
        architecture: of a pretrained backbone, if the settings name one.

    Raises:
        ConfigError: the architecture does not fit the settings.
    """
    if architecture is None:
        return Encoder(config.model), Encoder(config.model)
    data, side = config.data, config.data.tile_pixels
    # Without imagery the aerial encoder sees nothing; the size of tiles need not suit it.
    sizes = [(data.photo_height, data.photo_width)]
    sizes.append((side, side) if data.aerial else sizes[0])
    ground, aerial = (
        PretrainedBackbone(
            architecture, height=height, width=width, frozen_layers=config.model.frozen_layers
        )
        for height, width in sizes
    )
    return Encoder(config.model, ground), Encoder(config.model, aerial)


class Model(nn.Module):
    """Everything that is learned."""

    def __init__(self, ground: Encoder, aerial: Encoder, num_prototypes: int) -> None:
        super().__init__()
        self.ground, self.aerial = ground, aerial
        self.prototypes = nn.Embedding(num_prototypes, ground.projection.out_features, sparse=True)
        nn.init.zeros_(self.prototypes.weight)


def best_device() -> torch.device:
    """Return the GPU that CUDA offers, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Return how messages call a device."""
    return f"GPU {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"


@torch.no_grad()
def embed(
    encoder: Encoder, images: npt.NDArray[np.uint8], *, batch_size: int = 128
) -> npt.NDArray[np.float32]:
    """Embed images (N, H, W, 3); return (N, D)."""
    encoder.eval()
    device = next(encoder.parameters()).device
    starts = range(0, len(images), batch_size)
    batches = (torch.from_numpy(images[at : at + batch_size]).to(device) for at in starts)
    # `forward` is never compiled: these batches have sizes of their own.
    return np.concatenate([encoder.forward(batch).cpu().numpy() for batch in batches])
