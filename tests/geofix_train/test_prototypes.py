"""Which cells have a prototype, how places and views mix them, and which are negatives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.objective import interpolate
from geofix_train.photo_table import PhotoTable
from geofix_train.prototypes import PrototypeGrid, label_mix, view_places

LAT, LON = 47.37, 8.54
LEVEL, CODE_LEVEL = 15, 16


@pytest.fixture(scope="module")
def grid() -> PrototypeGrid:
    """Return a grid over a cell and all that touch it but one."""
    middle = int(s2.cell_from_latlon(LAT, LON, level=LEVEL))
    around = s2.neighbours([middle]).ravel()
    return PrototypeGrid(np.array([middle, *around[1:]]), level=LEVEL, code_level=CODE_LEVEL)


def places(num: int, *, seed: int = 0, reach_deg: float = 0.006) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return LAT + rng.uniform(-1, 1, num) * reach_deg, LON + rng.uniform(-1, 1, num) * reach_deg


def table_of(vectors: Tensor) -> nn.Embedding:
    """Return a table of prototypes."""
    table = nn.Embedding(*vectors.shape)
    table.weight.data = vectors
    return table


def test_weights_of_a_place_sum_to_one_or_to_nothing(grid: PrototypeGrid) -> None:
    rows, weights = grid.mix(*places(500, reach_deg=0.02))
    total = weights.sum(axis=1)
    assert rows.shape == weights.shape
    assert rows.shape[1] <= 4
    assert (weights >= 0).all()
    assert (total == 0).any()
    np.testing.assert_allclose(total[total > 0], 1.0, atol=1e-6)


def test_only_cells_with_a_prototype_are_mixed(grid: PrototypeGrid) -> None:
    lat, lon = places(500, reach_deg=0.02)
    rows, weights = grid.mix(lat, lon)
    near, bilinear = s2.bilinear_cells(lat, lon, level=LEVEL)
    for place in range(len(lat)):
        wanted = {
            int(cell): weight
            for cell, weight in zip(near[place], bilinear[place], strict=True)
            if cell in grid.cells and weight > 0
        }
        whole = sum(wanted.values())
        got = {
            int(grid.cells[row]): weight
            for row, weight in zip(rows[place], weights[place], strict=True)
            if weight > 0
        }
        assert got == pytest.approx({c: w / whole for c, w in wanted.items()}, abs=1e-6)


# The middle of a face, an edge and a corner of the cube, a pole, the antimeridian.
@pytest.mark.parametrize(
    ("lat", "lon"),
    [(LAT, LON), (0.0, 0.0), (0.3, 45.0), (35.264390, 45.0), (89.9999, 12.0), (-54.7, 180.0)],
)
def test_candidates_within_an_edge_of_a_code_cell_are_near(lat: float, lon: float) -> None:
    cells = s2.cell_from_latlon([lat], [lon], level=LEVEL)
    for _ in range(2):
        cells = np.unique(s2.neighbours(cells))
        cells = cells[cells != 0]
    grid = PrototypeGrid(cells, level=LEVEL, code_level=CODE_LEVEL)
    rng = np.random.default_rng(0)
    middle = s2.latlon_from_cell(grid.candidates).T
    lats = np.clip(np.append(rng.choice(middle[0], 1100), lat), -90, 90)
    lons = np.append(rng.choice(middle[1], 1100), lon)
    distance = great_circle_m(lats[:, None], lons[:, None], *middle)
    wanted = distance <= s2.mean_edge_m(CODE_LEVEL)
    assert wanted[-1].any()
    np.testing.assert_array_equal(near_mask(grid, lats, lons), wanted)


def near_mask(grid: PrototypeGrid, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Return which candidates are near, (N, F)."""
    near = grid.near(lat, lon)
    mask = np.zeros((len(near), len(grid.candidates) + 1), bool)
    mask[np.arange(len(near))[:, None], near] = True  # -1 is the last column
    return mask[:, :-1]


def test_a_place_far_from_all_candidates_has_none_near(grid: PrototypeGrid) -> None:
    near = grid.near(np.array([LAT, -LAT]), np.array([LON, LON]))
    assert (near[0] >= 0).any()
    np.testing.assert_array_equal(near[1], -1)


def test_candidates_are_the_children_of_cells_with_a_prototype(grid: PrototypeGrid) -> None:
    assert len(grid.candidates) == 4 * len(grid.cells)
    np.testing.assert_array_equal(
        np.unique(s2.parent(grid.candidates, level=LEVEL)), np.sort(grid.cells)
    )
    rows, weights = grid.candidate_mix
    assert rows.shape == weights.shape == (len(grid.candidates), rows.shape[1])


def test_cells_are_kept_once_and_sorted() -> None:
    cell = int(s2.cell_from_latlon(LAT, LON, level=LEVEL))
    other = int(s2.neighbours([cell]).ravel()[0])
    grid = PrototypeGrid(
        np.array([cell, other, cell], np.uint64), level=LEVEL, code_level=CODE_LEVEL
    )
    assert grid.cells.tolist() == sorted([cell, other])


def test_mixed_prototypes_have_unit_length_or_are_nothing(grid: PrototypeGrid) -> None:
    prototypes = table_of(torch.randn(len(grid.cells), 6, generator=torch.manual_seed(0)))
    rows, weights = map(torch.from_numpy, grid.mix(*places(200, reach_deg=0.02)))
    mixed = interpolate(prototypes, rows, weights)
    has_any = weights.sum(dim=1) > 0
    assert not has_any.all()
    torch.testing.assert_close(mixed[has_any].norm(dim=1), torch.ones(int(has_any.sum())))
    assert not mixed[~has_any].any()


def test_a_prototype_alone_is_found_at_the_centre_of_its_cell() -> None:
    cell = s2.cell_from_latlon([LAT], [LON], level=LEVEL)
    grid = PrototypeGrid(cell, level=LEVEL, code_level=CODE_LEVEL)
    prototype = torch.nn.functional.normalize(torch.tensor([[3.0, -1.0, 2.0]]), dim=1)
    centre = s2.latlon_from_cell(cell)
    mixed = interpolate(table_of(3 * prototype), *map(torch.from_numpy, grid.mix(*centre.T)))
    torch.testing.assert_close(mixed, prototype)


def test_at_the_centre_of_a_cell_only_its_prototype_counts(grid: PrototypeGrid) -> None:
    rows, weights = grid.mix(*s2.latlon_from_cell(grid.cells).T)
    own = np.where(rows == np.arange(len(grid.cells))[:, None], weights, 0).max(axis=1)
    np.testing.assert_allclose(own, 1.0, atol=1e-5)


def bearings_deg(lat: float, lon: float, to_lat: np.ndarray, to_lon: np.ndarray) -> np.ndarray:
    """Return the bearings of places, by vectors in the plane that touches the globe."""
    phi, theta = np.radians([lat, lon])
    east = np.array([-np.sin(theta), np.cos(theta), 0.0])
    north = np.array([-np.sin(phi) * np.cos(theta), -np.sin(phi) * np.sin(theta), np.cos(phi)])
    phis, thetas = np.radians(to_lat), np.radians(to_lon)
    points = np.stack(
        [np.cos(phis) * np.cos(thetas), np.cos(phis) * np.sin(thetas), np.sin(phis)], axis=-1
    )
    return np.asarray(np.degrees(np.arctan2(points @ east, points @ north)) % 360.0)


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.floats(0, 360), st.floats(20, 120))
def test_a_view_lies_inside_the_frustum(
    lat: float, lon: float, heading: float, hfov: float
) -> None:
    view = view_places(*(np.array([value]) for value in (lat, lon, heading, hfov)))
    seen_lat, seen_lon = (part[0] for part in view)
    distance = great_circle_m(lat, lon, seen_lat, seen_lon)
    assert distance.min() == pytest.approx(10, abs=0.01)
    assert distance.max() == pytest.approx(90, abs=0.01)
    assert (np.abs(seen_lon) <= 180).all()
    off = (bearings_deg(lat, lon, seen_lat, seen_lon) - heading + 180) % 360 - 180
    assert np.abs(off).max() == pytest.approx(hfov / 3, abs=0.01)
    assert off.mean() == pytest.approx(0, abs=0.01)


def test_without_a_heading_a_view_is_the_camera() -> None:
    nan = np.array([np.nan])
    seen_lat, seen_lon = view_places(np.array([LAT]), np.array([LON]), nan, nan)
    np.testing.assert_allclose(seen_lat, LAT, atol=1e-9)
    np.testing.assert_allclose(seen_lon, LON, atol=1e-9)


def photos(heading_deg: float) -> PhotoTable:
    lat, lon = places(200)
    headings = [heading_deg] * 200
    return PhotoTable.from_columns(
        {"lat": lat.tolist(), "lon": lon.tolist(), "heading_deg": headings}
    )


@pytest.fixture(scope="module")
def wide_grid() -> PrototypeGrid:
    """Return a grid over all cells that any of the photos sees."""
    cells = s2.cell_from_latlon([LAT], [LON], level=LEVEL)
    for _ in range(3):
        cells = np.unique(s2.neighbours(cells))
    return PrototypeGrid(cells, level=LEVEL, code_level=CODE_LEVEL)


def test_a_frustum_mix_is_the_mean_of_the_mixes_of_its_places(wide_grid: PrototypeGrid) -> None:
    table = photos(75.0)
    grid = wide_grid
    rows, weights = label_mix(grid, table, "frustum")
    view_lat, view_lon = view_places(table.lat, table.lon, table.heading_deg, table.hfov_deg)
    dense = np.zeros((200, len(grid.cells)))
    for place in range(view_lat.shape[1]):
        near, share = s2.bilinear_cells(view_lat[:, place], view_lon[:, place], level=LEVEL)
        assert np.isin(near, grid.cells).all()
        for k in range(4):
            dense[np.arange(200), np.searchsorted(grid.cells, near[:, k])] += share[:, k]
    got = np.zeros_like(dense)
    np.add.at(got, (np.arange(200)[:, None], rows), weights)
    np.testing.assert_allclose(got, dense / view_lat.shape[1], atol=1e-6)


def test_a_mix_names_each_prototype_once(grid: PrototypeGrid) -> None:
    rows, weights = label_mix(grid, photos(75.0), "frustum")
    for row, weight in zip(rows, weights, strict=True):
        used = row[weight > 0]
        assert len(set(used.tolist())) == len(used)


def test_a_frustum_label_lies_ahead_of_the_camera(wide_grid: PrototypeGrid) -> None:
    centres = s2.latlon_from_cell(wide_grid.cells)
    north, south = (
        (centres[rows, 0] * weights).sum(axis=1)
        for rows, weights in (label_mix(wide_grid, photos(h), "frustum") for h in (0.0, 180.0))
    )
    ahead_m = 111_195 * (north - south) / 2
    np.testing.assert_allclose(ahead_m, 47, atol=10)  # the mean of the places, 50 m cos(25 deg)


def test_a_hard_label_is_the_own_cell_alone(grid: PrototypeGrid) -> None:
    table = photos(0.0)
    rows, weights = label_mix(grid, table, "hard")
    own = s2.cell_from_latlon(table.lat, table.lon, level=LEVEL)
    known = np.isin(own, grid.cells)
    assert known.any()
    assert weights.shape == (200, 1)
    np.testing.assert_array_equal(weights[:, 0], known)
    np.testing.assert_array_equal(grid.cells[rows[known, 0]], own[known])


def test_a_bilinear_label_is_the_mix_of_the_cameras_place(grid: PrototypeGrid) -> None:
    table = photos(33.0)
    wanted = grid.mix(table.lat, table.lon)
    for got, part in zip(label_mix(grid, table, "bilinear"), wanted, strict=True):
        np.testing.assert_array_equal(got, part)


def test_near_a_photo_is_what_is_near_any_of_its_places(grid: PrototypeGrid) -> None:
    lat, lon = places(30)
    both = near_mask(grid, np.stack([lat, lat[::-1]], 1), np.stack([lon, lon[::-1]], 1))
    single = near_mask(grid, lat, lon)
    np.testing.assert_array_equal(both, single | single[::-1])


def test_only_prototypes_that_are_mixed_have_a_gradient() -> None:
    prototypes = nn.Embedding(50, 4, sparse=True)
    rows, weights = torch.tensor([[3, 7], [7, 9]]), torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    interpolate(prototypes, rows, weights).sum().backward()  # type: ignore[no-untyped-call]
    gradient = prototypes.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    moved = gradient.to_dense().any(dim=1)
    assert torch.nonzero(moved).ravel().tolist() == [3, 7]
