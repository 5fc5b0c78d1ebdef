"""Random changes of training images: what a place looks like on another day, a little aside.

Images are (B, H, W, 3), 0 to 255, and come back at the same size.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geofix_train.degrade import compress, lower_resolution


def recolor(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary brightness, contrast and colour of each image; some lose their colour.

    Args:
        images: (B, H, W, 3), 0 to 255.
        rng: of the changes.
    """
    size = (len(images), 1, 1, 1)
    gain = torch.from_numpy(rng.uniform(0.85, 1.18, size).astype(np.float32))
    tint = torch.from_numpy(rng.uniform(0.96, 1.04, (len(images), 1, 1, 3)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-10, 10, size).astype(np.float32))
    is_gray = torch.from_numpy(rng.uniform(size=len(images)) < 0.05)
    changed = images.to(torch.float32, copy=True)
    changed[is_gray] = changed[is_gray].mean(dim=3, keepdim=True).expand(-1, -1, -1, 3)
    return (changed * (gain * tint)).add_(offset).clamp_(0.0, 255.0)


def age(images: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    """Make some images look old, in place: of low resolution, or with the blocks of JPEG.

    Args:
        images: (B, H, W, 3) float, 0 to 255.
        rng: of the changes.
        share: of the images that change.
    """
    for row in np.flatnonzero(rng.uniform(size=len(images)) < share).tolist():
        pixels = images[row].round().to(torch.uint8).cpu().numpy()
        strength = float(rng.uniform())
        if rng.uniform() < 0.5:
            aged = lower_resolution(pixels, share=0.75 - 0.42 * strength)
        else:
            aged = compress(pixels, quality=round(60 - 50 * strength))
        images[row] = torch.from_numpy(aged.copy()).to(images)
    return images


def crop(images: Tensor, rng: np.random.Generator, *, zoom: float) -> Tensor:
    """Cut a random part out of each image, and bring it back to the image's size.

    As if the camera had looked a little aside, with a longer lens.

    Args:
        images: (B, H, W, 3), 0 to 255.
        rng: of the parts.
        zoom: the smallest share of width and height that is kept.
    """
    num, height, width, _ = images.shape
    share = rng.uniform(zoom, 1.0, num)
    aside = rng.uniform(-1.0, 1.0, (num, 2)) * (1.0 - share[:, None])
    place = np.zeros((num, 2, 3), np.float32)
    place[:, 0, 0] = place[:, 1, 1] = share
    place[:, :, 2] = aside
    grid = functional.affine_grid(
        torch.from_numpy(place), [num, 3, height, width], align_corners=False
    )
    cut = functional.grid_sample(images.permute(0, 3, 1, 2), grid, align_corners=False)
    return cut.permute(0, 2, 3, 1)
