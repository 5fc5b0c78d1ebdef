"""Random changes of training images: what a place looks like on another day, a little aside.

Images are (B, H, W, 3), 0 to 255, and come back at the same size. What changes is drawn apart from
changing it: drawing needs no pixels, and the pixels may lie on a GPU.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from geofix_train.degrade import Pixels, compress, lower_resolution

_GAIN = math.log(1.18)


@dataclass(frozen=True)
class Colors:
    """How B images vary in brightness, contrast and colour; some lose their colour."""

    gain: Tensor  # (B, 1, 1, 3) of each colour
    offset: Tensor  # (B, 1, 1, 1)
    gray_rows: Tensor  # (G,) images that lose their colour


def draw_colors(
    num: int, rng: np.random.Generator, *, strength: float = 1.0, gray_share: float = 0.0
) -> Colors:
    """Return random colours for a number of images.

    Args:
        num: of the images.
        rng: of the colours.
        strength: 1 makes images up to 1.18 times as bright or as dark, and a colour of theirs 4 %
            stronger or weaker; 2 as much again, 0 nothing.
        gray_share: of the images lose their colour.
    """
    gain = np.exp(strength * rng.uniform(-_GAIN, _GAIN, (num, 1, 1, 1)))
    tint = 1 + strength * rng.uniform(-0.04, 0.04, (num, 1, 1, 3))
    offset = strength * rng.uniform(-10, 10, (num, 1, 1, 1))
    gray_rows = np.flatnonzero(rng.uniform(size=num) < gray_share)
    return Colors(
        gain=torch.from_numpy((gain * tint).astype(np.float32)),
        offset=torch.from_numpy(offset.astype(np.float32)),
        gray_rows=torch.from_numpy(gray_rows),
    )


def recolor(images: Tensor, colors: Colors) -> Tensor:
    """Return images (B, H, W, 3), 0 to 255, in other colours, as float32."""
    changed = images.to(torch.float32, copy=True)
    # By row numbers: a mask would have to come back from the GPU first.
    gray = changed[colors.gray_rows].mean(dim=3, keepdim=True)
    changed[colors.gray_rows] = gray.expand(-1, -1, -1, 3)
    return (changed * colors.gain).add_(colors.offset).clamp_(0.0, 255.0)


def draw_aged(
    photos: Pixels, colors: Colors, rng: np.random.Generator, *, share: float
) -> tuple[Tensor, Tensor]:
    """Return photos that look old, of low resolution or with the blocks of JPEG.

    Args:
        photos: (B, H, W, 3) as they were taken.
        colors: that they come in.
        rng: of the changes.
        share: of the photos that change.

    Returns:
        Rows (A,) of the photos that change, and what becomes of them (A, H, W, 3), uint8.
    """
    rows = np.flatnonzero(rng.uniform(size=len(photos)) < share)
    aged = np.empty((len(rows), *photos.shape[1:]), np.uint8)
    for at, row in enumerate(rows.tolist()):
        pixels = _recolored(photos[row], colors, row)
        strength = float(rng.uniform())
        if rng.uniform() < 0.5:
            aged[at] = lower_resolution(pixels, share=0.75 - 0.42 * strength)
        else:
            aged[at] = compress(pixels, quality=round(60 - 50 * strength))
    return torch.from_numpy(rows), torch.from_numpy(aged)


def _recolored(photo: Pixels, colors: Colors, row: int) -> Pixels:
    """Return what `recolor` makes of one photo (H, W, 3), rounded.

    In NumPy, since threads that draw batches are not to start threads of torch, each its own.
    """
    changed: npt.NDArray[np.float32] = photo.astype(np.float32)
    if row in colors.gray_rows:
        changed = changed.mean(axis=2, keepdims=True)
    changed = changed * colors.gain[row].numpy() + colors.offset[row].numpy()
    return np.asarray(np.rint(changed.clip(0.0, 255.0)), np.uint8)


def draw_crops(num: int, rng: np.random.Generator, *, zoom: float) -> Tensor:
    """Return random parts for a number of images, (B, 2, 3) as `affine_grid` takes them.

    Args:
        num: of the images.
        rng: of the parts.
        zoom: the smallest share of width and height that is kept.
    """
    share = rng.uniform(zoom, 1.0, num)
    aside = rng.uniform(-1.0, 1.0, (num, 2)) * (1.0 - share[:, None])
    place = np.zeros((num, 2, 3), np.float32)
    place[:, 0, 0] = place[:, 1, 1] = share
    place[:, :, 2] = aside
    return torch.from_numpy(place)


def crop(images: Tensor, crops: Tensor) -> Tensor:
    """Cut a part out of each image (B, H, W, 3), and bring it back to the image's size.

    As if the camera had looked a little aside, with a longer lens.
    """
    num, height, width, _ = images.shape
    grid = functional.affine_grid(crops, [num, 3, height, width], align_corners=False)
    cut = functional.grid_sample(images.permute(0, 3, 1, 2), grid, align_corners=False)
    return cut.permute(0, 2, 3, 1)
