"""Write a town as an ordinary data set: a photo table, photos, GeoTIFF orthophotos of two dates."""

import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from geofix_train.aerial import write_geotiff
from geofix_train.photo_table import PhotoTable, write_photo_table
from geofix_train.town.drives import Shot, plan_drives
from geofix_train.town.light import SEASONS, light_at
from geofix_train.town.ortho import render_ortho
from geofix_train.town.raster import World, paint
from geofix_train.town.street_view import Camera, render_photo

TOWN_VERSION = 1  # grows when the look of the town changes
CENTRE = (47.37, 8.54)  # WGS84 latitude and longitude of (x, y) = (0, 0)
PHOTO_SIZE = (128, 96)
PIXEL_M = 0.6
TILE_PIXELS = 512
MARGIN_M = 160.0  # imagery reaches this far beyond the photos
AERIAL_DATES = {"2023-07-05": ("summer", 10.5), "2024-10-20": ("autumn", 14.0)}

# Metres on a transverse Mercator plane through the centre, so that the town's x and y are true
# metres there (the scale is off by less than 1e-6 within 6 km).
CRS = f"+proj=tmerc +lat_0={CENTRE[0]} +lon_0={CENTRE[1]} +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m"


@dataclass(frozen=True)
class _Job:
    """What a worker needs to paint the same world again."""

    seed: int
    half_m: float

    def world(self) -> World:
        reach = self.half_m + MARGIN_M + 60.0
        return paint(self.seed, x0=-reach, y0=-reach, x1=reach, y1=reach)


def make_town(
    out: Path, *, size_km: float, num_photos: int, seed: int, num_workers: int = 0
) -> PhotoTable:
    """Write a town to the folder `out` and return its photo table.

    Args:
        out: receives `photos.parquet`, `photos/`, `aerial/DATE/*.tif`, `town.json` and
            `contact_sheet.png`.
        size_km: side of the square that photos are taken in, at least 0.8.
        num_photos: of all splits together, at least 50.
        seed: the same seed and `TOWN_VERSION` give the same pixels everywhere.
        num_workers: processes; 0 means one a core. They are spawned: a program that calls this
            does so under `if __name__ == "__main__":`.

    Raises:
        ValueError: a size or number out of range.
        FileExistsError: `out` holds something already.
    """
    if not 0.8 <= size_km <= 20:
        raise ValueError(f"--size-km is {size_km}, want 0.8 to 20")
    if num_photos < 50:
        raise ValueError(f"--photos is {num_photos}, want at least 50")
    if seed < 0:
        raise ValueError(f"--seed is {seed}, want 0 or more")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: choose another folder or remove it")
    out.mkdir(parents=True, exist_ok=True)
    job = _Job(seed, size_km * 500.0)
    world = job.world()
    shots = plan_drives(
        world.streets, world.warp, size_m=2 * job.half_m, num_photos=num_photos, seed=seed
    )
    _write_images(out, job, shots, num_workers or os.cpu_count() or 1)
    table = _table(shots)
    write_photo_table(table, out / "photos.parquet")
    facts = {
        "town_version": TOWN_VERSION,
        "seed": seed,
        "size_km": size_km,
        "num_photos": len(shots),
    }
    (out / "town.json").write_text(json.dumps(facts, indent=2) + "\n")
    contact_sheet(world, shots).save(out / "contact_sheet.png")
    return table


def contact_sheet(world: World, shots: list[Shot]) -> Image.Image:
    """Return a picture of the town: both orthophotos and twelve photos."""
    pixels = 440
    views = [
        render_ortho(
            world, west=-220.0, north=220.0, num_pixels=pixels, pixel_m=1.0,
            season=SEASONS[season], light=light_at("clear", hour), seed=1,
        )
        for season, hour in AERIAL_DATES.values()
    ]  # fmt: skip
    sheet = Image.new("RGB", (2 * pixels + 3 * 290 + 40, 2 * pixels // 2 + 10), "white")
    for number, view in enumerate(views):
        sheet.paste(Image.fromarray(view), (number * (pixels + 10), 0))
    picks = np.linspace(0, len(shots) - 1, 6).astype(int)
    for number, pick in enumerate(picks):
        photo = Image.fromarray(_photo(world, shots[pick], size=(290, 215)))
        at = (2 * (pixels + 10) + number % 3 * 300, number // 3 * 225)
        sheet.paste(photo, at)
    return sheet.crop((0, 0, sheet.width, pixels))


_worker_world: World | None = None


def _start_worker(job: _Job) -> None:
    global _worker_world
    _worker_world = job.world()


def _world_here() -> World:
    if _worker_world is None:
        raise RuntimeError("no world was painted in this process")
    return _worker_world


def _write_images(out: Path, job: _Job, shots: list[Shot], num_workers: int) -> None:
    (out / "photos").mkdir()
    squares = list(_squares(job.half_m + MARGIN_M))
    for date in AERIAL_DATES:
        (out / "aerial" / date).mkdir(parents=True)
    context = get_context("spawn")  # forking a process that may hold threads is not safe
    with ProcessPoolExecutor(num_workers, context, _start_worker, (job,)) as pool:
        jobs = [
            *(pool.submit(_write_tile, out, date, *at) for date in AERIAL_DATES for at in squares),
            *(
                pool.submit(_write_photos, out, list(enumerate(shots))[start : start + 50])
                for start in range(0, len(shots), 50)
            ),
        ]
        try:
            for done in tqdm(jobs, desc="town", unit="job", disable=None):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _squares(half_m: float) -> Iterator[tuple[float, float]]:
    """Yield the west and north edge of each orthophoto tile."""
    side = TILE_PIXELS * PIXEL_M
    num = math.ceil(2 * half_m / side)
    for row in range(num):
        for column in range(num):
            yield -num * side / 2 + column * side, num * side / 2 - row * side


def _write_tile(out: Path, date: str, west: float, north: float) -> None:
    season, hour = AERIAL_DATES[date]
    image = render_ortho(
        _world_here(), west=west, north=north, num_pixels=TILE_PIXELS, pixel_m=PIXEL_M,
        season=SEASONS[season], light=light_at("clear", hour), seed=int(west * 31 + north) % 2**31,
    )  # fmt: skip
    name = f"x{west:+.0f}_y{north:+.0f}.tif"
    write_geotiff(
        out / "aerial" / date / name, image, west=west, north=north, pixel=PIXEL_M, crs=CRS
    )


def _write_photos(out: Path, shots: list[tuple[int, Shot]]) -> None:
    for number, shot in shots:
        image = Image.fromarray(_photo(_world_here(), shot, size=PHOTO_SIZE))
        image.save(out / _photo_path(number), quality=90)


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
        }
    )
