"""Aerial imagery in memory, cut into tiles around any place.

Sources are GeoTIFF (or any georeferenced raster that rasterio reads, in any CRS) or a table of
square image tiles with their centres. Each date becomes one `Mosaic` on a plane of metres east and
north of a centre that all dates of a data set share.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from PIL import Image
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

import geofix_index.cells as s2
from geofix.geo import Bounds
from geofix_index.sphere import great_circle_m
from geofix_train.photo_table import TableError, read_columns

_WGS84 = "EPSG:4326"
_REACH_M = 5_000_000.0  # of a plane; far beyond, PROJ refuses the whole list of points
_RASTER_ENDINGS = (".tif", ".tiff", ".jp2", ".vrt")


@dataclass(frozen=True)
class LocalFrame:
    """A plane of metres east and north of a point, true to scale there."""

    lat: float
    lon: float

    @property
    def crs(self) -> str:
        """The frame as a PROJ string."""
        return (
            f"+proj=tmerc +lat_0={self.lat} +lon_0={self.lon} +k=1 +x_0=0 +y_0=0 "
            "+datum=WGS84 +units=m"
        )

    def xy(self, lat: npt.ArrayLike, lon: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return metres east and north, (N, 2); infinity where the plane does not reach."""
        lat, lon = np.ravel(np.asarray(lat, float)), np.ravel(np.asarray(lon, float))
        near = (np.abs(lat) <= 90) & (great_circle_m(lat, lon, self.lat, self.lon) < _REACH_M)
        xy = np.full((len(lat), 2), np.inf)
        xy[near] = np.transpose(transform(_WGS84, self.crs, lon[near].tolist(), lat[near].tolist()))
        return xy

    def latlon(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return latitudes and longitudes, (N, 2), of metres east and north (N, 2)."""
        lon, lat = transform(self.crs, _WGS84, xy[:, 0].tolist(), xy[:, 1].tolist())
        return np.column_stack([lat, lon])


@dataclass(frozen=True)
class Mosaic:
    """Imagery of one date. Row 0 is north; `image[r, c]` covers metres around its centre."""

    frame: LocalFrame
    image: npt.NDArray[np.uint8]  # (H, W, 3), black where nothing is known
    known: npt.NDArray[np.bool_]  # (H, W)
    west: float
    north: float
    pixel_m: float
    date: str

    @property
    def bounds(self) -> Bounds:
        """The box of degrees between its south-west and north-east corners."""
        height, width = self.known.shape
        south, east = self.north - height * self.pixel_m, self.west + width * self.pixel_m
        corners = np.array([(self.west, south), (east, self.north)])
        (low, left), (high, right) = self.frame.latlon(corners).tolist()
        return Bounds(low, left, high, right)

    def tiles(
        self,
        xy: npt.NDArray[np.float64],
        *,
        side_m: float,
        num_pixels: int,
        rotation_deg: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Return square tiles around the points `xy` (N, 2), (N, num_pixels, num_pixels, 3).

        Args:
            xy: centres in the mosaic's frame, metres.
            side_m: side of a tile on the ground.
            num_pixels: side of a tile in pixels; a tile coarser than the mosaic is averaged.
            rotation_deg: clockwise turn of each tile (N,); None means north up.
        """
        oversampling = max(1, round(side_m / num_pixels / self.pixel_m))
        size = num_pixels * oversampling
        ticks = ((np.arange(size) + 0.5) / size - 0.5) * side_m
        angle = np.radians(np.zeros(len(xy)) if rotation_deg is None else rotation_deg)
        cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
        right, down = ticks[None, None, :], ticks[None, :, None]
        east = xy[:, 0, None, None] + cos * right - sin * down
        north = xy[:, 1, None, None] - sin * right - cos * down
        row, column, inside = self._pixels_at(east, north)
        pixels = self.image[row, column]
        pixels[~inside] = 0
        if oversampling == 1:
            return pixels
        shape = (len(xy), num_pixels, oversampling, num_pixels, oversampling, 3)
        return np.asarray(pixels.reshape(shape).mean(axis=(2, 4)), np.uint8)

    def covers(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which of the points (N, 2) have imagery."""
        row, column, inside = self._pixels_at(xy[:, 0], xy[:, 1])
        return np.asarray(inside & self.known[row, column])

    def cells(self, *, level: int) -> npt.NDArray[np.uint64]:
        """Return the S2 cells whose centre has imagery, sorted."""
        height, width = self.known.shape
        step = 0.4 * s2.mean_edge_m(level)  # no cell is narrower than half the mean edge
        x, y = np.meshgrid(
            np.arange(0, width * self.pixel_m, step) + self.west,
            self.north - np.arange(0, height * self.pixel_m, step),
        )
        lat, lon = self.frame.latlon(np.column_stack([x.ravel(), y.ravel()])).T
        found = np.unique(s2.cell_from_latlon(lat, lon, level=level))
        centres = s2.latlon_from_cell(found)
        return found[self.covers(self.frame.xy(centres[:, 0], centres[:, 1]))]

    def _pixels_at(
        self, east: npt.NDArray[np.float64], north: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Return rows, columns, and which places lie inside; row and column 0 for the others."""
        row, column = (self.north - north) / self.pixel_m, (east - self.west) / self.pixel_m
        height, width = self.known.shape
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        rows, columns = (np.where(inside, at, 0).astype(np.intp) for at in (row, column))
        return rows, columns, np.asarray(inside)


def read_imagery(path: Path, *, pixel_m: float, frame: LocalFrame | None = None) -> list[Mosaic]:
    """Read imagery; return one mosaic for each date, in the order of the dates.

    Args:
        path: a folder with rasters, a folder with one subfolder of rasters for each date, or a
            CSV table of square tiles (columns aerial, lat, lon, aerial_side_m).
        pixel_m: ground size of a mosaic's pixel; finer imagery is averaged.
        frame: where given, mosaics are on this plane.

    Raises:
        TableError: nothing readable there; the message names the file.
    """
    if path.is_file():
        tiles = {path.stem: list(_read_tile_table(path))}
    elif path.is_dir():
        folders = sorted(sub for sub in path.iterdir() if sub.is_dir()) or [path]
        tiles = {folder.name: list(_read_rasters(folder)) for folder in folders}
    else:
        raise TableError(f"{path}: no such imagery")
    tiles = {date: found for date, found in tiles.items() if found}
    if not tiles:
        raise TableError(f"{path}: no imagery; want rasters ({', '.join(_RASTER_ENDINGS)})")
    frame = frame or _middle(next(iter(tiles.values())))
    return [_mosaic(found, frame, pixel_m, date) for date, found in tiles.items()]


def write_geotiff(
    path: Path,
    image: npt.NDArray[np.uint8],
    *,
    west: float,
    north: float,
    pixel: float,
    crs: str,
) -> None:
    """Write an image (H, W, 3) as GeoTIFF with JPEG compression, north up, in units of `crs`."""
    height, width, _ = image.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8",
        crs=crs, transform=Affine(pixel, 0, west, 0, -pixel, north), tiled=True,
        compress="jpeg", photometric="ycbcr", jpeg_quality=90,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(image, 2, 0))


@dataclass(frozen=True)
class _Raster:
    """Pixels and where they lie."""

    image: npt.NDArray[np.uint8]  # (3, H, W)
    crs: Any
    transform: Affine

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        _, height, width = self.image.shape
        return np.array(
            [self.transform @ at for at in ((0, 0), (width, 0), (0, height), (width, height))]
        )


def _read_rasters(folder: Path) -> Iterator[_Raster]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _RASTER_ENDINGS:
            continue
        try:
            with rasterio.open(path) as file:
                if file.crs is None:
                    raise TableError(f"{path}: no coordinate reference system")
                if set(file.dtypes) != {"uint8"}:
                    raise TableError(
                        f"{path}: holds {file.dtypes[0]}, want uint8: scale it to 0 to 255"
                    )
                bands = [1, 2, 3] if file.count >= 3 else [1, 1, 1]
                yield _Raster(file.read(bands), file.crs, file.transform)
        except rasterio.errors.RasterioError as e:
            raise TableError(f"{path}: unreadable: {e}") from e


def _read_tile_table(path: Path) -> Iterator[_Raster]:
    columns = read_columns(path)
    for wanted in ("aerial", "lat", "lon", "aerial_side_m"):
        if wanted not in columns:
            raise TableError(f"{path}: no column {wanted!r}; it has {', '.join(columns)}")
    rows = zip(*(columns[name] for name in ("aerial", "lat", "lon", "aerial_side_m")), strict=True)
    for name, lat, lon, side_m in rows:
        try:
            with Image.open(path.parent / name) as picture:
                image = np.asarray(picture.convert("RGB"))
        except OSError as e:
            raise TableError(f"{path}: tile {name}: {e}") from e
        pixel = side_m / image.shape[1]
        place = Affine(pixel, 0, -side_m / 2, 0, -pixel, side_m / 2)
        yield _Raster(np.moveaxis(image, 2, 0), LocalFrame(lat, lon).crs, place)


def _middle(rasters: list[_Raster]) -> LocalFrame:
    points = [
        np.array(transform(r.crs, _WGS84, r.corners[:, 0].tolist(), r.corners[:, 1].tolist()))
        for r in rasters
    ]
    lon, lat = np.concatenate(points, axis=1)
    return LocalFrame(float(lat.min() + lat.max()) / 2, float(lon.min() + lon.max()) / 2)


def _mosaic(rasters: list[_Raster], frame: LocalFrame, pixel_m: float, date: str) -> Mosaic:
    """Bring all rasters of a date to one plane."""
    corners = [
        np.array(transform(r.crs, frame.crs, r.corners[:, 0].tolist(), r.corners[:, 1].tolist()))
        for r in rasters
    ]
    x, y = np.concatenate(corners, axis=1)
    west, north = float(x.min()), float(y.max())
    width = max(1, round((float(x.max()) - west) / pixel_m))
    height = max(1, round((north - float(y.min())) / pixel_m))
    image = np.zeros((3, height, width), np.uint8)
    known = np.zeros((height, width), np.uint8)
    target = Affine(pixel_m, 0, west, 0, -pixel_m, north)
    for raster, (xs, ys) in zip(rasters, corners, strict=True):
        # Only the raster's own window, or a hundred tiles would each visit every pixel.
        left, right = (int(np.floor((at - west) / pixel_m)) for at in (xs.min(), xs.max()))
        top, bottom = (int(np.floor((north - at) / pixel_m)) for at in (ys.max(), ys.min()))
        rows = slice(max(0, top), min(height, bottom + 1))
        columns = slice(max(0, left), min(width, right + 1))
        here = target @ Affine.translation(columns.start, rows.start)
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        patch = np.zeros((3, *mask.shape), np.uint8)
        ones = np.ones(raster.image.shape[1:], np.uint8)
        for source, goal, how in (
            (raster.image, patch, Resampling.average),
            (ones, mask, Resampling.nearest),
        ):
            reproject(
                source, goal, src_transform=raster.transform, src_crs=raster.crs,
                dst_transform=here, dst_crs=frame.crs, resampling=how,
            )  # fmt: skip
        seen = mask > 0
        image[:, rows, columns][:, seen] = patch[:, seen]
        known[rows, columns] |= mask
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, 2))
    return Mosaic(frame, pixels, known > 0, west, north, pixel_m, date)
