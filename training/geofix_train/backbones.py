"""Pretrained backbones: vision models of `transformers` that give patch tokens or feature maps.

A backbone is built for images of one size: position embeddings are brought to that size once, and
nothing is left to interpolate in what is exported.
"""

import copy
import inspect

import torch
from torch import Tensor, nn

from geofix_train.architecture import Architecture
from geofix_train.config import ConfigError

_INTERPOLATE = "interpolate_pos_encoding"  # a method of embeddings, and a flag of some models


class PretrainedBackbone(nn.Module):
    """A model of `transformers`; `take_weights` replaces its random weights.

    Args:
        architecture: what to build.
        height, width: of the images, pixels.
        frozen_layers: how many of the first blocks are not trained, nor what comes before them; -1
            freezes all. Frozen parts stay in evaluation mode and take no gradient.

    Raises:
        ConfigError: transformers does not know the model; it cannot take images of this size, or
            gives neither patch tokens nor a feature map; it has fewer blocks.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, architecture: Architecture, *, height: int, width: int, frozen_layers: int = 0
    ):
        super().__init__()
        self.architecture = architecture
        self.height, self.width = height, width
        self.register_buffer("mean", torch.tensor(architecture.mean), persistent=False)
        self.register_buffer("scale", torch.tensor(architecture.scale), persistent=False)
        self.model = architecture.build()
        _fit_positions(self.model, architecture, height=height, width=width)
        takes_flag = _INTERPOLATE in inspect.signature(self.model.forward).parameters
        self._flags = {_INTERPOLATE: True} if takes_flag else {}
        self._frozen: list[nn.Module] = []
        self._read_shape()
        self._frozen = _first_parts(self.model, frozen_layers)
        for part in self._frozen:
            part.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature map (B, C, h, w) of images (B, H, W, 3), and a global token (B, C).

        That is the class token where the model has one, else the mean of the map.
        """
        states = self._states(images)
        if states.ndim == 4:
            return states, states.mean(dim=(2, 3))
        patches = states[:, self.num_extra :].transpose(1, 2)
        patches = patches.reshape(-1, self.channels, *self.grid)
        return patches, states[:, 0] if self.num_extra else patches.mean(dim=(2, 3))

    def train(self, mode: bool = True) -> "PretrainedBackbone":
        """Set training mode, but not of frozen parts: their batch statistics must not move."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def take_weights(self, pretrained: nn.Module) -> None:
        """Take the weights of a model that `load_pretrained` returned, which stays as it is."""
        fitted = copy.deepcopy(pretrained)
        _fit_positions(fitted, self.architecture, height=self.height, width=self.width)
        self.model.load_state_dict(fitted.state_dict())

    def _states(self, images: Tensor) -> Tensor:
        pixels = images.float()
        if self.architecture.color == "bgr":
            pixels = pixels.flip(3)
        pixels = ((pixels - self.mean) / self.scale).permute(0, 3, 1, 2)
        states: Tensor = self.model(pixels, **self._flags).last_hidden_state
        return states

    @torch.no_grad()
    def _read_shape(self) -> None:
        """Set `channels`, `grid` (h, w), and `num_extra`, the tokens before those of patches."""
        patch_height, patch_width = self.architecture.patch_px
        name, size = self.architecture.name, f"{self.width} x {self.height} pixels"
        try:
            states = self.eval()._states(torch.zeros(1, self.height, self.width, 3))
        except Exception as e:  # whatever a model's code raises
            reason = str(e).strip().split("\n")[0]
            raise ConfigError(f"model.backbone: {name} cannot take {size}: {reason}") from e
        is_map = states.ndim == 4
        if not is_map and (self.height % patch_height or self.width % patch_width):
            raise ConfigError(
                f"model.backbone: {name} sees patches of {patch_width} x {patch_height} pixels; "
                f"want data.photo_width, photo_height and tile_pixels to be multiples, got {size}"
            )
        grid = (self.height // patch_height, self.width // patch_width)
        self.channels = states.shape[1 if is_map else -1]
        self.grid = (states.shape[2], states.shape[3]) if is_map else grid
        self.num_extra = 0 if is_map else states.shape[1] - grid[0] * grid[1]
        if states.ndim not in (3, 4) or self.num_extra < 0 or 0 in self.grid:
            raise ConfigError(
                f"model.backbone: {name} gives {tuple(states.shape)} for {size}, want a feature "
                f"map, or {grid[0]} x {grid[1]} patch tokens"
            )


class _FixedPositions:
    """Embeddings whose positions already have the size of the images."""

    position_embeddings: nn.Parameter

    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> nn.Parameter:
        return self.position_embeddings


@torch.no_grad()
def _fit_positions(
    model: nn.Module, architecture: Architecture, *, height: int, width: int
) -> None:
    """Interpolate a model's position embeddings to the size of the images, once and for all."""
    patch_height, patch_width = architecture.patch_px
    num_patches = (height // patch_height) * (width // patch_width)
    for module in model.modules():
        positions = getattr(module, "position_embeddings", None)
        if not (hasattr(module, _INTERPOLATE) and isinstance(positions, nn.Parameter)):
            continue
        tokens = positions.new_zeros(1, 1 + num_patches, positions.shape[-1])
        fitted: Tensor = getattr(module, _INTERPOLATE)(tokens, height, width)
        module.position_embeddings = nn.Parameter(fitted.clone())
        kind = type(module)
        module.__class__ = type(f"Fixed{kind.__name__}", (_FixedPositions, kind), {})


def _first_parts(model: nn.Module, num_blocks: int) -> list[nn.Module]:
    """Return a model's first blocks and what comes before them; all of it for -1.

    The blocks are the outermost list of modules: layers of a transformer, stages of a ConvNeXt.
    """
    if num_blocks == -1:
        return [model]
    if num_blocks == 0:
        return []
    lists = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    path = min(lists, key=lambda name: name.count("."), default="")
    blocks = list(model.get_submodule(path).children()) if path else []
    if num_blocks > len(blocks):
        raise ConfigError(f"model.frozen_layers is {num_blocks}, want -1 to {len(blocks)} here")
    before: list[nn.Module] = []
    at = model
    for step in path.split("."):
        children = dict(at.named_children())
        before += list(children.values())[: list(children).index(step)]
        at = children[step]
    return [*before, *blocks[:num_blocks]]
