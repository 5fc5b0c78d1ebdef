"""How the town looks on a day: season, sun and sky, and the noise that all surfaces share."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix_train.town.plan import RGB, Floats

# Albedo of the ground materials, in the order of their numbers in plan.py.
_GROUND = np.array(
    [
        (0.30, 0.30, 0.31), (0.86, 0.86, 0.82), (0.58, 0.57, 0.55), (0.36, 0.48, 0.22),
        (0.42, 0.52, 0.28), (0.54, 0.50, 0.46), (0.66, 0.60, 0.48), (0.20, 0.33, 0.40),
        (0.47, 0.44, 0.36), (0.50, 0.42, 0.32),
    ],
    np.float32,
)  # fmt: skip
_IS_GREEN = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0.3, 0.3], np.float32)[:, None]


class Season(NamedTuple):
    """What the year does to plants and ground."""

    name: str
    grass: RGB
    leaves: RGB
    foliage: float  # share of a crown that is covered with leaves
    snow: float


SEASONS = {
    "summer": Season("summer", (0.36, 0.48, 0.22), (0.24, 0.40, 0.16), 1.0, 0.0),
    "autumn": Season("autumn", (0.45, 0.44, 0.24), (0.62, 0.40, 0.14), 0.85, 0.0),
    "winter": Season("winter", (0.52, 0.50, 0.38), (0.36, 0.30, 0.25), 0.45, 0.35),
    "spring": Season("spring", (0.40, 0.54, 0.22), (0.42, 0.56, 0.22), 0.8, 0.0),
}


class Light(NamedTuple):
    """Sun and sky."""

    name: str
    sun_xy: tuple[float, float]  # unit vector towards the sun, east and north
    sun_slope: float  # tangent of the sun's elevation
    sun: float  # strength of direct light
    ambient: float
    tone: RGB
    sky: RGB


def light_at(name: str, hour: float) -> Light:
    """Return the light of `name` ("clear", "overcast" or "low sun") at an hour of the day."""
    # The sun's way in a rational parametrisation: east at 6 h, south at 12 h, west at 18 h.
    t = (hour - 12.0) / 6.0
    scale = 1 + t * t
    sun_xy = (-2 * t / scale, -(1 - t * t) / scale)
    slope = 0.35 + 0.9 * max(0.0, 1 - t * t)
    if name == "overcast":
        return Light(name, sun_xy, slope, 0.12, 0.82, (0.95, 0.98, 1.02), (0.80, 0.82, 0.85))
    if name == "low sun":
        return Light(name, sun_xy, 0.35, 0.55, 0.52, (1.06, 0.98, 0.88), (0.88, 0.80, 0.72))
    if name == "clear":
        return Light(name, sun_xy, slope, 0.50, 0.66, (1.03, 1.0, 0.95), (0.56, 0.71, 0.90))
    raise ValueError(f"light is {name!r}, want 'clear', 'overcast' or 'low sun'")


def ground_colours(season: Season) -> npt.NDArray[np.float32]:
    """Return the albedo of each ground material, (10, 3)."""
    green = np.asarray(season.grass, np.float32) * (_GROUND / _GROUND[3])
    colours = _GROUND * (1 - _IS_GREEN) + green * _IS_GREEN
    snow = season.snow * (0.4 + 0.6 * _IS_GREEN)
    return np.asarray(np.clip(colours * (1 - snow) + 0.9 * snow, 0.0, 1.0), np.float32)


def noise(u: Floats, v: Floats, *, scale_m: float, seed: int) -> npt.NDArray[np.float32]:
    """Return noise from -1 to 1, constant within squares of `scale_m`."""
    a = np.floor(u / scale_m).astype(np.int64).astype(np.uint32)
    b = np.floor(v / scale_m).astype(np.int64).astype(np.uint32)
    mixed = (
        a * np.uint32(0x9E3779B1) ^ b * np.uint32(0x85EBCA77) ^ np.uint32(seed * 7919 & 0xFFFFFFFF)
    )
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    mixed = (mixed ^ (mixed >> np.uint32(12))) * np.uint32(0x297A2D39)
    return (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)


def grain(num_rows: int, num_columns: int, *, seed: int) -> npt.NDArray[np.float32]:
    """Return sensor noise from -1 to 1, (num_rows, num_columns, 1)."""
    rows, columns = np.mgrid[0:num_rows, 0:num_columns].astype(np.float64)
    return noise(columns, rows, scale_m=1.0, seed=seed)[..., None]
