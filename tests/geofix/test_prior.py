import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.fix import Fix
from geofix.geo import LatLon, latlon_from_east_north
from geofix.prior import Prior, log_weights
from geofix_index import cells as s2


def admits(prior: Prior, lat: float, lon: float) -> bool:
    """Return whether a prior admits the level-16 cell at a place."""
    cell = s2.cell_from_latlon(lat, lon, level=16)
    return bool(prior.region.admits(np.atleast_1d(cell))[0])


@pytest.mark.parametrize("radius_m", [0, -1, math.nan, math.inf])
def test_a_radius_that_is_not_positive_is_an_error(radius_m: float) -> None:
    with pytest.raises(ValueError, match="radius_m"):
        Prior.disk(47, 8, radius_m=radius_m)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (-90.5, 0), (0, 181), (math.nan, 0)])
def test_a_disk_around_no_place_is_an_error(lat: float, lon: float) -> None:
    with pytest.raises(ValueError, match=r"(lat|lon) is"):
        Prior.disk(lat, lon, radius_m=100)


@pytest.mark.parametrize(
    ("lat", "lon", "near", "far"),
    [
        (47.37, 8.54, (47.375, 8.545), (47.4, 8.54)),
        (-33.9, 18.4, (-33.905, 18.39), (-33.87, 18.4)),
        (-16.8, 179.999, (-16.8, -179.995), (-16.8, 179.97)),
        (89.999, 0, (89.9985, 180), (89.95, 0)),
    ],
)
def test_a_disk_admits_what_is_near(
    lat: float, lon: float, near: tuple[float, float], far: tuple[float, float]
) -> None:
    prior = Prior.disk(lat, lon, radius_m=1500)
    assert admits(prior, *near)
    assert not admits(prior, *far)


@pytest.mark.parametrize(
    "sides", [(2, 0, 1, 0), (-91, 0, 0, 0), (0, -181, 1, 0), (0, 0, 1, math.nan)]
)
def test_a_box_that_is_none_is_an_error(sides: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="want -"):
        Prior.bbox(*sides)


@pytest.mark.parametrize(
    ("lon", "inside"), [(179.6, True), (-179.6, True), (179.4, False), (-179.4, False), (0, False)]
)
def test_a_box_across_the_antimeridian_admits_both_sides(lon: float, inside: bool) -> None:
    assert admits(Prior.bbox(-17, 179.5, -16, -179.5), -16.5, lon) == inside


def test_cells_admit_what_they_hold_and_what_holds_them() -> None:
    inner = s2.cell_from_latlon(47.37, 8.54, level=20)
    outer = s2.cell_from_latlon(47.37, 8.54, level=12)
    for cell in (inner, outer):
        prior = Prior.cells(iter([s2.token_from_cell(int(cell))]))
        assert admits(prior, 47.37, 8.54)
        assert not admits(prior, 47.5, 8.54)


@pytest.mark.parametrize("tokens", [[], ()])
def test_no_cells_are_an_error(tokens: list[str]) -> None:
    with pytest.raises(ValueError, match="tokens is empty"):
        Prior.cells(tokens)


@pytest.mark.parametrize("token", ["", "xyz", "0", "479009E4B", "4790" * 5, "ffffffffffffffff"])
def test_a_bad_token_is_an_error(token: str) -> None:
    with pytest.raises(ValueError, match=r"cell"):
        Prior.cells(["479009e4b", token])


def test_one_token_in_place_of_many_is_an_error() -> None:
    # Each character of it would count as the token of a huge cell.
    with pytest.raises(TypeError, match="list"):
        Prior.cells("479009e4b")


def test_a_prior_says_what_it_is() -> None:
    assert Prior.disk(-33.9, 18.4, radius_m=500).description == (
        "disk of 500 m around -33.90000, 18.40000"
    )
    assert Prior.bbox(1, 2, 3, 4).description == "box 1.00000, 2.00000 to 3.00000, 4.00000"
    assert Prior.cells(["479", "47b"]).description == "2 S2 cells"


PLACES = [(47.37, 8.54), (-33.9, 18.4), (-16.8, 179.9999), (89.999, 12.0), (-90.0, 0.0)]


def weights_at(prior: Prior, *offsets: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return the weights of small cells at metres east and north of a prior's centre."""
    assert prior.density is not None
    latlon = latlon_from_east_north(np.array(offsets), origin=prior.density.centre)
    cells = s2.cell_from_latlon(*latlon.T, level=26)  # 0.15 m wide
    return np.exp(log_weights(*prior.expected(cells), num_cells=10**15))


@pytest.mark.parametrize(("lat", "lon"), PLACES)
def test_a_gaussian_falls_off_alike_wherever_it_is(lat: float, lon: float) -> None:
    got = weights_at(Prior.gaussian(lat, lon, sigma_m=50), (0, 0), (50, 0), (0, -100), (30, 40))
    wanted = 0.95 * 2 * np.exp([0, -0.5, -2, -0.5])
    assert got == pytest.approx(wanted, rel=0.02)


def test_a_covariance_lies_along_its_axes() -> None:
    prior = Prior.covariance(47.37, 8.54, ((10_000, 0), (0, 100)))
    east, north = weights_at(prior, (100, 0), (0, 10))
    assert east == pytest.approx(north, rel=0.02)
    turned = Prior.covariance(47.37, 8.54, ((5050, 4950), (4950, 5050)))
    along, across = weights_at(turned, (70, 70), (70, -70))
    assert along == pytest.approx(0.95 * 2 * np.exp(-0.5 * 0.98), rel=0.02)
    assert across < 1e-6


def test_a_gaussian_amounts_to_as_many_cells_as_have_equal_weights() -> None:
    # n = 1 / sum p^2, over all cells of a disk that holds the Gaussian.
    prior = Prior.gaussian(47.37, 8.54, sigma_m=400)
    block = s2.cell_from_latlon(47.37, 8.54, level=11)
    around = s2.descendants(np.append(s2.neighbours(block), block), level=16)
    expected, amounts_to = prior.expected(around)
    share = expected / expected.sum()
    assert expected.sum() == pytest.approx(1 / (share**2).sum(), rel=0.02)
    assert amounts_to == pytest.approx(1 / (share**2).sum(), rel=0.35)  # cells differ in size


def test_a_photo_can_be_anywhere_though_a_prior_is_narrow() -> None:
    prior = Prior.gaussian(47.37, 8.54, sigma_m=10)
    far = s2.cell_from_latlon(47.5, 8.54, level=16)
    weight = log_weights(*prior.expected(np.atleast_1d(far)), num_cells=1000)
    assert np.exp(weight[0]) == pytest.approx(0.05 / 1000, rel=0.3)  # it amounts to about one


def test_a_hard_prior_leaves_the_inside_as_it_is() -> None:
    weights = np.exp(log_weights(np.array([1.0, 0.0]), 40, num_cells=1000))
    assert weights == pytest.approx([0.95 + 0.05 * 0.04, 0.05 * 0.04])
    with pytest.raises(ValueError, match=r"disk of 500 m .*: hard"):
        Prior.disk(47, 8, radius_m=500).expected(np.zeros(1, np.uint64))


@given(
    st.floats(-89, 89), st.floats(-180, 180), st.floats(0, 1), st.floats(0, 1), st.floats(1, 1e4)
)
def test_a_prior_that_is_moved_moves_its_weights(
    lat: float, lon: float, east: float, north: float, sigma_m: float
) -> None:
    offset = (sigma_m * east, sigma_m * north)
    here = weights_at(Prior.gaussian(0, 0, sigma_m=sigma_m), offset)
    there = weights_at(Prior.gaussian(lat, lon, sigma_m=sigma_m), offset)
    # Cells are points no more where sigma comes near to their 0.15 m.
    assert there == pytest.approx(here, rel=0.3 / sigma_m + 0.01)


def sigma_m(prior: Prior) -> float:
    """Return the standard deviation of a round prior."""
    assert prior.density is not None
    (xx, xy), (_, yy) = prior.density.covariance_m2
    assert (xy, xx) == (0, yy)
    return math.sqrt(xx)


def test_each_platform_means_its_own_by_accuracy() -> None:
    android = Prior.from_android(47, 8, accuracy_m=15.1)
    assert sigma_m(android) == pytest.approx(10)
    rng = np.random.default_rng(0)
    apart = np.hypot(*rng.normal(0, sigma_m(android), (2, 100_000)))
    assert (apart <= 15.1).mean() == pytest.approx(0.68, abs=0.005)
    apple = Prior.from_core_location(47, 8, horizontal_accuracy_m=10)
    assert sigma_m(apple) ** 2 * 2 == pytest.approx(10**2)


def test_a_nav_sat_fix_is_east_north_up() -> None:
    numbers = [4.0, 1.0, 9.0, 1.0, 16.0, 9.0, 9.0, 9.0, 99.0]
    known = Prior.from_nav_sat_fix(47, 8, position_covariance=numbers, covariance_type=3)
    assert known.density is not None
    assert known.density.covariance_m2 == ((4, 1), (1, 16))
    diagonal = Prior.from_nav_sat_fix(47, 8, position_covariance=numbers, covariance_type=2)
    assert diagonal.density is not None
    assert diagonal.density.covariance_m2 == ((4, 0), (0, 16))


@pytest.mark.parametrize("covariance_type", [0, 4, -1])
def test_an_unknown_covariance_is_an_error_that_says_what_to_do(covariance_type: int) -> None:
    with pytest.raises(ValueError, match=r"covariance_type is .*Prior.disk"):
        Prior.from_nav_sat_fix(
            47, 8, position_covariance=[1.0] * 9, covariance_type=covariance_type
        )


def test_a_nav_sat_fix_of_four_numbers_is_an_error() -> None:
    with pytest.raises(ValueError, match="has 4 numbers, want 9"):
        Prior.from_nav_sat_fix(47, 8, position_covariance=[1.0] * 4, covariance_type=3)


def test_the_last_fix_widens_with_time() -> None:
    fix = Fix("fixed", LatLon(47, 8), 15.1, 30.0, None, 0.9, (), "town")
    assert sigma_m(Prior.from_last_fix(fix, seconds=0, speed_mps=10)) == pytest.approx(10)
    moved = Prior.from_last_fix(fix, seconds=6, speed_mps=10)
    assert sigma_m(moved) == pytest.approx(math.hypot(10, 30))
    from_place = Prior.from_last_fix(LatLon(47, 8), seconds=6, speed_mps=10)
    assert sigma_m(from_place) == pytest.approx(30)


@pytest.mark.parametrize(("seconds", "speed_mps"), [(-1, 1), (1, -1), (math.nan, 1), (math.inf, 1)])
def test_time_and_speed_that_are_none_are_errors(seconds: float, speed_mps: float) -> None:
    with pytest.raises(ValueError, match="want numbers of 0 or more"):
        Prior.from_last_fix(LatLon(47, 8), seconds=seconds, speed_mps=speed_mps)


def test_an_unknown_fix_and_an_exact_place_are_no_priors() -> None:
    unknown = Fix("unknown", LatLon(47, 8), None, None, None, 0.1, (), "town")
    with pytest.raises(ValueError, match="'unknown' says nothing"):
        Prior.from_last_fix(unknown, seconds=1, speed_mps=1)
    with pytest.raises(ValueError, match="say how sure it is"):
        Prior.from_last_fix(LatLon(47, 8), seconds=0, speed_mps=1)


@pytest.mark.parametrize("value", [0, -5, math.nan, math.inf])
def test_a_width_that_is_not_positive_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="sigma_m is"):
        Prior.gaussian(47, 8, sigma_m=value)
    with pytest.raises(ValueError, match="accuracy_m is"):
        Prior.from_android(47, 8, accuracy_m=value)
    with pytest.raises(ValueError, match="horizontal_accuracy_m is"):
        Prior.from_core_location(47, 8, horizontal_accuracy_m=value)


@pytest.mark.parametrize(
    "covariance_m2",
    [
        ((1, 2), (2, 1)),
        ((1, 0.5), (0.4, 1)),
        ((0, 0), (0, 1)),
        ((math.nan, 0), (0, 1)),
        ((1,), (1,)),
        (1, 2),
    ],
)
def test_a_covariance_that_is_none_is_an_error(covariance_m2: Any) -> None:
    with pytest.raises(ValueError, match="covariance_m2 is"):
        Prior.covariance(47, 8, covariance_m2)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (math.nan, 0), (0, 181)])
def test_a_gaussian_around_no_place_is_an_error(lat: float, lon: float) -> None:
    with pytest.raises(ValueError, match=r"(lat|lon) is"):
        Prior.gaussian(lat, lon, sigma_m=10)
