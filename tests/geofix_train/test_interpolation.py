"""Weights of prototypes beside S2's own arithmetic (s2sphere): inside, at borders, on the cube."""

import math

import numpy as np
import pytest
import s2sphere

from geofix_train.prototypes import PrototypeGrid

LEVEL = 15
SIZE = 1 << (30 - LEVEL)  # leaves along a cell
NUM_CELLS = 1 << LEVEL  # along a face
Weights = dict[int, float]


def st_of(lat: float, lon: float) -> tuple[int, float, float]:
    """Return the face of a position and its s and t, from 0 to 1."""
    point = s2sphere.LatLng.from_degrees(lat, lon).to_point()
    face, u, v = s2sphere.xyz_to_face_uv(point)
    return face, s2sphere.CellId.uv_to_st(u), s2sphere.CellId.uv_to_st(v)


def latlon_of(face: int, s: float, t: float) -> tuple[float, float]:
    point = s2sphere.face_uv_to_xyz(face, s2sphere.CellId.st_to_uv(s), s2sphere.CellId.st_to_uv(t))
    place = s2sphere.LatLng.from_point(point)
    return place.lat().degrees, place.lng().degrees


def weights_by_s2(lat: float, lon: float) -> Weights:
    """Return the bilinear weight of each cell, the cells found by s2sphere.

    Beyond an edge of a face, s2sphere finds the cell that touches across the edge; beyond a corner
    of the cube there is none, and the other three share.
    """
    face, s, t = st_of(lat, lon)
    x, y = s * NUM_CELLS - 0.5, t * NUM_CELLS - 0.5
    found: Weights = {}
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            is_out = [not 0 <= k < NUM_CELLS for k in (column, row)]
            if all(is_out):
                continue
            cell = cell_at(face, column, row)
            share = (1 - abs(x - column)) * (1 - abs(y - row))
            found[cell] = found.get(cell, 0.0) + share
    whole = sum(found.values())
    return {cell: share / whole for cell, share in found.items() if share > 1e-5}


def cell_at(face: int, column: int, row: int) -> int:
    """Return the cell at a column and a row, which may lie one beyond an edge of the face."""
    inside = [min(max(k, 0), NUM_CELLS - 1) for k in (column, row)]
    leaf = s2sphere.CellId.from_face_ij(face, *(k * SIZE for k in inside))
    cell = leaf.parent(LEVEL)
    if inside == [column, row]:
        return int(cell.id())
    # get_edge_neighbors: down, right, up, left.
    side = {(0, -1): 0, (1, 0): 1, (0, 1): 2, (-1, 0): 3}[column - inside[0], row - inside[1]]
    return int(cell.get_edge_neighbors()[side].id())


HALF = 0.5 / NUM_CELLS
EDGES = [  # face, s, t: near the four edges of several faces, nearer than half a cell
    (0, 0.3 * HALF, 0.4), (0, 1 - 0.3 * HALF, 0.61), (1, 0.37, 0.9 * HALF),
    (2, 0.52, 1 - 0.2 * HALF), (3, 0.01 * HALF, 0.77), (4, 0.83, 1 - 0.5 * HALF),
    (5, 1 - 0.99 * HALF, 0.29),
]  # fmt: skip
CORNERS = [
    (face, s, t)
    for face in range(6)
    for s in (0.4 * HALF, 1 - 0.7 * HALF)
    for t in (0.2 * HALF, 1 - 0.6 * HALF)
]
BORDERS = [  # at a centre, on a border between two cells, on a corner of four, just beside them
    (0, (1000 + 0.5) / NUM_CELLS, (2000 + 0.5) / NUM_CELLS),
    (1, 1000 / NUM_CELLS, (2000 + 0.5) / NUM_CELLS),
    (2, 1000 / NUM_CELLS, 2000 / NUM_CELLS),
    (3, (1000 + 1e-6) / NUM_CELLS, (2000 - 1e-6) / NUM_CELLS),
    (4, (1000 + 0.5 + 1e-6) / NUM_CELLS, (2000 + 0.5 - 1e-6) / NUM_CELLS),
    (5, 1003.3 / NUM_CELLS, 2004.8 / NUM_CELLS),
]


def weights_of(grid: PrototypeGrid, lat: float, lon: float) -> Weights:
    rows, weights = grid.mix(np.array([lat]), np.array([lon]))
    return {
        int(grid.cells[row]): float(weight)
        for row, weight in zip(rows[0], weights[0], strict=True)
        if weight > 1e-5
    }


@pytest.mark.parametrize("place", BORDERS + EDGES + CORNERS, ids=str)
def test_weights_are_those_of_s2s_own_arithmetic(place: tuple[int, float, float]) -> None:
    lat, lon = latlon_of(*place)
    wanted = weights_by_s2(lat, lon)
    assert len(wanted) <= (3 if place in CORNERS else 4)
    grid = PrototypeGrid(np.array(list(wanted), np.uint64), level=LEVEL, code_level=LEVEL)
    assert weights_of(grid, lat, lon) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("place", BORDERS[5:] + EDGES + CORNERS, ids=str)
def test_a_cell_without_a_prototype_leaves_its_share_to_the_others(
    place: tuple[int, float, float],
) -> None:
    lat, lon = latlon_of(*place)
    all_weights = weights_by_s2(lat, lon)
    for gone in all_weights:
        left = {cell: share for cell, share in all_weights.items() if cell != gone}
        wanted = {cell: share / sum(left.values()) for cell, share in left.items()}
        grid = PrototypeGrid(np.array(list(left), np.uint64), level=LEVEL, code_level=LEVEL)
        assert weights_of(grid, lat, lon) == pytest.approx(wanted, abs=1e-5)


def test_the_cells_at_an_edge_lie_on_two_faces_and_those_at_a_corner_on_three() -> None:
    for places, wanted in ((EDGES, 2), (CORNERS, 3)):
        for place in places:
            faces = {cell >> 61 for cell in weights_by_s2(*latlon_of(*place))}
            assert len(faces) == wanted
