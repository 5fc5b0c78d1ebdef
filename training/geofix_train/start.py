"""What a run starts from: the look of its images, pretrained weights, and class means."""

import numpy as np
import numpy.typing as npt
import torch

from geofix_train.architecture import load_pretrained
from geofix_train.config import CONV, FitConfig
from geofix_train.model import Encoder, Model, embed
from geofix_train.prototypes import mean_prototypes
from geofix_train.training_data import TrainingData, draw_tiles

_NUM_IMAGES = 256  # that the first layers start from


def start_encoders(model: Model, data: TrainingData, config: FitConfig) -> None:
    """Give pretrained backbones their weights, and let the other layers start from their images.

    Raises:
        ConfigError: the pretrained weights cannot be read.
    """
    rng = np.random.default_rng([config.run.seed, 3])
    rows = rng.permutation(len(data.photos))[:_NUM_IMAGES]
    images = [(model.ground, data.photos[rows])]
    if data.mosaics:
        images.append((model.aerial, draw_tiles(data, config, rows, rng)))
    _start(images, config)


def start_encoder(encoder: Encoder, photos: npt.NDArray[np.uint8], config: FitConfig) -> None:
    """Do the same for a ground encoder alone, with photos (N, H, W, 3) to draw from."""
    rng = np.random.default_rng([config.run.seed, 3])
    _start([(encoder, photos[rng.permutation(len(photos))[:_NUM_IMAGES]])], config)


def _start(images: list[tuple[Encoder, npt.NDArray[np.uint8]]], config: FitConfig) -> None:
    is_pretrained = config.model.backbone != CONV
    pretrained = load_pretrained(config.model.backbone) if is_pretrained else None
    generator = torch.Generator().manual_seed(config.run.seed)
    for encoder, pixels in images:
        device = encoder.projection.weight.device
        # On the CPU, so that a run starts alike on every device.
        encoder.cpu().start_from(torch.from_numpy(pixels), generator, pretrained=pretrained)
        encoder.to(device)


@torch.no_grad()
def start_prototypes(model: Model, data: TrainingData) -> None:
    """Set each prototype to the mean embedding of the photos that mix it."""
    embeddings = embed(model.ground, data.photos)
    means = mean_prototypes(embeddings, data.photo_mix, len(data.grid.cells))
    model.prototypes.weight.copy_(torch.from_numpy(means))
    model.train()
