"""S2 geometry against the library s2sphere, which shares no code with ours."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import s2sphere
from hypothesis import given
from hypothesis import strategies as st

from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from tests.geofix_index.globe import CORNER_LAT, latlon_from_xyz, random_latlon

Cells = npt.NDArray[np.uint64]

LEVELS = [0, 1, 2, 5, 10, 15, 16, 21, 30]
BORDERS = [
    (90, 0),
    (-90, 0),
    (90, 180),
    (0, 180),
    (0, -180),
    (-17, 180),
    (45, 180),
    (0, 45),
    (0, 0),
    (45, 0),
    (45, 90),
    (CORNER_LAT, 45),
    (-CORNER_LAT, -135),
]


def border_cells(level: int) -> Cells:
    """Return cells along all edges and at all corners of the cube."""
    along = np.linspace(-1, 1, 23)
    points = [
        np.roll((a, side, top), axis) for a in along for side in (-1, 1) for top in (-1, 1)
        for axis in range(3)
    ]  # fmt: skip
    on_border = s2.cell_from_latlon(*latlon_from_xyz(points).T, level=level)
    around = s2.neighbours(on_border)
    return np.unique(np.concatenate([on_border, around[around != 0]]))


def test_cells_lie_where_s2sphere_sees_them() -> None:
    positions = random_latlon(300, seed=7)
    leaves = [
        s2sphere.CellId.from_lat_lng(s2sphere.LatLng.from_degrees(*latlon)) for latlon in positions
    ]
    for level in LEVELS:
        found = s2.cell_from_latlon(*positions.T, level=level)
        assert found.tolist() == [leaf.parent(level).id() for leaf in leaves]


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(0, 30))
def test_a_cell_is_one_that_s2sphere_sees_within_a_rounding_error(
    lat: float, lon: float, level: int
) -> None:
    assert int(s2.cell_from_latlon(lat, lon, level=level)) in _seen_near(lat, lon, level=level)


@pytest.mark.parametrize(("lat", "lon"), BORDERS)
def test_on_a_border_a_cell_is_one_of_those_that_meet_there(lat: float, lon: float) -> None:
    for level in LEVELS:
        assert int(s2.cell_from_latlon(lat, lon, level=level)) in _seen_near(lat, lon, level=level)


@pytest.mark.parametrize("level", LEVELS)
def test_centres_and_vertices_are_those_of_s2sphere(level: int) -> None:
    cells = np.concatenate([_random_cells(level, 60), border_cells(level)[:60]])
    for cell, centre, corners in zip(
        cells, s2.latlon_from_cell(cells), s2.vertices(cells), strict=True
    ):
        oracle = s2sphere.CellId(int(cell))
        wanted = [oracle.to_lat_lng()]
        wanted += [
            s2sphere.LatLng.from_point(s2sphere.Cell(oracle).get_vertex(k)) for k in range(4)
        ]
        for got, want in zip([centre, *corners], wanted, strict=True):
            wanted_latlon = (want.lat().degrees, want.lng().degrees)
            assert great_circle_m(got[0], got[1], *wanted_latlon) < 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_families_levels_and_tokens_are_those_of_s2sphere(level: int) -> None:
    cells = _random_cells(level, 40)
    first, last = s2.leaf_range(cells)
    for row, cell in enumerate(cells):
        oracle = s2sphere.CellId(int(cell))
        assert s2.level_of(cell) == oracle.level() == level
        assert (first[row], last[row]) == (oracle.range_min().id(), oracle.range_max().id())
        token = s2.token_from_cell(int(cell))
        assert token == oracle.to_token()
        assert s2.cell_from_token(token) == cell
        for above in range(level + 1):
            assert s2.parent(cell, level=above) == oracle.parent(above).id()


@pytest.mark.parametrize(("level", "depth"), [(0, 0), (0, 4), (9, 3), (27, 3), (30, 0)])
def test_descendants_are_those_of_s2sphere_in_order(level: int, depth: int) -> None:
    cells = np.unique(_random_cells(level, 5))
    wanted = [
        child.id()
        for cell in cells
        for child in s2sphere.CellId(int(cell)).children(level + depth)
    ] if depth else cells.tolist()  # fmt: skip
    assert s2.descendants(cells[::-1], level=level + depth).tolist() == wanted
    first, last = s2.descendant_range(cells, level=level + depth)
    assert first.tolist() == wanted[:: 4**depth]
    assert last.tolist() == wanted[4**depth - 1 :: 4**depth]


@pytest.mark.parametrize("level", [0, 1, 2, 5, 15, 24])
def test_neighbours_are_those_of_s2sphere(level: int) -> None:
    cells = np.unique(np.concatenate([_random_cells(level, 100), border_cells(level)]))
    for cell, around in zip(cells, s2.neighbours(cells), strict=True):
        wanted = {found.id() for found in s2sphere.CellId(int(cell)).get_all_neighbors(level)}
        assert set(around.tolist()) - {0} == wanted


# s2sphere itself is wrong at the corners of the cube from level 25 on.
@pytest.mark.parametrize("level", [25, 28, 29, 30])
def test_neighbours_share_a_corner_at_the_finest_levels(level: int) -> None:
    cells = border_cells(level)
    around = s2.neighbours(cells)
    rows, columns = np.nonzero(around)
    others = around[rows, columns]
    apart = great_circle_m(
        *np.moveaxis(s2.vertices(cells)[rows][:, :, None], -1, 0),
        *np.moveaxis(s2.vertices(others)[:, None, :], -1, 0),
    )  # (pairs, 4, 4)
    assert apart.min(axis=(1, 2)).max() < 0.2 * s2.mean_edge_m(level)
    assert (others != cells[rows]).all()
    assert all(len(set(line[line != 0].tolist())) >= 7 for line in around)
    back = s2.neighbours(others)
    assert (back == cells[rows][:, None]).any(axis=1).all()


def test_the_corner_of_the_cube_has_seven_neighbours() -> None:
    cell = s2.cell_from_latlon(CORNER_LAT - 1e-4, 45 - 2e-4, level=15)
    assert (s2.neighbours(cell) == 0).sum() == 1


@pytest.mark.parametrize(("level", "edge_m"), [(15, 281), (16, 141)])
def test_mean_edge(level: int, edge_m: float) -> None:
    assert s2.mean_edge_m(level) == pytest.approx(edge_m, abs=0.5)


def test_arrays_keep_their_shape() -> None:
    lat = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    cells = s2.cell_from_latlon(lat, 8.0, level=12)
    weighted, weights = s2.bilinear_cells(lat, 8.0, level=12)
    assert cells.shape == s2.level_of(cells).shape == s2.parent(cells, level=3).shape == (2, 3)
    assert s2.latlon_from_cell(cells).shape == (2, 3, 2)
    assert s2.vertices(cells).shape == (2, 3, 4, 2)
    assert s2.neighbours(cells).shape == (2, 3, 8)
    assert weighted.shape == weights.shape == (2, 3, 4)


def test_nothing_comes_of_nothing() -> None:
    nothing = s2.cell_from_latlon([], [], level=16)
    assert nothing.dtype == np.uint64
    assert s2.latlon_from_cell(nothing).shape == (0, 2)
    assert s2.descendants(nothing, level=20).shape == (0,)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (s2.cell_from_latlon, {"lat_deg": [1, 91], "lon_deg": 0}, r"position 1 is lat 91\.0"),
        (s2.cell_from_latlon, {"lat_deg": 1, "lon_deg": 180.5}, r"lon 180\.5"),
        (s2.cell_from_latlon, {"lat_deg": np.nan, "lon_deg": 0}, "lat nan"),
        (s2.cell_from_latlon, {"lat_deg": 1, "lon_deg": -np.inf}, "lon -inf"),
        (s2.bilinear_cells, {"lat_deg": -90.1, "lon_deg": 0}, r"lat -90\.1"),
        (s2.cell_from_latlon, {"lat_deg": 1, "lon_deg": 0, "level": 31}, "level is 31"),
        (s2.bilinear_cells, {"lat_deg": 1, "lon_deg": 0, "level": -1}, "level is -1"),
        (s2.mean_edge_m, {"level": 31}, "level is 31"),
        (s2.latlon_from_cell, {"cells": [1, 0]}, "cell 1 is 0x0, which is no S2 cell id"),
        (s2.level_of, {"cells": 2}, "0x2"),  # its lowest bit stands at an odd place
        (s2.neighbours, {"cells": 0xC000000000000001}, "0xc000000000000001"),  # face 6
        (s2.parent, {"cells": 1 << 60, "level": 1}, "level 0 has no parent at level 1"),
        (s2.descendants, {"cells": 1, "level": 29}, "finer than level 29"),
        (s2.token_from_cell, {"cell": 0}, "0x0"),
        (s2.cell_from_token, {"token": ""}, "''"),
        (s2.cell_from_token, {"token": "X"}, "'X'"),
        (s2.cell_from_token, {"token": "89C"}, "'89C'"),
        (s2.cell_from_token, {"token": "0" * 16}, "0x0"),
        (s2.cell_from_token, {"token": "1" * 17}, "1 to 16 hexadecimal digits"),
    ],
)
def test_a_bad_argument_is_named(function: Any, arguments: dict[str, Any], message: str) -> None:
    if function in (s2.cell_from_latlon, s2.bilinear_cells):
        arguments = {"level": 16, **arguments}
    with pytest.raises(ValueError, match=message):
        function(**arguments)


def _seen_near(lat: float, lon: float, *, level: int) -> set[int]:
    """Return the cells of s2sphere at a position and a few rounding errors around it."""
    x, y, z = s2sphere.LatLng.from_degrees(lat, lon).to_point()
    nudges = product((-4e-16, 0, 4e-16), repeat=3)
    points = [s2sphere.Point(x + dx, y + dy, z + dz) for dx, dy, dz in nudges]
    return {s2sphere.CellId.from_point(point).parent(level).id() for point in points}


def _random_cells(level: int, num: int) -> Cells:
    return s2.cell_from_latlon(*random_latlon(num, seed=7).T, level=level)
