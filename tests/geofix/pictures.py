"""Pictures to resize and to decode."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def smooth(width: int, height: int, *, seed: int = 0) -> Pixels:
    """Return a picture with detail of many pixels, as photos have it."""
    coarse = np.random.default_rng(seed).integers(60, 196, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
