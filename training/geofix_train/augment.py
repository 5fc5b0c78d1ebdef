"""Random changes of training images: what a place looks like on another day, a little aside.

Images are (B, H, W, 3), 0 to 255, and come back at the same size.
"""

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


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
        change = _lower_resolution if rng.uniform() < 0.5 else _compress
        images[row] = change(images[row], float(rng.uniform()))
    return images


def _lower_resolution(image: Tensor, strength: float) -> Tensor:
    """Return an image (H, W, 3) that has lost up to two thirds of its resolution."""
    height, width, _ = image.shape
    share = 0.75 - 0.42 * strength
    small = (max(1, round(share * height)), max(1, round(share * width)))
    planes = image.permute(2, 0, 1)[None]
    planes = functional.interpolate(planes, small, mode="bilinear", antialias=True)
    planes = functional.interpolate(planes, (height, width), mode="bilinear")
    return planes[0].permute(1, 2, 0)


def _compress(image: Tensor, strength: float) -> Tensor:
    """Return an image (H, W, 3) after JPEG of quality 60 down to 10."""
    file = io.BytesIO()
    pixels: npt.NDArray[np.uint8] = image.round().to(torch.uint8).cpu().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=round(60 - 50 * strength))
    with Image.open(file) as compressed:
        return torch.from_numpy(np.array(compressed)).to(image)


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
