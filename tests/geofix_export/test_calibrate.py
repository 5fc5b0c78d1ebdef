from dataclasses import replace

import numpy as np
import pytest

from geofix import Localizer, Prior
from geofix.geo import LatLon, latlon_from_east_north
from geofix.posterior import Calibration
from geofix_export import calibrate as calibrate_module
from geofix_export.build import build_index
from geofix_export.calibrate import calibrate
from geofix_index import CellIndex
from geofix_index import cells as s2
from geofix_train.cell_codes import Queries
from tests.tiny_pack import TinyRegion


@pytest.fixture(scope="module")
def index(region: TinyRegion) -> CellIndex:
    """Return an index of the region."""
    return build_index(region.cells, region.cell_codes)


def noisy_queries(region: TinyRegion, *, noise: float, seed: int) -> Queries:
    """Return a query in each cell: its code with so much noise."""
    rng = np.random.default_rng(seed)
    noisy = region.cell_codes + noise * rng.standard_normal(region.cell_codes.shape)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    return Queries(noisy.astype(np.float32), s2.latlon_from_cell(region.cells))


def calibrated(index: CellIndex, queries: Queries, region: TinyRegion) -> Calibration:
    """Return the calibration that queries give."""
    calibration = calibrate(index, queries, region.cells, None)
    assert calibration is not None
    return calibration


def test_one_right_prior_in_fifty_is_taken_to_be_wrong(
    index: CellIndex, region: TinyRegion, tmp_path_factory: pytest.TempPathFactory
) -> None:
    calibration = calibrated(index, noisy_queries(region, noise=0.2, seed=0), region)
    path = tmp_path_factory.mktemp("calibrate") / "a.geofix"
    region.write(path, encoders=[], calibration=calibration)
    others = noisy_queries(region, noise=0.2, seed=1)
    rng = np.random.default_rng(2)
    conflicts: dict[bool, list[bool]] = {True: [], False: []}
    with Localizer.open(path) as localizer:
        for embedding, place in zip(others.embeddings, others.latlon, strict=True):
            for is_right in (True, False):
                turn, apart_m = rng.uniform(0, 2 * np.pi), 300 if is_right else 800
                offset = apart_m * np.array([np.cos(turn), np.sin(turn)])
                centre = latlon_from_east_north(offset, origin=LatLon(*place))
                prior = Prior.disk(*centre.tolist(), radius_m=400)
                if len(localizer._opened()[1].cells_in(prior.region)) > 3:
                    fix = localizer.search(embedding, prior=prior)
                    conflicts[is_right].append(fix.prior_conflict)
    assert min(map(len, conflicts.values())) > 100
    assert np.mean(conflicts[True]) < 0.05
    assert np.mean(conflicts[False]) > 0.5


def test_photos_on_photographed_streets_are_fitted_with_where_there_are_enough(
    index: CellIndex, region: TinyRegion
) -> None:
    seen = noisy_queries(region, noise=0.1, seed=0)
    unseen = noisy_queries(region, noise=1.0, seed=1)
    num = len(region.cells)
    both = Queries(
        np.concatenate([seen.embeddings, unseen.embeddings]),
        np.concatenate([seen.latlon, unseen.latlon]),
        ("seen",) * num + ("unseen",) * num,
    )
    alone = calibrated(index, replace(seen, slices=("seen",) * num), region)
    mixed = calibrated(index, both, region)
    assert replace(mixed, validation={}) == replace(alone, validation={})
    assert mixed.validation["all"].num_photos == 2 * num
    unsaid = calibrated(index, replace(both, slices=()), region)
    assert unsaid.temperature > 1.2 * alone.temperature


def test_few_queries_take_the_largest_factor(index: CellIndex, region: TinyRegion) -> None:
    many = noisy_queries(region, noise=0.2, seed=0)
    few = Queries(many.embeddings[:5], many.latlon[:5])
    all_of_them, few_of_them = (calibrated(index, q, region).conflict for q in (many, few))
    assert all_of_them is not None
    assert few_of_them is not None
    assert len({all_of_them, few_of_them, 0.0}) == 3  # each of its own photos
    far = Queries(many.embeddings[:5], np.zeros((5, 2)))  # no prior around these holds a cell
    assert calibrated(index, far, region).conflict == pytest.approx(np.log(19))


def test_the_factor_of_a_large_pack_is_measured_as_that_of_a_small_one(
    index: CellIndex, region: TinyRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = noisy_queries(region, noise=0.2, seed=0)
    small = calibrated(index, queries, region).conflict
    assert small
    monkeypatch.setattr("geofix.answer.PROBE_ALWAYS_CELLS", 0)  # a pack of more cells is large
    assert calibrated(index, queries, region).conflict == pytest.approx(small)


def test_lone_cells_are_as_far_apart_as_they_are() -> None:
    cells = np.sort(s2.descendants(s2.cell_from_latlon(47.37, 8.54, level=12), level=20))
    assert calibrate_module._spacing_m(cells) == pytest.approx(s2.mean_edge_m(20), rel=0.25)
    lone = calibrate_module._spacing_m(cells[::64])
    assert lone == pytest.approx(8 * s2.mean_edge_m(20), rel=0.25)


def test_a_pack_has_the_statistics_of_its_queries(
    region: TinyRegion, index: CellIndex, queries: Queries
) -> None:
    statistics = np.random.default_rng(0).normal(0, 1, (len(queries.latlon), 12))
    told = replace(queries, image_statistics=statistics.astype(np.float32))
    assert calibrated(index, told, region).image_statistics is not None
    assert calibrated(index, queries, region).image_statistics is None
