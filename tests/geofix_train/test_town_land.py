"""The land around a town: which blocks and cells it has, and that it shows the town's own world."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import geofix_index.cells as s2
from geofix_train.town import dataset, land
from geofix_train.town.land import draw_land, is_in_town, land_blocks, land_cells, read_land
from geofix_train.town.light import SEASONS, light_at
from geofix_train.town.ortho import render_ortho
from geofix_train.town.raster import World
from tests.geofix_train.conftest import SEED, SIZE_KM

pytestmark = pytest.mark.xdist_group("town")

DATE = "2023-07-05"
SMALL_BLOCK_M = 240.0


def test_blocks_come_nearest_first_and_once() -> None:
    blocks = land_blocks(60)
    assert len(set(blocks)) == 60
    assert set(blocks[:4]) == set(itertools.product((-1, 0), repeat=2))
    away = [np.hypot(column + 0.5, row + 0.5) for column, row in blocks]
    assert away == sorted(away)
    assert land_blocks(30) == blocks[:30]


def test_each_cell_of_the_land_belongs_to_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land, "BLOCK_M", 700.0)
    cells = [land_cells((c, r), level=17) for c in range(-2, 2) for r in range(-2, 2)]
    found = np.sort(np.concatenate(cells))
    assert len(np.unique(found)) == len(found)
    # Every centre within the 16 blocks, by brute force over a fine grid of places.
    x, y = np.meshgrid(np.arange(-1390, 1400, 10.0), np.arange(-1390, 1400, 10.0))
    lat, lon = land._FRAME.latlon(np.column_stack([x.ravel(), y.ravel()])).T
    candidates = np.unique(s2.cell_from_latlon(lat, lon, level=17))
    xy = land._FRAME.xy(*s2.latlon_from_cell(candidates).T)
    np.testing.assert_array_equal(found, candidates[np.abs(xy).max(axis=1) < 1400])


def test_the_land_shows_the_world_of_the_town(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(land, "BLOCK_M", SMALL_BLOCK_M)
    (tmp_path / DATE).mkdir()
    land._draw(tmp_path, (0, -1), SEED, (DATE,))
    (mosaic,) = read_land(tmp_path, (0, -1), dates=[DATE])
    season, hour = dataset.AERIAL_DATES[DATE]
    fine = render_ortho(
        world, west=0.0, north=0.0, num_pixels=400, pixel_m=0.6, season=SEASONS[season],
        light=light_at("clear", hour), seed=1,
    )  # fmt: skip
    expected = fine.reshape(100, 4, 100, 4, 3).mean(axis=(1, 3))
    (tile,) = mosaic.tiles(np.array([[120.0, -120.0]]), side_m=240.0, num_pixels=100)
    seen = [image.astype(float).ravel() for image in (tile, expected)]
    assert np.corrcoef(seen[0], seen[1])[0, 1] > 0.9
    assert np.abs(seen[0] - seen[1]).mean() < 12
    moved = np.roll(tile, 3, axis=0).astype(float).ravel()
    assert np.corrcoef(moved, seen[1])[0, 1] < 0.7


def test_what_is_drawn_already_is_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = land._path(tmp_path, DATE, (3, -4))
    path.parent.mkdir()
    path.write_bytes(b"drawn")
    draw_land(tmp_path, [(3, -4)], seed=SEED, dates=[DATE], num_workers=1)
    assert path.read_bytes() == b"drawn"
    assert [file.name for file in path.parent.iterdir()] == ["c+3_r-4.tif"]


def test_cells_of_the_town_are_told_from_those_around() -> None:
    near = s2.cell_from_latlon(np.array([47.37]), np.array([8.54]), level=16)
    far = s2.cell_from_latlon(np.array([47.39]), np.array([8.54]), level=16)
    assert is_in_town(np.concatenate([near, far]), size_km=SIZE_KM).tolist() == [True, False]
