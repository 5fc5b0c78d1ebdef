"""What a query encoder is to the rest of the SDK."""

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec


class QueryEncoder(Protocol):
    """Anything that embeds images. A test encoder is six lines and needs no mock library."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed `images` (B, H, W, 3) RGB; return (B, D), each row of unit length."""


def check_images(images: npt.NDArray[np.uint8], spec: InputSpec) -> None:
    """Raise ValueError unless these are images (B, height, width, 3) uint8 of the spec's size."""
    wanted = (spec.height, spec.width, 3)
    if images.ndim != 4 or images.shape[1:] != wanted or images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}, want uint8 of shape (B, "
            f"{wanted[0]}, {wanted[1]}, 3): use geofix.images.prepare_image"
        )


def check_process(opened_in: int, runtime: str) -> None:
    """Raise BackendUnavailable in a forked child, for a runtime that does not work there.

    Args:
        opened_in: id of the process that opened the encoder.
        runtime: what the user calls it.
    """
    if os.getpid() != opened_in:
        raise BackendUnavailable(
            f"{runtime} does not work in a child that was forked after its encoder was opened: "
            'start children by "spawn", and open the Localizer there'
        )


def unit_length(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return embeddings (B, D), each row of unit length; a row of zeros stays zero.

    Raises:
        BackendUnavailable: a number is not finite.
    """
    if not np.isfinite(embeddings).all():
        raise BackendUnavailable("the encoder gave NaN or infinity: export it again")
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.where(norms > 0, norms, 1), np.float32)
