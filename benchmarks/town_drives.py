"""Drives through the demo's town that training never saw, photographed along the way.

Planned as the town's own test drives are, with other seeds: other routes, cameras, seasons and
lights, through all streets of the town, those without training photos included.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.warp import transform

from geofix_train.town.dataset import CRS, MARGIN_M, PHOTO_SIZE, SIGHT_M
from geofix_train.town.drives import Shot, plan_drives
from geofix_train.town.light import SEASONS, light_at
from geofix_train.town.raster import Warp, World, paint, streets_around
from geofix_train.town.street_view import Camera, render_photo

MIN_PHOTOS = 50  # of a drive
_NUM_PLANNED = (
    14_000  # photos of all splits, of which an eighth are of test drives on these streets
)

Image = npt.NDArray[np.uint8]


class Frame(NamedTuple):
    """A photo of a drive, and the truth about it."""

    photo: Image
    lat: float
    lon: float
    time: float  # seconds
    camera: str


@dataclass(frozen=True)
class Town:
    """A town that fits into one painting: at most some 1.2 km wide."""

    seed: int
    size_km: float

    def drives(self, seed: int) -> Iterator[list[Frame]]:
        """Yield drives of at least `MIN_PHOTOS` photos."""
        reach = self.size_km * 500.0 + MARGIN_M
        warp = Warp.from_seed(self.seed)
        streets = streets_around(self.seed, warp, x0=-reach, y0=-reach, x1=reach, y1=reach)
        shots = plan_drives(
            streets, warp, size_m=1000 * self.size_km, num_photos=_NUM_PLANNED, seed=seed
        )
        far = reach + SIGHT_M
        world = paint(self.seed, x0=-far, y0=-far, x1=far, y1=far)
        for _, drive in groupby(shots, key=lambda shot: shot.sequence_id):
            taken = list(drive)
            if len(taken) >= MIN_PHOTOS and taken[0].split == "test":
                yield _frames(world, taken)


def _frames(world: World, shots: list[Shot]) -> list[Frame]:
    lon, lat = transform(CRS, "EPSG:4326", [shot.x for shot in shots], [shot.y for shot in shots])
    return [
        Frame(
            _photo(world, shot),
            lat[i],
            lon[i],
            datetime.fromisoformat(shot.captured_at).timestamp(),
            shot.camera,
        )
        for i, shot in enumerate(shots)
    ]


def _photo(world: World, shot: Shot) -> Image:
    width, height = PHOTO_SIZE[::-1] if shot.camera == "phone" else PHOTO_SIZE
    angle = math.radians(shot.heading_deg)
    focal_px = width / 2 / math.tan(math.radians(shot.hfov_deg / 2))
    forward = (math.sin(angle), math.cos(angle))
    camera = Camera(shot.x, shot.y, shot.height_m, forward, focal_px, width, height)
    light = light_at(shot.light, shot.hour)
    return render_photo(world, camera, season=SEASONS[shot.season], light=light, seed=shot.seed)
