"""What stands where: streets, blocks, buildings and trees of each district, from a seed.

A district is one square of `DISTRICT_M` in (u, v), bounded by avenues and cut by streets into
blocks. It depends on nothing but the seed and its place, so the plan has no edge: land around a
town comes from the same functions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DISTRICT_M = 400.0
AVENUE_M = 18.0  # kerb to kerb and both sidewalks
SIDEWALK_M = 2.5

RGB = tuple[float, float, float]
Floats = npt.NDArray[np.float64]


class Rect(NamedTuple):
    """A rectangle in (u, v)."""

    u0: float
    v0: float
    u1: float
    v1: float

    def shrink(self, margin: float) -> "Rect":
        """Return the rectangle without a border of `margin` metres."""
        return Rect(self.u0 + margin, self.v0 + margin, self.u1 - margin, self.v1 - margin)

    @property
    def sides(self) -> tuple[float, float]:
        """Extent along u and along v."""
        return self.u1 - self.u0, self.v1 - self.v0


class Street(NamedTuple):
    """A straight street in (u, v): along u at v = `at`, or along v at u = `at`."""

    along_u: bool
    at: float
    start: float
    end: float
    width: float
    district: tuple[int, int]

    @property
    def is_avenue(self) -> bool:
        """Whether the street bounds districts."""
        return self.width == AVENUE_M


class Building(NamedTuple):
    """A box with windows and a roof."""

    rect: Rect
    eave: float
    ridge: float  # equal to eave: a flat roof
    facade: RGB
    trim: RGB  # ground floor and window frames
    roof: RGB
    floor_m: float
    bay_m: float
    glass: float  # share of a bay and a floor that is window


class Tree(NamedTuple):
    """A trunk and a round crown."""

    u: float
    v: float
    radius: float
    height: float
    tint: float  # -1 to 1


class Patch(NamedTuple):
    """A rectangle of one ground material."""

    rect: Rect
    material: int


class Kind(NamedTuple):
    """The character of a district: what its blocks look like."""

    name: str
    block_m: float
    street_m: float
    floors: tuple[int, int]
    trees_per_ha: float
    street_tree_share: float


ASPHALT, MARKING, SIDEWALK, GRASS, LAWN, PAVING, GRAVEL, WATER, YARD, EARTH = range(10)

KINDS = (
    Kind("old town", 100.0, 11.0, (3, 5), 6.0, 0.15),
    Kind("houses", 105.0, 12.0, (1, 2), 32.0, 0.35),
    Kind("slabs", 140.0, 14.0, (5, 11), 22.0, 0.5),
    Kind("works", 170.0, 14.0, (1, 3), 4.0, 0.1),
    Kind("park", 230.0, 10.0, (2, 3), 75.0, 0.8),
)


@dataclass(frozen=True)
class District:
    """Everything that stands in one square of the plan."""

    kind: Kind
    streets: tuple[Street, ...]
    patches: tuple[Patch, ...]
    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]


# Plaster, brick and render.
_FACADES: tuple[RGB, ...] = (
    (0.90, 0.86, 0.76), (0.86, 0.74, 0.50), (0.70, 0.36, 0.27), (0.62, 0.68, 0.56),
    (0.58, 0.66, 0.74), (0.84, 0.62, 0.52), (0.74, 0.72, 0.69), (0.54, 0.45, 0.38),
    (0.88, 0.70, 0.64), (0.52, 0.56, 0.60), (0.80, 0.80, 0.60), (0.46, 0.52, 0.47),
)  # fmt: skip


@dataclass(frozen=True)
class Palette:
    """The colours of a district: a few facades, each with the roof that goes with it.

    A street photo shows facades and an aerial tile shows roofs. That a roof is of the same hue as
    its facade, darker and stronger, is what lets one learn which tile belongs to which photo.
    """

    facades: tuple[RGB, ...]
    roofs: tuple[RGB, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Palette":
        """Return nine pairs of facade and roof."""
        facades = tuple(_FACADES[i] for i in rng.choice(len(_FACADES), size=9, replace=False))
        return cls(facades, tuple(map(_roof_of, facades)))

    def of_block(self, rng: np.random.Generator) -> "Palette":
        """Return the colours of one block: three of the district's."""
        chosen = rng.permutation(len(self.facades))[:3]
        return Palette(tuple(self.facades[i] for i in chosen), tuple(self.roofs[i] for i in chosen))

    def pick(self, rng: np.random.Generator) -> tuple[RGB, RGB]:
        """Return facade and roof of a new building in a block."""
        number = int(rng.choice(3, p=(0.65, 0.25, 0.1)))
        return _weathered(self.facades[number], rng), _weathered(self.roofs[number], rng)


def _roof_of(facade: RGB) -> RGB:
    gray = sum(facade) / 3
    red, green, blue = (min(1.0, max(0.0, 0.68 * (gray + 2.0 * (c - gray)))) for c in facade)
    return red, green, blue


def _weathered(colour: RGB, rng: np.random.Generator) -> RGB:
    shade = rng.uniform(0.86, 1.08)
    red, green, blue = (min(1.0, c * shade + rng.uniform(-0.03, 0.03)) for c in colour)
    return red, green, blue


@lru_cache(maxsize=4096)
def district(seed: int, column: int, row: int) -> District:
    """Return the district whose (u, v) square starts at (column, row) x DISTRICT_M."""
    rng = np.random.default_rng([seed, column + 2**20, row + 2**20])
    kind = KINDS[rng.choice(len(KINDS), p=(0.27, 0.27, 0.2, 0.14, 0.12))]
    palette = Palette.draw(rng)
    square = Rect(
        column * DISTRICT_M, row * DISTRICT_M, (column + 1) * DISTRICT_M, (row + 1) * DISTRICT_M
    )
    streets = [
        Street(True, square.v0, square.u0, square.u1, AVENUE_M, (column, row)),
        Street(False, square.u0, square.v0, square.v1, AVENUE_M, (column, row)),
    ]
    blocks = list(_split(square.shrink(AVENUE_M / 2), kind, (column, row), rng, streets))
    patches: list[Patch] = []
    buildings: list[Building] = []
    trees = [tree for street in streets for tree in _street_trees(street, kind, rng)]
    for block in blocks:
        _fill(block, kind, palette, rng, patches, buildings, trees)
    return District(kind, tuple(streets), tuple(patches), tuple(buildings), tuple(trees))


def _split(
    block: Rect,
    kind: Kind,
    place: tuple[int, int],
    rng: np.random.Generator,
    streets: list[Street],
) -> Iterator[Rect]:
    """Cut `block` by streets until its parts are small; append the streets, yield the parts."""
    size_u, size_v = block.sides
    if max(size_u, size_v) < kind.block_m * 1.5:
        yield block
        return
    share, half = rng.uniform(0.36, 0.64), kind.street_m / 2
    if size_u > size_v:
        at = block.u0 + share * size_u
        # A street runs to the middle of the street that it meets.
        streets.append(Street(False, at, block.v0 - half, block.v1 + half, kind.street_m, place))
        parts = block._replace(u1=at - half), block._replace(u0=at + half)
    else:
        at = block.v0 + share * size_v
        streets.append(Street(True, at, block.u0 - half, block.u1 + half, kind.street_m, place))
        parts = block._replace(v1=at - half), block._replace(v0=at + half)
    for part in parts:
        yield from _split(part, kind, place, rng, streets)


def _street_trees(street: Street, kind: Kind, rng: np.random.Generator) -> Iterator[Tree]:
    if rng.uniform() > kind.street_tree_share:
        return
    spacing, radius = rng.uniform(9.0, 16.0), rng.uniform(1.6, 2.8)
    for side in (-1.0, 1.0):
        across = street.at + side * (street.width / 2 - 1.2)
        for along in np.arange(street.start + 14.0, street.end - 14.0, spacing):
            u, v = (along, across) if street.along_u else (across, along)
            grown = radius * rng.uniform(0.85, 1.15)
            yield Tree(float(u), float(v), grown, 2.2 + 2.1 * grown, rng.uniform(-1, 1))


def _fill(
    block: Rect,
    kind: Kind,
    palette: Palette,
    rng: np.random.Generator,
    patches: list[Patch],
    buildings: list[Building],
    trees: list[Tree],
) -> None:
    """Furnish one block after the character of its district."""
    first = len(buildings)
    palette = palette.of_block(rng)
    if kind.name == "park" or rng.uniform() < 0.04:
        patches.extend(_park(block, rng))
        ground = GRASS
    elif kind.name == "old town":
        ground = PAVING if rng.uniform() < 0.5 else YARD
        buildings.extend(_perimeter(block, kind, palette, rng))
    elif kind.name == "houses":
        ground = LAWN
        buildings.extend(_rows(block, kind, palette, rng, lot=(21.0, 24.0), fill=0.5))
    elif kind.name == "slabs":
        ground = GRASS
        buildings.extend(_rows(block, kind, palette, rng, lot=(64.0, 40.0), fill=0.55))
    else:
        ground = PAVING if rng.uniform() < 0.7 else EARTH
        buildings.extend(_rows(block, kind, palette, rng, lot=(75.0, 58.0), fill=0.75))
    patches.insert(0, Patch(block, ground))  # parks' paths and ponds lie on top
    taken = [building.rect for building in buildings[first:]]
    taken += [patch.rect for patch in patches if patch.material == WATER]
    trees.extend(_block_trees(block.shrink(2.0), kind, taken, rng))


def _building(
    rect: Rect,
    kind: Kind,
    palette: Palette,
    rng: np.random.Generator,
    *,
    floors: int,
    pitched: bool,
) -> Building:
    floor_m = 5.5 if kind.name == "works" else rng.uniform(2.9, 3.4)
    eave = floors * floor_m + 0.6
    rise = 0.32 * min(rect.sides) if pitched else 0.0
    facade, roof = palette.pick(rng)
    dark = rng.uniform(0.55, 0.95)
    return Building(
        rect=rect,
        eave=eave,
        ridge=eave + rise,
        facade=facade,
        trim=(facade[0] * dark, facade[1] * dark, facade[2] * dark),
        roof=roof,
        floor_m=floor_m,
        bay_m=rng.uniform(1.8, 3.6) * (2.0 if kind.name == "works" else 1.0),
        glass=rng.uniform(0.35, 0.75),
    )


def _perimeter(
    block: Rect, kind: Kind, palette: Palette, rng: np.random.Generator
) -> Iterator[Building]:
    """Houses wall to wall around a yard."""
    inner, depth = block.shrink(0.3), 11.5
    if min(inner.sides) < 2.5 * depth:
        yield from _rows(block, kind, palette, rng, lot=(15.0, 15.0), fill=0.9)
        return
    strips = (
        (True, inner.u0, inner.u1, inner.v0),
        (True, inner.u0, inner.u1, inner.v1 - depth),
        (False, inner.v0 + depth, inner.v1 - depth, inner.u0),
        (False, inner.v0 + depth, inner.v1 - depth, inner.u1 - depth),
    )
    for along_u, start, end, across in strips:
        while end - start > 7.0:
            width = min(rng.uniform(10.0, 19.0), end - start)
            if end - start - width < 7.0:
                width = end - start
            if rng.uniform() > 0.06:  # a gap lets one look into the yard
                rect = Rect(start, across, start + width, across + depth)
                if not along_u:
                    rect = Rect(across, start, across + depth, start + width)
                floors = int(rng.integers(kind.floors[0], kind.floors[1] + 1))
                yield _building(rect, kind, palette, rng, floors=floors, pitched=True)
            start += width


def _rows(
    block: Rect,
    kind: Kind,
    palette: Palette,
    rng: np.random.Generator,
    *,
    lot: tuple[float, float],
    fill: float,
) -> Iterator[Building]:
    """Free-standing buildings on a grid of lots, each filling a share of its lot's sides."""
    inner = block.shrink(2.0)
    if rng.uniform() < 0.5:
        lot = lot[1], lot[0]
    num_u, num_v = (max(1, round(side / want)) for side, want in zip(inner.sides, lot, strict=True))
    step_u, step_v = inner.sides[0] / num_u, inner.sides[1] / num_v
    style = rng.uniform(0.85, 1.15, size=2) * fill**0.5
    pitched = kind.name == "houses" or (kind.name == "old town" and rng.uniform() < 0.8)
    for column in range(num_u):
        for row in range(num_v):
            if rng.uniform() < 0.1:
                continue
            share = np.minimum(style * rng.uniform(0.9, 1.1, size=2), 0.94)
            size_u, size_v = float(step_u * share[0]), float(step_v * share[1])
            u0 = inner.u0 + (column + rng.uniform(0.3, 0.7)) * step_u - size_u / 2
            v0 = inner.v0 + (row + rng.uniform(0.3, 0.7)) * step_v - size_v / 2
            u0 = float(np.clip(u0, inner.u0, inner.u1 - size_u))
            v0 = float(np.clip(v0, inner.v0, inner.v1 - size_v))
            floors = int(rng.integers(kind.floors[0], kind.floors[1] + 1))
            rect = Rect(u0, v0, u0 + size_u, v0 + size_v)
            yield _building(rect, kind, palette, rng, floors=floors, pitched=pitched)


def _park(block: Rect, rng: np.random.Generator) -> Iterator[Patch]:
    """Paths across the block and, in most, a pond."""
    size_u, size_v = block.sides
    at_u, at_v = (
        block.u0 + size_u * rng.uniform(0.3, 0.7),
        block.v0 + size_v * rng.uniform(0.3, 0.7),
    )
    if rng.uniform() < 0.6:
        pond_u, pond_v = size_u * rng.uniform(0.15, 0.28), size_v * rng.uniform(0.15, 0.28)
        yield Patch(
            Rect(block.u0 + 6, block.v0 + 6, block.u0 + 6 + pond_u, block.v0 + 6 + pond_v), WATER
        )
    yield Patch(Rect(at_u - 1.5, block.v0, at_u + 1.5, block.v1), GRAVEL)
    yield Patch(Rect(block.u0, at_v - 1.5, block.u1, at_v + 1.5), GRAVEL)


def _block_trees(
    block: Rect, kind: Kind, taken: list[Rect], rng: np.random.Generator
) -> Iterator[Tree]:
    """Trees where nothing else stands."""
    size_u, size_v = block.sides
    if size_u <= 0 or size_v <= 0:
        return
    count = int(size_u * size_v / 10_000 * kind.trees_per_ha * rng.uniform(0.4, 1.6))
    for _ in range(count):
        u, v = rng.uniform(block.u0, block.u1), rng.uniform(block.v0, block.v1)
        radius = rng.uniform(1.5, 4.2)
        if all(u + 1 < r.u0 or u - 1 > r.u1 or v + 1 < r.v0 or v - 1 > r.v1 for r in taken):
            yield Tree(u, v, radius, 2.0 + 2.2 * radius, rng.uniform(-1, 1))
