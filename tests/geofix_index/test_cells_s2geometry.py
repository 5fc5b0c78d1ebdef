"""S2 cells against Google's s2geometry, which has wheels for some platforms only."""

from typing import Any

import numpy as np
import pytest

from geofix_index import cells as s2
from tests.geofix_index.globe import random_latlon
from tests.geofix_index.test_cells import BORDERS, border_cells

oracle: Any = pytest.importorskip("s2geometry", reason="no s2geometry: no wheel for this platform")


def leaf(lat: float, lon: float) -> int:
    """Return the leaf at a position."""
    found: int = oracle.S2CellId(oracle.S2LatLng.FromDegrees(lat, lon)).id()
    return found


def test_a_million_positions_get_the_same_cells() -> None:
    positions = random_latlon(1_000_000, seed=11)
    wanted = np.fromiter((leaf(lat, lon) for lat, lon in positions.tolist()), np.uint64)
    assert np.array_equal(s2.cell_from_latlon(*positions.T, level=30), wanted)
    for level in (0, 8, 15, 16, 29):
        found = s2.cell_from_latlon(*positions.T, level=level)
        assert np.array_equal(found, s2.parent(wanted, level=level))


def test_positions_on_borders_get_the_same_cells() -> None:
    grid = [(lat, lon) for lat in range(-90, 91, 15) for lon in range(-180, 181, 15)]
    for lat, lon in [*BORDERS, *grid]:
        assert int(s2.cell_from_latlon(lat, lon, level=30)) == leaf(lat, lon), (lat, lon)


@pytest.mark.parametrize("level", [1, 5, 16, 24, 29, 30])
def test_cells_at_the_edges_of_faces_have_the_same_neighbours(level: int) -> None:
    for cell in border_cells(level).tolist():
        wanted = {found.id() for found in oracle.S2CellId(cell).GetAllNeighbors(level)}
        around = s2.neighbours(cell)
        assert set(around[around != 0].tolist()) == wanted
