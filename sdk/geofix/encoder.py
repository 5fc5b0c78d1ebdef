"""What a query encoder is to the rest of the SDK."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class QueryEncoder(Protocol):
    """Anything that embeds images. A test encoder is six lines and needs no mock library."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed `images` (B, H, W, 3) RGB; return (B, D), each row of unit length."""
