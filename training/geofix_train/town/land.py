"""Land around a town, known from above alone: more of the same world, as imagery without photos.

The plan of a town has no edge, so the land goes on with the same streets and districts. It is drawn
in square blocks, as coarse as training looks at imagery (a town's own imagery is finer); each file
reaches `MARGIN_M` beyond its block, so that a tile around any place of it lies in one file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

import geofix_index.cells as s2
from geofix_train.aerial import LocalFrame, Mosaic, write_geotiff
from geofix_train.town.dataset import AERIAL_DATES, CENTRE, CRS, MARGIN_M
from geofix_train.town.light import SEASONS, light_at
from geofix_train.town.ortho import render_ortho
from geofix_train.town.processes import run_jobs
from geofix_train.town.raster import paint

BLOCK_M = 6144.0
PIXEL_M = 2.4  # of a tile of 154 m as the default settings show it, 64 pixels wide
_RESOLUTION_M = 1.2  # of the painted world
_SHADOWS_M = 60.0  # painted around the imagery: what throws shadows into it
_FRAME = LocalFrame(*CENTRE)

Block = tuple[int, int]  # column and row; (0, 0) starts at the town's centre, north and east of it


def land_blocks(num: int) -> list[Block]:
    """Return the `num` blocks nearest to the town's centre, the nearest first."""
    reach = int(np.sqrt(num)) + 2
    blocks = ((column, row) for column in range(-reach, reach) for row in range(-reach, reach))
    return sorted(blocks, key=lambda b: ((b[0] + 0.5) ** 2 + (b[1] + 0.5) ** 2, b))[:num]


def draw_land(
    out: Path,
    blocks: Sequence[Block],
    *,
    seed: int,
    dates: Sequence[str] = tuple(AERIAL_DATES),
    num_workers: int = 0,
) -> None:
    """Draw the imagery of blocks that `out` does not hold yet: `out/DATE/cCOLUMN_rROW.tif`.

    Args:
        out: a folder.
        blocks: which.
        seed: of the town.
        dates: of the town's imagery.
        num_workers: processes; 0 means one a core.
    """
    for date in dates:
        (out / date).mkdir(parents=True, exist_ok=True)
    missing = [b for b in blocks if not all(_path(out, date, b).exists() for date in dates)]
    jobs = [(_draw, (out, block, seed, tuple(dates))) for block in missing]
    run_jobs(jobs, num_workers=num_workers, desc="land", unit="block")


def read_land(out: Path, block: Block, *, dates: Sequence[str]) -> list[Mosaic]:
    """Return the imagery of a block that `draw_land` drew, one mosaic a date."""
    west, north = _corner(block)
    mosaics = []
    for date in dates:
        with rasterio.open(_path(out, date, block)) as file:
            image = np.ascontiguousarray(np.moveaxis(file.read(), 0, 2))
        known = np.ones(image.shape[:2], bool)
        mosaics.append(
            Mosaic(_FRAME, image, known, west - MARGIN_M, north + MARGIN_M, PIXEL_M, date)
        )
    return mosaics


def land_cells(block: Block, *, level: int) -> npt.NDArray[np.uint64]:
    """Return the cells of a level whose centre lies in a block, sorted."""
    west, north = _corner(block)
    step = 0.4 * s2.mean_edge_m(level)  # no cell is narrower than half the mean edge
    ticks = np.arange(-step, BLOCK_M + step, step)
    x, y = np.meshgrid(west + ticks, north - ticks)
    lat, lon = _FRAME.latlon(np.column_stack([x.ravel(), y.ravel()])).T
    found = np.unique(s2.cell_from_latlon(lat, lon, level=level))
    x, y = _FRAME.xy(*s2.latlon_from_cell(found).T).T
    inside = (west <= x) & (x < west + BLOCK_M) & (north - BLOCK_M < y) & (y <= north)
    return np.asarray(found[inside])


def is_in_town(cells: npt.NDArray[np.uint64], *, size_km: float) -> npt.NDArray[np.bool_]:
    """Return which cells lie where the imagery of a town of this size reaches."""
    reach = size_km * 500.0 + 2 * MARGIN_M  # its last files reach a little farther than the margin
    xy = _FRAME.xy(*s2.latlon_from_cell(cells).T)
    return np.asarray(np.abs(xy).max(axis=1) <= reach)


def _draw(out: Path, block: Block, seed: int, dates: tuple[str, ...]) -> None:
    west, north = _corner(block)
    west, north = west - MARGIN_M, north + MARGIN_M
    num_pixels = round((BLOCK_M + 2 * MARGIN_M) / PIXEL_M)
    side = num_pixels * PIXEL_M
    world = paint(
        seed, x0=west - _SHADOWS_M, y0=north - side - _SHADOWS_M, x1=west + side + _SHADOWS_M,
        y1=north + _SHADOWS_M, resolution_m=_RESOLUTION_M,
    )  # fmt: skip
    for date in dates:
        season, hour = AERIAL_DATES[date]
        image = render_ortho(
            world, west=west, north=north, num_pixels=num_pixels, pixel_m=PIXEL_M,
            season=SEASONS[season], light=light_at("clear", hour),
            seed=(block[0] * 4093 + block[1]) % 2**31,
        )  # fmt: skip
        path = _path(out, date, block)
        part = path.with_suffix(".part.tif")
        write_geotiff(part, image, west=west, north=north, pixel=PIXEL_M, crs=CRS)
        part.replace(path)


def _corner(block: Block) -> tuple[float, float]:
    """Return x of the west edge and y of the north edge of a block."""
    return block[0] * BLOCK_M, (block[1] + 1) * BLOCK_M


def _path(out: Path, date: str, block: Block) -> Path:
    return out / date / f"c{block[0]:+d}_r{block[1]:+d}.tif"
