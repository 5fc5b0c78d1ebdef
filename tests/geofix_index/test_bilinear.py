"""Bilinear weights among cells, inside a face of S2's cube and across its edges and corners."""

import numpy as np
import numpy.typing as npt
import pytest

from geofix_index import cells as s2
from geofix_index.sphere import EARTH_RADIUS_M
from tests.geofix_index.globe import latlon_from_xyz, unit, xyz_from_latlon

Floats = npt.NDArray[np.float64]

EDGE = np.array([1.0, 0.3, 1.0])  # in the middle of an edge of the cube, somewhat aside
CORNER = np.array([1.0, -1.0, 1.0])
INSIDE = np.array([1.0, 0.3, 0.4])
POLE = np.array([0.0, 0.0, -1.0])
ANTIMERIDIAN = np.array([-1.0, 0.0, -0.3])
PLACES = pytest.mark.parametrize(
    "place",
    [INSIDE, EDGE, CORNER, POLE, ANTIMERIDIAN],
    ids=["inside", "edge", "corner", "pole", "antimeridian"],
)
LEVEL = 14


def positions_around(place: Floats, *, reach_cells: float, num: int = 600) -> Floats:
    """Return points (num, 3) on the unit sphere up to about `reach_cells` cells away."""
    reach = reach_cells * s2.mean_edge_m(LEVEL) / EARTH_RADIUS_M
    jitter = np.random.default_rng(3).uniform(-reach, reach, (num, 3))
    return unit(unit(place) + jitter)


def interpolated(points: Floats) -> Floats:
    """Return the weighted means (N, 3) of the cells' centres."""
    cells, weights = s2.bilinear_cells(*latlon_from_xyz(points).T, level=LEVEL)
    some = np.where(cells == 0, cells.max(axis=1, keepdims=True), cells)  # their weight is 0
    centres = xyz_from_latlon(s2.latlon_from_cell(some))
    return np.asarray((centres * weights[..., None]).sum(axis=1))


@PLACES
def test_weights_are_shares(place: Floats) -> None:
    cells, weights = s2.bilinear_cells(
        *latlon_from_xyz(positions_around(place, reach_cells=2)).T, level=LEVEL
    )
    assert weights.min() >= 0
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert (weights[cells == 0] == 0).all()
    assert (s2.level_of(cells[cells != 0]) == LEVEL).all()
    assert all(len(set(row)) == 4 for row in cells.tolist())


@pytest.mark.parametrize(
    ("place", "most_cells"),
    # Across an edge of the cube the rows of cells have a kink.
    [(INSIDE, 2e-4), (POLE, 2e-4), (ANTIMERIDIAN, 2e-4), (EDGE, 0.25), (CORNER, 0.25)],
)
def test_interpolated_centres_give_the_position_back(place: Floats, most_cells: float) -> None:
    points = positions_around(place, reach_cells=2)
    error_m = np.linalg.norm(interpolated(points) - points, axis=1) * EARTH_RADIUS_M
    assert error_m.max() < most_cells * s2.mean_edge_m(LEVEL)


@PLACES
def test_a_tiny_step_makes_a_tiny_change(place: Floats) -> None:
    points = positions_around(place, reach_cells=1.5)
    near, far = points[0::2], points[1::2]
    # Halve the way between two points, keeping the half with the larger change: if the weights
    # jump anywhere between them, the jump is still there when they are almost one.
    for _ in range(22):
        middle = unit(near + far)
        left = np.linalg.norm(interpolated(middle) - interpolated(near), axis=1)
        right = np.linalg.norm(interpolated(far) - interpolated(middle), axis=1)
        keep_left = (left > right)[:, None]
        near, far = np.where(keep_left, near, middle), np.where(keep_left, middle, far)
    step = np.linalg.norm(near - far, axis=1).max()
    assert step < 3e-6 * s2.mean_edge_m(LEVEL) / EARTH_RADIUS_M
    assert np.linalg.norm(interpolated(near) - interpolated(far), axis=1).max() < 4 * step


def test_at_a_corner_of_the_cube_three_cells_share() -> None:
    cells, weights = s2.bilinear_cells(*latlon_from_xyz(CORNER[None]).T, level=LEVEL)
    assert (cells == 0).sum() == 1
    assert weights[cells != 0] == pytest.approx(1 / 3)


def test_at_a_centre_one_cell_has_all_the_weight() -> None:
    cell = s2.cell_from_latlon(47.37, 8.54, level=LEVEL)
    cells, weights = s2.bilinear_cells(*s2.latlon_from_cell(cell), level=LEVEL)
    assert weights[cells == cell] == pytest.approx(1, abs=1e-6)
