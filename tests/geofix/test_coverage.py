from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from geofix import Bounds, Coverage, LocalCoverage, Localizer, Validation
from geofix.coverage import coverage_union
from geofix.pack import RegionPack
from geofix.pack_writer import PackText, PackWriter
from geofix.posterior import Calibration
from geofix_index import cells as s2
from tests.tiny_pack import CALIBRATION, TinyRegion

SEEN, UNSEEN = Validation(90, 0.8, 0.7, 40.0, 0.9), Validation(10, 0.1, 0.05, 900.0)
ALL = Validation(100, 0.73, 0.6, 60.0, 0.9)
CALIBRATED = Calibration(
    CALIBRATION.temperature,
    CALIBRATION.elsewhere,
    {"all": ALL, "photographed": SEEN, "not_photographed": UNSEEN},
)
EVERYWHERE = Bounds(-90, -180, 90, 180)


def is_photographed(cells: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return a mask that follows no pattern of rows."""
    return np.asarray(cells // np.uint64(1 << 29) % np.uint64(3) == 0)


def write(region: TinyRegion, path: Path, *, says: bool = True, calibrated: bool = True) -> Path:
    """Write a pack that says which cells are photographed."""
    encoder = replace(region.encoder, calibration=CALIBRATED if calibrated else None)
    with PackWriter(path, region.quantizer) as writer:
        for parent, files in region.shards:
            cells = region.cells[s2.parent(region.cells, level=10) == parent]
            writer.add_shard(files, photographed=is_photographed(cells) if says else None)
        writer.finish(PackText("tiny", "Tiny"), encoders=[encoder])
    return path


@pytest.fixture(scope="module")
def coverage(region: TinyRegion, tmp_path_factory: pytest.TempPathFactory) -> Coverage:
    """Return what a pack covers that says all there is to say."""
    path = write(region, tmp_path_factory.mktemp("packs") / "tiny.geofix")
    return RegionPack.open(path).coverage


def test_a_pack_says_which_cells_are_photographed(coverage: Coverage, region: TinyRegion) -> None:
    wanted = is_photographed(region.cells)
    assert 0.2 < wanted.mean() < 0.5
    found = coverage.photographed_in(EVERYWHERE)
    assert found is not None
    assert_array_equal(found, wanted)
    assert coverage.share_photographed == pytest.approx(wanted.mean())


def test_what_to_expect_depends_on_whether_the_place_is_photographed(
    coverage: Coverage, region: TinyRegion
) -> None:
    assert coverage.expected == ALL
    for cell, seen in zip(region.cells, is_photographed(region.cells), strict=True):
        here = coverage.around(*s2.latlon_from_cell(cell).tolist())
        assert here.expected == (SEEN if seen else UNSEEN)
        assert here.photographed is bool(seen)


def test_around_a_place_cells_are_counted(coverage: Coverage, region: TinyRegion) -> None:
    middle = s2.latlon_from_cell(region.cells[100]).tolist()
    here = coverage.around(*middle, radius_m=400)
    offsets = s2.latlon_from_cell(region.cells) - middle
    metres = np.hypot(offsets[:, 0], offsets[:, 1] * np.cos(np.radians(middle[0]))) * 111_195
    inside = metres < 400
    assert abs(here.num_cells - inside.sum()) <= 1  # one may lie on the circle
    assert here.cells_per_km2 == pytest.approx(here.num_cells / (np.pi * 0.16))
    assert here.share_photographed == pytest.approx(
        is_photographed(region.cells[inside]).mean(), abs=0.05
    )
    assert here.contains


def test_far_away_there_is_nothing_to_expect(coverage: Coverage) -> None:
    assert coverage.around(-47.37, 8.54) == LocalCoverage(False, 0, 0.0, None, None)
    assert not coverage.contains(-47.37, 8.54)


def test_a_pack_that_does_not_say_is_not_guessed_at(region: TinyRegion, tmp_path: Path) -> None:
    path = write(region, tmp_path / "a.geofix", says=False)
    coverage = RegionPack.open(path).coverage
    assert coverage.share_photographed is None
    assert coverage.photographed_in(EVERYWHERE) is None
    here = coverage.around(*s2.latlon_from_cell(region.cells[0]).tolist())
    assert (here.share_photographed, here.expected) == (None, ALL)


def test_without_validation_nothing_is_expected(region: TinyRegion, tmp_path: Path) -> None:
    path = write(region, tmp_path / "a.geofix", calibrated=False)
    coverage = RegionPack.open(path).coverage
    assert coverage.expected is None
    here = coverage.around(*s2.latlon_from_cell(region.cells[0]).tolist())
    assert here.contains
    assert here.expected is None


def test_a_localizer_expects_what_its_encoder_was_calibrated_with(
    region: TinyRegion, tmp_path: Path
) -> None:
    with Localizer.open(write(region, tmp_path / "a.geofix")) as localizer:
        assert localizer.coverage.expected == ALL


def test_the_union_contains_all_cells_and_little_more(
    coverage: Coverage, region: TinyRegion
) -> None:
    parents = [s2.parent(region.cells, level=int(level)) for level in s2.level_of(coverage.union)]
    inside = [cell in own for cell, own in zip(coverage.union, parents, strict=True)]
    assert all(inside)
    first, last = s2.leaf_range(coverage.union)
    row = np.searchsorted(first, region.cells, side="right") - 1
    assert (region.cells <= last[row]).all()
    cells_km2 = s2.area_m2(region.cells).sum() / 1e6
    assert coverage.cells_km2 == pytest.approx(cells_km2, rel=0.01)
    assert cells_km2 <= coverage.area_km2 < 2.5 * cells_km2
    assert coverage.cells_per_km2 == pytest.approx(len(region.cells) / coverage.area_km2)


@given(
    seed=st.integers(0, 1000),
    level=st.integers(4, 20),
    num=st.integers(1, 300),
    max_cells=st.integers(6, 40),
)
def test_a_union_contains_its_cells_in_few(seed: int, level: int, num: int, max_cells: int) -> None:
    rng = np.random.default_rng(seed)
    lat, lon = rng.uniform(-90, 90, num), rng.uniform(-180, 180, num)
    cells = np.unique(s2.cell_from_latlon(lat, lon, level=level))
    union = coverage_union(cells, max_cells=max_cells)
    assert len(union) <= max_cells
    first, last = s2.leaf_range(union)
    assert (last[:-1] < first[1:]).all()
    row = np.searchsorted(first, cells, side="right") - 1
    assert (row >= 0).all()
    assert (cells <= last[row]).all()


def test_four_children_are_their_parent() -> None:
    cell = int(s2.cell_from_latlon(47.37, 8.54, level=12))
    assert coverage_union(s2.descendants([cell], level=16)).tolist() == [cell]
    assert coverage_union(np.array([cell], np.uint64)).tolist() == [cell]


@pytest.mark.parametrize("wrong", [{"num_photos": 0}, {"share_fixed": 1.1}, {"median_error_m": -1}])
def test_a_validation_out_of_range_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(ALL, **wrong)


def test_a_validation_sums_up_answers() -> None:
    found = Validation.of([10, 90, 150, 2000], [True, False, True, False])
    assert found == Validation(4, 0.5, 0.5, 120.0, 0.5)
    assert Validation.of([10], [False]).fixed_within_100m is None
    assert Validation.from_json(found.to_json()) == found
