"""Folders of map tiles as `zoom/x/y.png` or `.jpg`: Web Mercator, y counted from the north.

Tiles may have any size, 256 and 512 pixels are common. One zoom level is read: the coarsest that is
as fine as the mosaic, or else the finest there is.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from affine import Affine
from PIL import Image

from geofix_train.photo_table import TableError
from geofix_train.rasters import Pixels, Raster

MAX_ZOOM = 30
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_CRS = "EPSG:3857"
_WORLD_M = 2 * math.pi * 6_378_137.0  # side of the square world in units of the CRS, at the equator
_NOMINAL_PX = 256  # tells only how a tile's corners are written down


def is_tile_folder(folder: Path) -> bool:
    """Return whether a folder holds tiles as zoom/x/y."""
    return any(any(_tiles(folder / str(zoom), zoom)) for zoom in _zooms(folder))


def find_tiles(folder: Path, *, pixel_m: float, zoom: int = 0) -> list[Raster]:
    """Return the tiles of one zoom level.

    Args:
        folder: with a subfolder for each zoom level.
        pixel_m: of the mosaic that is made of them.
        zoom: 0 chooses.

    Raises:
        TableError: no tiles of this zoom level, or a tile is unreadable.
    """
    levels = {z: found for z in _zooms(folder) if (found := list(_tiles(folder / str(z), z)))}
    if zoom and zoom not in levels:
        known = ", ".join(map(str, levels))
        raise TableError(f"{folder}: no tiles of zoom {zoom}; there are {known}")
    chosen = zoom or _choose(levels, pixel_m)
    side = _WORLD_M / 2**chosen
    return [
        Raster(
            crs=_CRS,
            transform=Affine(
                side / _NOMINAL_PX, 0, x * side - _WORLD_M / 2,
                0, -side / _NOMINAL_PX, _WORLD_M / 2 - y * side,
            ),
            width=_NOMINAL_PX,
            height=_NOMINAL_PX,
            read=_reader(path),
        )
        for x, y, path in levels[chosen]
    ]  # fmt: skip


def _choose(levels: dict[int, list[tuple[int, int, Path]]], pixel_m: float) -> int:
    for zoom in sorted(levels):
        _, y, path = levels[zoom][0]
        with _opened(path) as picture:
            width = picture.width
        if _WORLD_M / 2**zoom / width * _shrink((y + 0.5) / 2**zoom) <= pixel_m:
            return zoom
    return max(levels)


def _shrink(y: float) -> float:
    """Return how long a unit of the CRS is on the ground, y from 0 (north) to 1: cos(latitude)."""
    return 1 / math.cosh(math.pi * (1 - 2 * y))


def _zooms(folder: Path) -> list[int]:
    names = [sub.name for sub in folder.iterdir() if sub.is_dir() and sub.name.isdecimal()]
    return sorted(int(name) for name in names if str(int(name)) == name and int(name) <= MAX_ZOOM)


def _tiles(folder: Path, zoom: int) -> Iterator[tuple[int, int, Path]]:
    """Yield x, y and path of the tiles of a zoom level, sorted by x."""
    columns = [sub for sub in folder.iterdir() if sub.is_dir() and sub.name.isdecimal()]
    for column in sorted(columns, key=lambda sub: int(sub.name)):
        for path in sorted(column.iterdir()):
            is_tile = path.suffix.lower() in _ENDINGS and path.stem.isdecimal()
            if is_tile and max(int(column.name), int(path.stem)) < 2**zoom:
                yield int(column.name), int(path.stem), path


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as e:
        raise TableError(f"{path}: unreadable: {e}") from e


def _reader(path: Path) -> Callable[[int], tuple[Pixels, Pixels]]:
    def read(factor: int) -> tuple[Pixels, Pixels]:
        with _opened(path) as picture:
            factor = max(1, factor * picture.width // _NOMINAL_PX)
            try:
                pixels = np.asarray(picture.convert("RGBA").reduce(factor))
            except OSError as e:
                raise TableError(f"{path}: unreadable: {e}") from e
        return np.ascontiguousarray(np.moveaxis(pixels[..., :3], 2, 0)), pixels[..., 3].copy()

    return read
