"""A prior that moves with each call, as that of a device under way."""

import math
from dataclasses import dataclass

from geofix.geo import LatLon, latlon_from_east_north
from geofix.prior import Prior

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # steps by it fill a disk evenly and never repeat
_PLACES = 997  # prime, so that it falls in step with no number of photos


@dataclass(frozen=True, slots=True)
class MovingPrior:
    """Disks of one radius whose centres lie within half of it of a place."""

    lat: float
    lon: float
    radius_m: float

    def __post_init__(self) -> None:
        Prior.disk(self.lat, self.lon, radius_m=self.radius_m)  # which checks all three

    def at(self, step: int) -> Prior:
        """Return the prior of a step; neighbouring steps lie far from each other."""
        step %= _PLACES
        reach_m = self.radius_m / 2 * math.sqrt(step / _PLACES)
        angle = step * _GOLDEN_ANGLE
        offset = reach_m * math.cos(angle), reach_m * math.sin(angle)
        centre = latlon_from_east_north(offset, origin=LatLon(self.lat, self.lon)).tolist()
        return Prior.disk(centre[0], centre[1], radius_m=self.radius_m)
