"""Georeferenced pictures whose pixels are read late, and no finer than they are needed.

A country's orthophotos do not fit into memory at full size. Reading at a fraction of the size uses
the overviews that a Cloud Optimized GeoTIFF has; without overviews it still saves the memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from geofix_train.photo_table import TableError

RASTER_ENDINGS = (".tif", ".tiff", ".jp2", ".vrt")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Raster:
    """A picture and where it lies."""

    crs: Any
    transform: Affine  # from columns and rows at full size to `crs`
    width: int
    height: int
    # Takes a whole factor to read at a fraction of the size; returns pixels (3, H, W) and which of
    # them are known (H, W), 0 or not.
    read: Callable[[int], tuple[Pixels, Pixels]]

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """North-west, north-east, south-west and south-east in `crs`, (4, 2)."""
        ends = ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))
        return np.array([self.transform @ at for at in ends])

    def factor(self, corners: npt.NDArray[np.float64], *, pixel_m: float) -> int:
        """Return the factor to read at for a mosaic with pixels of `pixel_m`.

        What is read has at least twice the mosaic's resolution, so that bringing it to the mosaic's
        plane moves nothing by more than half a pixel of what is read.

        Args:
            corners: on a plane of metres, in the order of `self.corners`.
            pixel_m: of the mosaic.
        """
        across = np.linalg.norm(corners[1] - corners[0]) / self.width
        down = np.linalg.norm(corners[2] - corners[0]) / self.height
        return max(1, int(pixel_m / 2 / max(across, down) + 1e-9))

    def transform_of(self, image: Pixels) -> Affine:
        """Return the transform of an image (3, H, W) that `read` gave."""
        _, height, width = image.shape
        return self.transform @ Affine.scale(self.width / width, self.height / height)


def find_rasters(folder: Path) -> Iterator[Raster]:
    """Yield the GeoTIFFs and other rasters of a folder.

    Raises:
        TableError: one is unreadable, has no reference system, or is not of 8 bits.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in RASTER_ENDINGS:
            continue
        try:
            with rasterio.open(path) as file:
                if file.crs is None:
                    raise TableError(f"{path}: no coordinate reference system")
                if set(file.dtypes) != {"uint8"}:
                    raise TableError(
                        f"{path}: holds {file.dtypes[0]}, want uint8: scale it to 0 to 255"
                    )
                place = (file.crs, file.transform, file.width, file.height)
        except rasterio.errors.RasterioError as e:
            raise TableError(f"{path}: unreadable: {e}") from e
        yield Raster(*place, read=_reader(path))


def _reader(path: Path) -> Callable[[int], tuple[Pixels, Pixels]]:
    def read(factor: int) -> tuple[Pixels, Pixels]:
        try:
            with rasterio.open(path) as file:
                size = (-(-file.height // factor), -(-file.width // factor))
                bands = [1, 2, 3] if file.count >= 3 else [1, 1, 1]
                image = file.read(bands, out_shape=(3, *size), resampling=Resampling.average)
                return image, file.dataset_mask(out_shape=size)
        except rasterio.errors.RasterioError as e:
            raise TableError(f"{path}: unreadable: {e}") from e

    return read
