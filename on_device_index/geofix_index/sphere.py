"""Distances on the globe, taken as a sphere. Positions are WGS84 degrees, latitude first."""

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_M = 6_371_008.8  # mean radius (IUGG); a short arc is off by at most 0.6 % of WGS84's

Floats = npt.NDArray[np.float64]


def unit_vectors(lat: npt.ArrayLike, lon: npt.ArrayLike) -> Floats:
    """Return points on the unit sphere, (..., 3), of positions in degrees."""
    phi, lam = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def great_circle_m(
    lat1: npt.ArrayLike, lon1: npt.ArrayLike, lat2: npt.ArrayLike, lon2: npt.ArrayLike
) -> Floats:
    """Return great-circle distances in metres between positions in degrees; arrays broadcast."""
    phi1, lambda1, phi2, lambda2 = (
        np.radians(np.asarray(x, float)) for x in (lat1, lon1, lat2, lon2)
    )
    # The haversine formula keeps its precision for near points.
    h = np.sin((phi2 - phi1) / 2) ** 2
    h = h + np.cos(phi1) * np.cos(phi2) * np.sin((lambda2 - lambda1) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(h, 1.0))))
