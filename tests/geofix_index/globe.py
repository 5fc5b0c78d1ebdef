"""Points on the unit sphere, for tests: (..., 3) or (..., 2) degrees, latitude first."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CORNER_LAT = float(np.degrees(np.arctan(np.sqrt(0.5))))  # 35.26: the corners of S2's cube


def unit(points: npt.ArrayLike) -> Floats:
    """Return points moved to the sphere."""
    xyz = np.asarray(points, float)
    return np.asarray(xyz / np.linalg.norm(xyz, axis=-1, keepdims=True))


def latlon_from_xyz(points: npt.ArrayLike) -> Floats:
    """Return the positions of points, which need not lie on the sphere."""
    x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
    latlon = np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=-1)
    return np.asarray(np.degrees(latlon))


def xyz_from_latlon(latlon: npt.ArrayLike) -> Floats:
    """Return the points on the sphere at positions."""
    lat, lon = np.radians(np.moveaxis(np.asarray(latlon, float), -1, 0))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def random_latlon(num: int, *, seed: int) -> Floats:
    """Return positions (num, 2), evenly spread."""
    return latlon_from_xyz(np.random.default_rng(seed).standard_normal((num, 3)))


def latlon_around(
    lat: float, lon: float, *, distances_rad: npt.ArrayLike, bearings_rad: npt.ArrayLike
) -> Floats:
    """Return the positions (N, 2) at distances and bearings (N,) from one position."""
    phi, away = np.radians(lat), np.asarray(distances_rad, float)
    sin_lat = np.sin(phi) * np.cos(away) + np.cos(phi) * np.sin(away) * np.cos(bearings_rad)
    east = np.sin(bearings_rad) * np.sin(away) * np.cos(phi)
    turn = np.degrees(np.arctan2(east, np.cos(away) - np.sin(phi) * sin_lat))
    lats = np.degrees(np.arcsin(np.clip(sin_lat, -1, 1)))
    return np.stack([lats, (lon + turn + 180) % 360 - 180], axis=-1)
