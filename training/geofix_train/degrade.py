"""Photos made to look old: without colour, at low resolution, or with the marks of JPEG.

Done at the size that an encoder takes; at the size of a large photo most of it would vanish when
the photo is brought to that size.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix.images import load_image, resize_image

LOOKS = ("gray", "lowres", "jpeg")
JPEG_QUALITY = 20

Pixels = npt.NDArray[np.uint8]


def degrade(photos: Pixels, look: str) -> Pixels:
    """Return photos (N, H, W, 3) with another look, of the same shape.

    Args:
        photos: RGB.
        look: "gray" takes the colour, "lowres" goes to half the width and height and back, "jpeg"
            compresses with quality 20.

    Raises:
        ValueError: an unknown look.
    """
    if look not in LOOKS:
        raise ValueError(f"look is {look!r}, want one of {', '.join(LOOKS)}")
    change = {"gray": _gray, "lowres": _lowres, "jpeg": _jpeg}[look]
    return np.stack([change(photo) for photo in photos])


def _gray(photo: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))


def _lowres(photo: Pixels) -> Pixels:
    height, width = photo.shape[:2]
    small = resize_image(photo, width=max(1, width // 2), height=max(1, height // 2))
    return resize_image(small, width=width, height=height)


def _jpeg(photo: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=JPEG_QUALITY)
    return load_image(file.getvalue())
