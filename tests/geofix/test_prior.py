import math

import numpy as np
import pytest

from geofix.prior import Prior
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
