"""Aerial imagery in memory, cut into tiles around any place.

Sources are GeoTIFF (or any georeferenced raster that rasterio reads, in any CRS), XYZ tiles, or a
table of square image tiles with their centres. Each date becomes one `Mosaic` on a plane of metres
east and north of a centre that all dates of a data set share.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
from geofix_train.rasters import RASTER_ENDINGS, Pixels, Raster, find_rasters
from geofix_train.xyz_tiles import find_tiles, is_tile_folder

_WGS84 = "EPSG:4326"
_REACH_M = 5_000_000.0  # of a plane; far beyond, PROJ refuses the whole list of points


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
        # Three times as fast as image[row, column].
        flat: Pixels = self.image.reshape(-1, 3)
        pixels: Pixels = flat.take(row * self.image.shape[1] + column, axis=0)
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


def read_imagery(
    path: Path, *, pixel_m: float, frame: LocalFrame | None = None, zoom: int = 0
) -> list[Mosaic]:
    """Read imagery; return one mosaic for each date, in the order of the dates.

    Args:
        path: a folder with rasters or with XYZ tiles, a folder with one such subfolder for each
            date, or a CSV table of square tiles (columns aerial, lat, lon, aerial_side_m).
        pixel_m: ground size of a mosaic's pixel; finer imagery is averaged.
        frame: where given, mosaics are on this plane.
        zoom: of XYZ tiles; 0 chooses.

    Raises:
        TableError: nothing readable there; the message names the file.
    """
    if path.is_file():
        tiles = {path.stem: list(_read_tile_table(path))}
    elif path.is_dir():
        tiles = {folder.name: _find(folder, pixel_m, zoom) for folder in _date_folders(path)}
    else:
        raise TableError(f"{path}: no such imagery")
    tiles = {date: found for date, found in tiles.items() if found}
    if not tiles:
        raise TableError(
            f"{path}: no imagery; want rasters ({', '.join(RASTER_ENDINGS)}) or tiles, zoom/x/y.png"
        )
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


def _date_folders(path: Path) -> list[Path]:
    if is_tile_folder(path):
        return [path]
    return sorted(sub for sub in path.iterdir() if sub.is_dir()) or [path]


def _find(folder: Path, pixel_m: float, zoom: int) -> list[Raster]:
    if is_tile_folder(folder):
        return find_tiles(folder, pixel_m=pixel_m, zoom=zoom)
    return list(find_rasters(folder))


def _read_tile_table(path: Path) -> Iterator[Raster]:
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
        height, width, _ = image.shape
        yield Raster(LocalFrame(lat, lon).crs, place, width, height, read=_at_hand(image))


def _at_hand(image: npt.NDArray[np.uint8]) -> Callable[[int], tuple[Pixels, Pixels]]:
    """Return the `read` of a raster (H, W, 3) that lies in memory; it is small and stays whole."""
    return lambda _: (np.moveaxis(image, 2, 0), np.full(image.shape[:2], 255, np.uint8))


def _middle(rasters: list[Raster]) -> LocalFrame:
    points = [
        np.array(transform(r.crs, _WGS84, r.corners[:, 0].tolist(), r.corners[:, 1].tolist()))
        for r in rasters
    ]
    lon, lat = np.concatenate(points, axis=1)
    return LocalFrame(float(lat.min() + lat.max()) / 2, float(lon.min() + lon.max()) / 2)


def _mosaic(rasters: list[Raster], frame: LocalFrame, pixel_m: float, date: str) -> Mosaic:
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
        pixels, is_known = raster.read(raster.factor(np.column_stack([xs, ys]), pixel_m=pixel_m))
        # Only the raster's own window, or a hundred tiles would each visit every pixel.
        left, right = (int(np.floor((at - west) / pixel_m)) for at in (xs.min(), xs.max()))
        top, bottom = (int(np.floor((north - at) / pixel_m)) for at in (ys.max(), ys.min()))
        rows = slice(max(0, top), min(height, bottom + 1))
        columns = slice(max(0, left), min(width, right + 1))
        here = target @ Affine.translation(columns.start, rows.start)
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        patch = np.zeros((3, *mask.shape), np.uint8)
        for source, goal, how in (
            (pixels, patch, Resampling.average),
            ((is_known > 0).astype(np.uint8), mask, Resampling.nearest),
        ):
            reproject(
                source, goal, src_transform=raster.transform_of(pixels), src_crs=raster.crs,
                dst_transform=here, dst_crs=frame.crs, resampling=how,
            )  # fmt: skip
        seen = mask > 0
        image[:, rows, columns][:, seen] = patch[:, seen]
        known[rows, columns] |= mask
    whole = np.ascontiguousarray(np.moveaxis(image, 0, 2))
    return Mosaic(frame, whole, known > 0, west, north, pixel_m, date)
