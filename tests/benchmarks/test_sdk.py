"""Figures of fixes, on sets whose figures are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import strange_pictures
from benchmarks.sdk_figures import (
    Fixes,
    acted,
    area_under,
    coverage,
    fixes_from_lines,
    found_at,
    oracle,
    reliability,
    roc,
    shift,
    wilson,
)
from benchmarks.sdk_plots import draw_conflict, draw_trust, risk_coverage
from benchmarks.sdk_predictions import said
from geofix import Candidate, Fix, LatLon
from geofix_index import cells as s2

NUM = 1000


@pytest.fixture
def fixes() -> Fixes:
    """Return fixes whose error is Rayleigh with the sigma that the radii say."""
    rng = np.random.default_rng(0)
    sigma_m = rng.choice([10.0, 100.0], NUM)
    confidence = np.where(sigma_m == 10, 0.9, 0.3)
    return Fixes(
        error_m=rng.rayleigh(sigma_m),
        accuracy_m=1.51 * sigma_m,
        radius95_m=2.45 * sigma_m,
        confidence=confidence,
        elsewhere=1 - confidence,
        factor=rng.normal(0, 1, NUM),
        status=np.where(sigma_m == 10, "fixed", "ambiguous"),
        is_conflict=np.zeros(NUM, bool),
        is_right=rng.random(NUM) < confidence,
    )


def test_coverage_is_what_the_radii_promise(fixes: Fixes) -> None:
    values = {value.what: value.value for value in coverage("x", fixes)}
    assert values["x: accuracy_m is given"] == 1
    assert values["x: accuracy_m holds the truth"] == pytest.approx(0.68, abs=0.04)
    assert values["x: radius95_m holds the truth"] == pytest.approx(0.95, abs=0.02)
    assert values["x: their ratio"] < 2


def test_an_oracle_knows_which_answers_are_far_off(fixes: Fixes) -> None:
    error_m = np.concatenate([np.linspace(0, 50, NUM * 6 // 10), np.full(NUM * 4 // 10, 500.0)])
    assert oracle("x", replace(fixes, error_m=error_m)).value == pytest.approx(34 / 500, abs=0.01)


def test_photos_without_a_radius_are_left_out_of_coverage(fixes: Fixes) -> None:
    accuracy_m = np.where(np.arange(NUM) < 100, np.nan, fixes.accuracy_m)
    values = coverage("x", replace(fixes, accuracy_m=accuracy_m))
    assert values[0].value == 0.9
    assert values[1].unit.endswith("of 900)")


def test_reliability_follows_the_confidence(fixes: Fixes) -> None:
    low, high = reliability(fixes)
    assert low.value == pytest.approx(0.3, abs=0.06)
    assert high.value == pytest.approx(0.9, abs=0.06)


def test_the_surest_have_the_smaller_error(fixes: Fixes) -> None:
    values = {value.what: value.value for value in shift("x", fixes)}
    assert values["x: median error of the fixed"] == pytest.approx(11.8, abs=1.5)
    assert values["x: median error, the surest 80% answered"] < np.median(fixes.error_m)
    answered, risk = risk_coverage(fixes)
    assert answered[-1] == 1
    assert risk[-1] == pytest.approx((fixes.error_m > 100).mean())
    assert risk[NUM // 3] < risk[-1]


@pytest.mark.parametrize(
    ("found", "num", "wanted"), [(0, 10, (0, 0.278)), (5, 10, (0.237, 0.763)), (10, 10, (0.722, 1))]
)
def test_wilsons_interval_is_the_books(found: int, num: int, wanted: tuple[float, float]) -> None:
    assert wilson(found, num) == pytest.approx(wanted, abs=1e-3)


def test_a_roc_of_two_normal_sets_has_the_area_of_theory() -> None:
    rng = np.random.default_rng(0)
    false, true = roc(rng.normal(1, 1, 4000), rng.normal(0, 1, 4000))
    assert area_under(false, true) == pytest.approx(0.760, abs=0.015)  # Phi(1 / sqrt 2)
    assert found_at(false, true, 0.05) == pytest.approx(0.26, abs=0.03)
    same, also = roc(np.zeros(5), np.zeros(5))
    assert area_under(same, also) == 0.5


def test_what_is_acted_upon_is_what_a_fix_says_of_itself() -> None:
    place = LatLon(47.37, 8.54)
    cell = s2.token_from_cell(int(s2.cell_from_latlon(*place, level=16)))
    told = [
        Fix(
            status, place, 50.0, radius95_m, None, confidence, (Candidate(cell, place, 0.9, 0.8),),
            "tiny", prior_conflict=conflict,
        )
        for status in ("fixed", "ambiguous")
        for radius95_m in (None, 200.0, 201.0)
        for confidence in (0.79, 0.8)
        for conflict in (False, True)
    ]  # fmt: skip
    lines = [{"lat": place.lat, "lon": place.lon, **said(fix)} for fix in told]
    share, near = acted("x", fixes_from_lines(lines))
    assert share.value == pytest.approx(
        np.mean([fix.is_sure(radius95_m=200.0) for fix in told]), abs=1e-3
    )
    assert near.value == 1.0


def test_lines_become_columns() -> None:
    cell = s2.cell_from_latlon(47.37, 8.54, level=17)
    lat, lon = s2.latlon_from_cell(cell).tolist()
    token = s2.token_from_cell(int(cell))
    place = LatLon(lat, lon)
    candidates = Candidate(token, place, 1.0, 0.2), Candidate(token, place, 0.9, 0.05)
    fix = Fix("unknown", place, None, None, None, 0.25, candidates, "town")
    at = {"lat": lat, "lon": lon + 0.0001}
    nowhere = {"lat": None, "lon": None}
    columns = fixes_from_lines([{**at, **said(fix)}, {**nowhere, **said(fix), "factor": 2.0}])
    assert columns.elsewhere == pytest.approx([0.75, 0.75])
    assert columns.is_right.tolist() == [True, False]
    assert columns.error_m[0] == pytest.approx(7.5, abs=0.2)
    assert np.isnan(columns.accuracy_m).all()
    assert np.isnan(columns.error_m[1])
    assert columns.factor[1] == 2.0


@pytest.mark.parametrize(
    "draw", [strange_pictures.noise, strange_pictures.sky, strange_pictures.wall]
)
def test_strange_pictures_are_drawn_from_their_seed(
    draw: Callable[[np.random.Generator], npt.NDArray[np.uint8]],
) -> None:
    first, again, other = (draw(np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (96, 128, 3)
    assert (first == again).all()
    assert (first != other).any()


def test_plots_are_drawn(fixes: Fixes, tmp_path: Path) -> None:
    draw_trust(fixes, {"others": fixes}, {"noise": fixes}, tmp_path / "trust.png")
    draw_conflict({"disk": fixes}, {"disk": fixes}, tmp_path / "conflict.png")
    for name in ("trust.png", "conflict.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
