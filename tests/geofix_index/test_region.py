import numpy as np
import numpy.typing as npt
import pytest
import s2sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix_index import Box, CellUnion, Disk, Region
from geofix_index import cells as s2
from geofix_index.sphere import EARTH_RADIUS_M, great_circle_m
from tests.geofix_index.globe import latlon_around

Cells = npt.NDArray[np.uint64]

LATS, LONS = st.floats(-90, 90), st.floats(-180, 180)
LEVELS = st.integers(2, 30)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    """Draw a disk from a few centimetres wide to more than the globe."""
    radius_m = 10.0 ** draw(st.floats(-1, 7.4))
    return Disk(draw(LATS), draw(LONS), radius_m=radius_m)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Draw a box, large or small, maybe across the antimeridian, maybe up to a pole."""
    south, west = draw(LATS), draw(LONS)
    height, width = 10.0 ** draw(st.floats(-5, 2.2)), 10.0 ** draw(st.floats(-5, 2.5))
    return Box(south, west, min(south + height, 90.0), (west + min(width, 360) + 180) % 360 - 180)


@st.composite
def unions(draw: st.DrawFn) -> list[int]:
    """Draw cells of many sizes, some inside others."""
    found = []
    for lat, lon in draw(st.lists(st.tuples(LATS, LONS), min_size=1, max_size=4)):
        levels = draw(st.lists(LEVELS, min_size=1, max_size=3))
        found += [int(s2.cell_from_latlon(lat, lon, level=level)) for level in levels]
    return found


def cells_at_border(region: Disk | Box, *, level: int, seed: int) -> Cells:
    """Return cells inside the region and close to its border, on both sides."""
    rng = np.random.default_rng(seed)
    shares = np.concatenate([rng.uniform(0, 1, 20), rng.normal(1, 1e-3, 20), [0, 1]])
    if isinstance(region, Disk):
        latlon = latlon_around(
            region.lat,
            region.lon,
            distances_rad=np.minimum(shares * region.radius_m / EARTH_RADIUS_M, np.pi),
            bearings_rad=rng.uniform(0, 2 * np.pi, len(shares)),
        )
    else:
        width = region.east - region.west + (360 if region.west > region.east else 0)
        lats = region.south + (region.north - region.south) * rng.permutation(shares)
        lons = region.west + width * shares
        latlon = np.stack([np.clip(lats, -90, 90), (lons + 180) % 360 - 180], axis=-1)
    return s2.cell_from_latlon(*latlon.T, level=level)


def assert_touches_all_above(region: Region, admitted: Cells) -> None:
    """Check each ancestor of cells that belong to the region."""
    for level in range(int(s2.level_of(admitted).max(initial=0)) + 1):
        finer = admitted[s2.level_of(admitted) >= level]
        above = s2.parent(finer, level=level)
        missed = above[~region.touches(above)]
        assert len(missed) == 0, f"{region} does not touch {s2.token_from_cell(int(missed[0]))}"


@settings(max_examples=150)
@given(disks() | boxes(), LEVELS, SEEDS)
def test_touches_is_never_a_false_no(region: Disk | Box, level: int, seed: int) -> None:
    cells = cells_at_border(region, level=level, seed=seed)
    assert_touches_all_above(region, cells[region.admits(cells)])


@given(unions())
def test_touches_is_never_a_false_no_for_a_union(pieces: list[int]) -> None:
    union = CellUnion(pieces)
    inside = s2.parent(s2.leaf_range(pieces)[0], level=30)
    admitted = np.concatenate([np.array(pieces, np.uint64), inside])
    assert union.admits(admitted).all()
    assert_touches_all_above(union, admitted)


@given(LATS, LONS, SEEDS)
def test_a_disk_up_to_the_antipodes_still_touches_its_finest_cells(
    lat: float, lon: float, seed: int
) -> None:
    # There great_circle_m moves in steps of 0.1 m, more than the size of such cells.
    near = np.random.default_rng(seed).normal((-lat, lon), 1e-7, (20, 2))
    lats, lons = np.clip(near[:, 0], -90, 90), near[:, 1] % 360 - 180
    cells = s2.cell_from_latlon(lats, lons, level=30)
    farthest = Disk(lat, lon, np.pi * EARTH_RADIUS_M - 0.1)
    assert_touches_all_above(farthest, cells[farthest.admits(cells)])


@pytest.mark.parametrize("level", [0, 1, 3, 6])
def test_touches_reaches_the_corners_of_the_longest_cells(level: int) -> None:
    faces = s2.cell_from_latlon([0, 0, 90, 0, 0, -90], [0, 90, 0, 180, -90, 0], level=0)
    cells = s2.descendants(faces, level=level)
    centres, corners = s2.latlon_from_cell(cells), s2.vertices(cells)
    reach_m = great_circle_m(
        *np.moveaxis(centres[:, None], -1, 0), *np.moveaxis(corners, -1, 0)
    ).max(axis=1)
    for row in np.argsort(reach_m)[-12:]:
        for lat, lon in corners[row]:
            assert Disk(lat, lon, 0.0).touches(cells[row : row + 1]).all()


@pytest.mark.parametrize(
    ("region", "lat", "lon", "most"),
    [
        (Disk(47.37, 8.54, 5000), 47.37, 8.54, 14),
        (Disk(-17, 180, 5000), -17, 180, 14),
        (Disk(90, 0, 5000), 90, 0, 14),
        (Box(-17.05, 179.95, -16.95, -179.95), -17, 180, 14),
        (Box(47.3, 8.5, 47.4, 8.6), 47.37, 8.54, 14),
        (CellUnion([s2.cell_from_token("479aa4c")]), 47.37, 8.54, 1),
    ],
)
def test_touches_passes_over_most_cells(region: Region, lat: float, lon: float, most: int) -> None:
    middle = s2.cell_from_latlon(lat, lon, level=7)
    near = s2.descendants([middle, *s2.neighbours(middle)], level=10)
    assert len(near) == 9 * 64
    assert 1 <= region.touches(near).sum() <= most


@given(disks(), LEVELS, SEEDS)
def test_a_disk_admits_centres_within_its_radius(disk: Disk, level: int, seed: int) -> None:
    cells = cells_at_border(disk, level=level, seed=seed)
    middle = s2sphere.LatLng.from_degrees(disk.lat, disk.lon)
    for cell, admitted in zip(cells.tolist(), disk.admits(cells), strict=True):
        away = middle.get_distance(s2sphere.CellId(cell).to_lat_lng()).radians * EARTH_RADIUS_M
        # Rounding may decide within 0.2 m near the antipodes and a micrometre elsewhere.
        on_border = abs(away - disk.radius_m) < (0.2 if away > 1.9e7 else 1e-6)
        assert on_border or admitted == (away <= disk.radius_m)


@given(boxes(), LEVELS, SEEDS)
def test_a_box_admits_centres_between_its_sides(box: Box, level: int, seed: int) -> None:
    cells = cells_at_border(box, level=level, seed=seed)
    centres = s2.latlon_from_cell(cells)
    for (lat, lon), admitted in zip(centres, box.admits(cells), strict=True):
        sides = (box.south - lat, lat - box.north, box.west - lon, lon - box.east)
        if min(abs(side) for side in sides) < 1e-9:
            continue  # rounding decides
        in_lon = (
            box.west <= lon <= box.east
            if box.west <= box.east
            else lon >= box.west or lon <= box.east
        )
        assert admitted == (box.south <= lat <= box.north and in_lon)


@given(unions(), st.lists(st.tuples(LATS, LONS, LEVELS), max_size=10), SEEDS)
def test_a_union_admits_cells_that_overlap_one_of_its_own(
    pieces: list[int], others: list[tuple[float, float, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    related = [
        int(s2.parent(piece, level=int(rng.integers(0, level + 1))))
        for piece, level in zip(pieces, s2.level_of(pieces), strict=True)
    ]
    beside = s2.neighbours(pieces).ravel()
    far = [int(s2.cell_from_latlon(lat, lon, level=level)) for lat, lon, level in others]
    cells = [*pieces, *related, *beside[beside != 0].tolist(), *far]
    oracles = [s2sphere.CellId(piece) for piece in pieces]
    wanted = [any(s2sphere.CellId(cell).intersects(o) for o in oracles) for cell in cells]
    assert CellUnion(pieces).admits(np.array(cells, np.uint64)).tolist() == wanted


def test_an_empty_union_admits_nothing() -> None:
    assert CellUnion([]).admits(np.array([1, 3], np.uint64)).tolist() == [False, False]


@pytest.mark.parametrize(
    "region", [Disk(0, 0, 1), Box(0, 0, 1, 1), CellUnion([1])], ids=["disk", "box", "cells"]
)
def test_of_no_cells_none_belongs(region: Region) -> None:
    nothing = np.zeros(0, np.uint64)
    assert region.admits(nothing).shape == region.touches(nothing).shape == (0,)


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        (Disk, (200, 8, 5), "lat 200, lon 8: want degrees"),
        (Disk, (47, 181, 5), "lon 181"),
        (Disk, (float("nan"), 8, 5), "lat nan"),
        (Disk, (47, 8, -5), "radius_m is -5, want 0 or more"),
        (Disk, (47, 8, float("nan")), "radius_m is nan"),
        (Disk, (47, 8, float("inf")), "radius_m is inf"),
        (Box, (47.1, 8.2, 46.9, 8.4), "from south 47.1 to north 46.9: swapped?"),
        (Box, (46.9, 8.2, 91, 8.4), "lat 91"),
        (Box, (46.9, -200, 47, 8.4), "lon -200"),
        (Box, (float("nan"), 0, 1, 1), "lat nan"),
    ],
)
def test_numbers_that_are_no_region_are_refused(
    kind: type[Disk] | type[Box], numbers: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(*numbers)
