"""Positions on the globe: WGS84 degrees, latitude first; distances in metres on a sphere."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geofix_index.sphere import EARTH_RADIUS_M, great_circle_m, unit_vectors

Floats = npt.NDArray[np.float64]


Covariance = tuple[tuple[float, float], tuple[float, float]]  # east-north, m²; symmetric


@dataclass(frozen=True, slots=True)
class LatLon:
    """A position in degrees."""

    lat: float
    lon: float

    def __post_init__(self) -> None:
        if not abs(self.lat) <= 90:
            raise ValueError(f"lat is {self.lat}, want -90 to 90 degrees")
        if not abs(self.lon) <= 180:
            raise ValueError(f"lon is {self.lon}, want -180 to 180 degrees")

    def __iter__(self) -> Iterator[float]:
        """Yield latitude and longitude, so that `lat, lon = fix.latlon`."""
        yield self.lat
        yield self.lon

    def __getitem__(self, number: int) -> float:
        """Return the latitude for 0, the longitude for 1."""
        return (self.lat, self.lon)[number]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A box in degrees. `west > east` means that it crosses the antimeridian."""

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        if not -90 <= self.south <= self.north <= 90:
            raise ValueError(f"want -90 <= south <= north <= 90, got {self.south}, {self.north}")
        if not (abs(self.west) <= 180 and abs(self.east) <= 180):
            raise ValueError(f"want -180 <= west, east <= 180, got {self.west}, {self.east}")

    @property
    def width_deg(self) -> float:
        """Extent in longitude, 0 to 360."""
        return self.east - self.west + (360 if self.west > self.east else 0)


def distance_m(a: LatLon, b: LatLon) -> float:
    """Return the great-circle distance in metres."""
    return float(great_circle_m(a.lat, a.lon, b.lat, b.lon))


def east_north_m(lat: npt.ArrayLike, lon: npt.ArrayLike, *, origin: LatLon) -> Floats:
    """Return metres east and north of `origin`, (..., 2).

    Azimuthal equidistant: distances and directions from the origin are true everywhere, also at a
    pole and across the antimeridian.
    """
    points = unit_vectors(lat, lon)
    axes = _axes(origin)
    east, north, up = (points @ axis for axis in axes)
    flat = np.hypot(east, north)
    angle = np.arctan2(flat, up)
    stretch = EARTH_RADIUS_M * np.where(flat > 0, angle / np.where(flat > 0, flat, 1.0), 1.0)
    return np.stack([east * stretch, north * stretch], axis=-1)


def latlon_from_east_north(east_north: npt.ArrayLike, *, origin: LatLon) -> Floats:
    """Return positions (..., 2) in degrees of metres east and north (..., 2) of `origin`."""
    offsets = np.asarray(east_north, float) / EARTH_RADIUS_M
    angle = np.hypot(offsets[..., 0], offsets[..., 1])[..., None]
    direction = offsets / np.where(angle > 0, angle, 1.0)
    east, north, up = _axes(origin)
    flat = direction[..., :1] * east + direction[..., 1:] * north
    x, y, z = np.moveaxis(flat * np.sin(angle) + up * np.cos(angle), -1, 0)
    latlon = np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=-1)
    return np.asarray(np.degrees(latlon))


def _axes(origin: LatLon) -> tuple[Floats, Floats, Floats]:
    """Return unit vectors east, north and up at a position."""
    phi, lam = math.radians(origin.lat), math.radians(origin.lon)
    sin_phi, cos_phi, sin_lam, cos_lam = math.sin(phi), math.cos(phi), math.sin(lam), math.cos(lam)
    return (
        np.array([-sin_lam, cos_lam, 0.0]),
        np.array([-sin_phi * cos_lam, -sin_phi * sin_lam, cos_phi]),
        np.array([cos_phi * cos_lam, cos_phi * sin_lam, sin_phi]),
    )
