"""The plan painted on a grid in (u, v): what covers each square and how high it stands."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix_train.town.plan import (
    ASPHALT,
    DISTRICT_M,
    GRASS,
    MARKING,
    SIDEWALK,
    SIDEWALK_M,
    Building,
    District,
    Floats,
    Rect,
    Street,
    Tree,
    district,
)

RESOLUTION_M = 0.3  # side of a square
HEIGHT_STEP_M = 0.25  # heights are stored in 8 bits: up to 63 m
FIRST_BUILDING = 16  # surfaces below are ground materials, the rest are buildings


class Warp(NamedTuple):
    """Rotation, then two shears: (x, y) -> (u, v), and exactly back."""

    cos: float
    sin: float
    amplitude_m: tuple[float, float]
    wavelength_m: tuple[float, float]

    @classmethod
    def from_seed(cls, seed: int) -> "Warp":
        """Return the warp of a town."""
        rng = np.random.default_rng([seed, 1])
        tangent = rng.uniform(-0.6, 0.6)  # of half the rotation angle
        scale = 1 + tangent * tangent
        return cls(
            cos=(1 - tangent * tangent) / scale,
            sin=2 * tangent / scale,
            amplitude_m=(rng.uniform(30, 60), rng.uniform(30, 60)),
            wavelength_m=(rng.uniform(1100, 1700), rng.uniform(1100, 1700)),
        )

    def uv(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Map metres east and north to the streets' frame."""
        v = self.cos * y - self.sin * x
        u = self.cos * x + self.sin * y + self.amplitude_m[0] * _wave(v / self.wavelength_m[0])
        return u, v + self.amplitude_m[1] * _wave(u / self.wavelength_m[1])

    def xy(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Map the streets' frame back to metres east and north."""
        v = v - self.amplitude_m[1] * _wave(u / self.wavelength_m[1])
        u = u - self.amplitude_m[0] * _wave(v / self.wavelength_m[0])
        return self.cos * u - self.sin * v, self.cos * v + self.sin * u


def _wave(t: Floats) -> Floats:
    """Return a smooth wave of period 1 from 0 to 1, built from products alone."""
    phase = t - np.floor(t)
    half = phase * (1.0 - phase)
    return 16.0 * half * half


@dataclass(frozen=True)
class BuildingTable:
    """Buildings as columns, in the order of their surface numbers."""

    rect: npt.NDArray[np.float32]  # (B, 4)
    eave: npt.NDArray[np.float32]
    facade: npt.NDArray[np.float32]  # (B, 3), 0 to 1
    trim: npt.NDArray[np.float32]
    roof: npt.NDArray[np.float32]
    ridge_along_u: npt.NDArray[np.bool_]
    pitched: npt.NDArray[np.bool_]
    floor_m: npt.NDArray[np.float32]
    bay_m: npt.NDArray[np.float32]
    glass: npt.NDArray[np.float32]

    @classmethod
    def from_buildings(cls, buildings: list[Building]) -> "BuildingTable":
        """Return the columns of `buildings`."""
        rect = np.array([b.rect for b in buildings], np.float32).reshape(-1, 4)
        sides = rect[:, 2:] - rect[:, :2]
        return cls(
            rect=rect,
            eave=np.array([b.eave for b in buildings], np.float32),
            facade=np.array([b.facade for b in buildings], np.float32).reshape(-1, 3),
            trim=np.array([b.trim for b in buildings], np.float32).reshape(-1, 3),
            roof=np.array([b.roof for b in buildings], np.float32).reshape(-1, 3),
            ridge_along_u=sides[:, 0] > sides[:, 1],
            pitched=np.array([b.ridge > b.eave for b in buildings], bool),
            floor_m=np.array([b.floor_m for b in buildings], np.float32),
            bay_m=np.array([b.bay_m for b in buildings], np.float32),
            glass=np.array([b.glass for b in buildings], np.float32),
        )


@dataclass(frozen=True)
class World:
    """A painted window of the plan, with all that a view needs."""

    seed: int
    warp: Warp
    resolution_m: float  # side of a square
    origin: tuple[int, int]  # of the first square, counted along u and v from (0, 0)
    surface: npt.NDArray[np.int32]  # (V, U)
    height: npt.NDArray[np.uint8]  # (V, U), in HEIGHT_STEP_M
    buildings: BuildingTable
    trees: npt.NDArray[np.float64]  # (T, 5): x, y, radius, height, tint

    def index(self, u: Floats, v: Floats) -> npt.NDArray[np.intp]:
        """Return flat indices into the layers; points outside land on the nearest square."""
        rows, columns = self.surface.shape
        column = np.floor(u * (1 / self.resolution_m)).astype(np.intp) - self.origin[0]
        row = np.floor(v * (1 / self.resolution_m)).astype(np.intp) - self.origin[1]
        at = np.clip(row, 0, rows - 1) * columns + np.clip(column, 0, columns - 1)
        return np.asarray(at, np.intp)


def paint(
    seed: int, *, x0: float, y0: float, x1: float, y1: float, resolution_m: float = RESOLUTION_M
) -> World:
    """Paint all districts that touch the box (metres east and north), and one more all around."""
    warp = Warp.from_seed(seed)
    first, last = _districts_around(warp, x0, y0, x1, y1)
    districts = _districts(seed, first, last)
    # Squares are counted from (0, 0), so that they are the same wherever one starts.
    corner, end = (
        [round(at * DISTRICT_M / resolution_m) for at in place]
        for place in (first, (last[0] + 1, last[1] + 1))
    )
    shape = end[1] - corner[1], end[0] - corner[0]
    origin = corner[0], corner[1]
    brush = _Brush(np.full(shape, GRASS, np.int32), np.zeros(shape, np.uint8), origin, resolution_m)
    buildings = [building for d in districts for building in d.buildings]
    _paint_ground(brush, districts)
    for number, building in enumerate(buildings):
        brush.stand(building, FIRST_BUILDING + number)
    trees = _trees_in_xy([tree for d in districts for tree in d.trees], warp)
    table = BuildingTable.from_buildings(buildings)
    return World(seed, warp, resolution_m, origin, brush.surface, brush.height, table, trees)


def streets_around(
    seed: int, warp: Warp, *, x0: float, y0: float, x1: float, y1: float
) -> tuple[Street, ...]:
    """Return the streets that `paint` would paint for the box."""
    districts = _districts(seed, *_districts_around(warp, x0, y0, x1, y1))
    return tuple(street for d in districts for street in d.streets)


def _districts_around(
    warp: Warp, x0: float, y0: float, x1: float, y1: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return column and row of the first and the last district."""
    edges = np.linspace(x0, x1, 33), np.linspace(y0, y1, 33)
    u, v = warp.uv(*(side.ravel() for side in np.meshgrid(*edges)))
    return (
        (int(u.min() // DISTRICT_M) - 1, int(v.min() // DISTRICT_M) - 1),
        (int(u.max() // DISTRICT_M) + 1, int(v.max() // DISTRICT_M) + 1),
    )


def _districts(seed: int, first: tuple[int, int], last: tuple[int, int]) -> list[District]:
    return [
        district(seed, column, row)
        for row in range(first[1], last[1] + 1)
        for column in range(first[0], last[0] + 1)
    ]


@dataclass(frozen=True)
class _Brush:
    surface: npt.NDArray[np.int32]
    height: npt.NDArray[np.uint8]
    origin: tuple[int, int]
    resolution_m: float

    def window(self, rect: Rect) -> tuple[slice, slice]:
        at = [
            max(0, round(value / self.resolution_m) - self.origin[i % 2])
            for i, value in enumerate(rect)
        ]
        return slice(at[1], at[3]), slice(at[0], at[2])

    def fill(self, rect: Rect, material: int) -> None:
        self.surface[self.window(rect)] = material

    def stand(self, building: Building, number: int) -> None:
        window = self.window(building.rect)
        self.surface[window] = number
        rows, columns = self.height[window].shape
        along_u = columns > rows
        across = np.arange(rows)[:, None] if along_u else np.arange(columns)[None, :]
        width = rows if along_u else columns
        climb = np.minimum(across + 0.5, width - across - 0.5) * (2.0 / max(width, 1))  # 0 to 1
        top = building.eave + (building.ridge - building.eave) * climb
        self.height[window] = np.minimum(top / HEIGHT_STEP_M, 255)


def _paint_ground(brush: _Brush, districts: list[District]) -> None:
    streets = [street for d in districts for street in d.streets]
    for patch in (patch for d in districts for patch in d.patches):
        brush.fill(patch.rect, patch.material)
    for street in streets:
        brush.fill(_lane(street, -street.width / 2, street.width / 2), SIDEWALK)
    for street in streets:
        half = street.width / 2 - SIDEWALK_M
        brush.fill(_lane(street, -half, half), ASPHALT)
    for street in streets:
        _mark(brush, street)


def _lane(
    street: Street, left: float, right: float, start: float = 0.0, end: float | None = None
) -> Rect:
    """Return the strip from `left` to `right` of a street's middle, `start` to `end` along it."""
    begin = street.start + start
    stop = street.end if end is None else street.start + end
    if street.along_u:
        return Rect(begin, street.at + left, stop, street.at + right)
    return Rect(street.at + left, begin, street.at + right, stop)


def _mark(brush: _Brush, street: Street) -> None:
    """Paint the centre line (avenues only) and the crossings at both ends."""
    half, length = street.width / 2 - SIDEWALK_M, street.end - street.start
    if street.is_avenue:
        for start in np.arange(16.0, length - 16.0, 9.0):
            brush.fill(_lane(street, -0.15, 0.15, start, start + 4.0), MARKING)
    for end in (13.0, length - 16.0):
        for left in np.arange(-half + 0.6, half - 0.6, 1.2):
            brush.fill(_lane(street, left, left + 0.6, end, end + 3.0), MARKING)


def _trees_in_xy(trees: list[Tree], warp: Warp) -> Floats:
    table = np.array(trees, np.float64).reshape(-1, 5)
    x, y = warp.xy(table[:, 0], table[:, 1])
    return np.column_stack([x, y, table[:, 2:]])
