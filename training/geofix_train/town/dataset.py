"""Write a town as an ordinary data set: a photo table, photos, GeoTIFF orthophotos of two dates."""

import itertools
import json
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix_train.aerial import write_geotiff
from geofix_train.photo_table import PhotoTable, write_photo_table
from geofix_train.town.drives import Shot, plan_drives
from geofix_train.town.light import SEASONS, light_at
from geofix_train.town.ortho import render_ortho
from geofix_train.town.processes import Job, run_jobs
from geofix_train.town.raster import Warp, World, paint, streets_around
from geofix_train.town.street_view import Camera, render_photo

TOWN_VERSION = 1  # grows when the look of the town changes
CENTRE = (47.37, 8.54)  # WGS84 latitude and longitude of (x, y) = (0, 0)
PHOTO_SIZE = (128, 96)
PIXEL_M = 0.6
TILE_PIXELS = 512
MARGIN_M = 160.0  # imagery reaches this far beyond the photos
SECTOR_M = 1400.0  # at most, the side of what a process paints at a time
SIGHT_M = 220.0  # painted around it, besides whole districts: what is seen and throws shadows
AERIAL_DATES = {"2023-07-05": ("summer", 10.5), "2024-10-20": ("autumn", 14.0)}

# Metres on a transverse Mercator plane through the centre, so that the town's x and y are true
# metres there (the scale is off by less than 1e-6 within 6 km).
CRS = f"+proj=tmerc +lat_0={CENTRE[0]} +lon_0={CENTRE[1]} +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m"


class _Sector(NamedTuple):
    """A part of the town that a process paints at a time: a whole one would not fit in memory."""

    seed: int
    x0: float
    y0: float
    x1: float
    y1: float

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point lies in it; each point lies in one."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1


def make_town(
    out: Path,
    *,
    size_km: float,
    num_photos: int,
    seed: int,
    photographed: float = 1.0,
    num_workers: int = 0,
) -> PhotoTable:
    """Write a town to the folder `out` and return its photo table.

    Args:
        out: receives `photos.parquet`, `photos/`, `aerial/DATE/*.tif`, `town.json` and
            `contact_sheet.png`.
        size_km: side of the square that photos are taken in, at least 0.8.
        num_photos: of all splits together, at least 50.
        seed: the same seed and `TOWN_VERSION` give the same pixels everywhere.
        photographed: share of the districts that have ground photos, 0.1 to 1; the others are known
            from above alone, and only some photos of the test and validation splits show them.
        num_workers: processes; 0 means one a core. They are spawned: a program that calls this
            does so under `if __name__ == "__main__":`.

    Raises:
        ValueError: a size or number out of range.
        FileExistsError: `out` holds something already.
    """
    _check_arguments(size_km, num_photos, seed, photographed)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: choose another folder or remove it")
    out.mkdir(parents=True, exist_ok=True)
    half_m = size_km * 500.0
    reach = half_m + MARGIN_M
    warp = Warp.from_seed(seed)
    shots = plan_drives(
        streets_around(seed, warp, x0=-reach, y0=-reach, x1=reach, y1=reach),
        warp,
        size_m=2 * half_m,
        num_photos=num_photos,
        seed=seed,
        photographed=photographed,
    )
    sectors = _sectors(seed, reach)
    _write_images(out, sectors, list(_squares(reach)), shots, num_workers)
    table = _table(shots)
    write_photo_table(table, out / "photos.parquet")
    facts = {
        "town_version": TOWN_VERSION,
        "seed": seed,
        "size_km": size_km,
        "num_photos": len(shots),
        "photographed": photographed,
    }
    (out / "town.json").write_text(json.dumps(facts, indent=2) + "\n")
    contact_sheet(sectors, shots).save(out / "contact_sheet.png")
    return table


def _check_arguments(size_km: float, num_photos: int, seed: int, photographed: float) -> None:
    if not 0.8 <= size_km <= 20:
        raise ValueError(f"--size-km is {size_km}, want 0.8 to 20")
    if num_photos < 50:
        raise ValueError(f"--photos is {num_photos}, want at least 50")
    if seed < 0:
        raise ValueError(f"--seed is {seed}, want 0 or more")
    if not 0.1 <= photographed <= 1:
        raise ValueError(f"--photographed is {photographed}, want 0.1 to 1")


def contact_sheet(sectors: list[_Sector], shots: list[Shot]) -> Image.Image:
    """Return a picture of the town: both orthophotos of its middle and six photos."""
    pixels = 440
    views = [
        render_ortho(
            _world(_sector_of(sectors, 0.0, 0.0)), west=-220.0, north=220.0, num_pixels=pixels,
            pixel_m=1.0, season=SEASONS[season], light=light_at("clear", hour), seed=1,
        )
        for season, hour in AERIAL_DATES.values()
    ]  # fmt: skip
    sheet = Image.new("RGB", (2 * (pixels + 10) + 3 * 300, pixels), "white")
    for number, view in enumerate(views):
        sheet.paste(Image.fromarray(view), (number * (pixels + 10), 0))
    picks = np.linspace(0, len(shots) - 1, 6).astype(int)
    for number, pick in enumerate(picks):
        shot = shots[pick]
        world = _world(_sector_of(sectors, shot.x, shot.y))
        photo = Image.fromarray(_photo(world, shot, size=_upright(shot, (290, 215))))
        sheet.paste(photo, (2 * (pixels + 10) + number % 3 * 300, number // 3 * 225))
    return sheet


@lru_cache(maxsize=1)
def _world(sector: _Sector) -> World:
    """Paint a sector and what is seen from it; a process works on one at a time."""
    return paint(
        sector.seed, x0=sector.x0 - SIGHT_M, y0=sector.y0 - SIGHT_M, x1=sector.x1 + SIGHT_M,
        y1=sector.y1 + SIGHT_M,
    )  # fmt: skip


def _sectors(seed: int, half_m: float) -> list[_Sector]:
    """Return the parts of a square of side 2 x `half_m` around the middle."""
    num = math.ceil(2 * half_m / SECTOR_M)
    edges = np.linspace(-half_m, half_m, num + 1).tolist()
    spans = list(itertools.pairwise(edges))
    return [_Sector(seed, x0, y0, x1, y1) for y0, y1 in spans for x0, x1 in spans]


def _sector_of(sectors: list[_Sector], x: float, y: float) -> _Sector:
    return next(sector for sector in sectors if sector.holds(x, y))


def _write_images(
    out: Path,
    sectors: list[_Sector],
    squares: list[tuple[float, float]],
    shots: list[Shot],
    num_workers: int,
) -> None:
    (out / "photos").mkdir()
    for date in AERIAL_DATES:
        (out / "aerial" / date).mkdir(parents=True)
    jobs: list[Job] = []
    half = TILE_PIXELS * PIXEL_M / 2
    for sector in sectors:  # one after the other, so that a process seldom paints anew
        own = [(w, n) for w, n in squares if sector.holds(w + half, n - half)]
        jobs += [(_write_tile, (out, sector, date, *at)) for date in AERIAL_DATES for at in own]
        inside = [(i, shot) for i, shot in enumerate(shots) if sector.holds(shot.x, shot.y)]
        starts = range(0, len(inside), 50)
        jobs += [(_write_photos, (out, sector, inside[at : at + 50])) for at in starts]
    run_jobs(jobs, num_workers=num_workers, desc="town", unit="job")


def _squares(half_m: float) -> Iterator[tuple[float, float]]:
    """Yield the west and north edge of each orthophoto tile."""
    side = TILE_PIXELS * PIXEL_M
    num = math.ceil(2 * half_m / side)
    for row in range(num):
        for column in range(num):
            yield -num * side / 2 + column * side, num * side / 2 - row * side


def _write_tile(out: Path, sector: _Sector, date: str, west: float, north: float) -> None:
    season, hour = AERIAL_DATES[date]
    image = render_ortho(
        _world(sector), west=west, north=north, num_pixels=TILE_PIXELS, pixel_m=PIXEL_M,
        season=SEASONS[season], light=light_at("clear", hour), seed=int(west * 31 + north) % 2**31,
    )  # fmt: skip
    name = f"x{west:+.0f}_y{north:+.0f}.tif"
    write_geotiff(
        out / "aerial" / date / name, image, west=west, north=north, pixel=PIXEL_M, crs=CRS
    )


def _write_photos(out: Path, sector: _Sector, shots: list[tuple[int, Shot]]) -> None:
    for number, shot in shots:
        photo = _photo(_world(sector), shot, size=_upright(shot, PHOTO_SIZE))
        Image.fromarray(photo).save(out / _photo_path(number), quality=90)


def _upright(shot: Shot, size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of a photo: a phone is held upright."""
    return size[::-1] if shot.camera == "phone" else size


def _photo_path(number: int) -> str:
    return f"photos/{number:06d}.jpg"


def _photo(world: World, shot: Shot, *, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    angle = math.radians(shot.heading_deg)
    focal_px = size[0] / 2 / math.tan(math.radians(shot.hfov_deg / 2))
    camera = Camera(
        shot.x, shot.y, shot.height_m, (math.sin(angle), math.cos(angle)), focal_px, *size
    )
    light = light_at(shot.light, shot.hour)
    return render_photo(world, camera, season=SEASONS[shot.season], light=light, seed=shot.seed)


def _table(shots: list[Shot]) -> PhotoTable:
    from rasterio.warp import transform

    lon, lat = transform(CRS, "EPSG:4326", [shot.x for shot in shots], [shot.y for shot in shots])
    return PhotoTable.from_columns(
        {
            "path": [_photo_path(number) for number in range(len(shots))],
            "lat": lat,
            "lon": lon,
            "heading_deg": [s.heading_deg if s.has_heading else math.nan for s in shots],
            "hfov_deg": [s.hfov_deg if s.has_hfov else math.nan for s in shots],
            "captured_at": [shot.captured_at for shot in shots],
            "camera": [shot.camera for shot in shots],
            "sequence_id": [shot.sequence_id for shot in shots],
            "split": [shot.split for shot in shots],
            "season": [shot.season for shot in shots],
            "light": [shot.light for shot in shots],
            "slice_area": [shot.area for shot in shots],
        }
    )
