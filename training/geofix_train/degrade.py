"""Photos made to look old: without colour, at low resolution, blurred, with the marks of JPEG.

Done at the size that an encoder takes; at the size of a large photo most of it would vanish when
the photo is brought to that size.
"""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from geofix.images import load_image, resize_image

LOOKS = ("gray", "lowres", "jpeg", "blur")
JPEG_QUALITY = 20
BLUR_SHARE = 1 / 80  # standard deviation of the blur over the width: 1.6 pixels of 128

Pixels = npt.NDArray[np.uint8]


def degrade(photos: Pixels, look: str) -> Pixels:
    """Return photos (N, H, W, 3) with another look, of the same shape.

    Args:
        photos: RGB.
        look: "gray" takes the colour, "lowres" goes to half the width and height and back, "jpeg"
            compresses with quality 20, "blur" puts the photo out of focus (a Gaussian of 1/80 of
            the width).

    Raises:
        ValueError: an unknown look.
    """
    if look not in LOOKS:
        raise ValueError(f"look is {look!r}, want one of {', '.join(LOOKS)}")
    changes: dict[str, Callable[[Pixels], Pixels]] = {
        "gray": _gray,
        "lowres": lambda photo: lower_resolution(photo, share=0.5),
        "jpeg": lambda photo: compress(photo, quality=JPEG_QUALITY),
        "blur": _blur,
    }
    return np.stack([changes[look](photo) for photo in photos])


def lower_resolution(photo: Pixels, *, share: float) -> Pixels:
    """Return a photo (H, W, 3) that went to a share of its width and height and back."""
    height, width = photo.shape[:2]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    return resize_image(
        resize_image(photo, width=small[0], height=small[1]), width=width, height=height
    )


def compress(photo: Pixels, *, quality: int) -> Pixels:
    """Return a photo (H, W, 3) as JPEG leaves it; quality is that of Pillow, 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality)
    return load_image(file.getvalue())


def _gray(photo: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))


def _blur(photo: Pixels) -> Pixels:
    radius = photo.shape[1] * BLUR_SHARE
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))
