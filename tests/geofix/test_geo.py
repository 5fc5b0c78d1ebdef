import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geofix.geo import Bounds, LatLon, distance_m, east_north_m, latlon_from_east_north
from geofix_index.sphere import EARTH_RADIUS_M

LATS, LONS = st.floats(-90, 90), st.floats(-180, 180)
PLACES = st.builds(LatLon, LATS, LONS)
OFFSETS_M = st.floats(-5e6, 5e6)
DEGREE_M = math.radians(1) * EARTH_RADIUS_M


@given(PLACES, OFFSETS_M, OFFSETS_M)
@example(LatLon(90, 0), 1000.0, 2000.0)
@example(LatLon(-90, 77), -1000.0, 3000.0)
@example(LatLon(0, 180), 5000.0, 0.0)
@example(LatLon(12, -180), -5000.0, 0.0)
@example(LatLon(47, 8), 0.0, 0.0)
def test_east_and_north_come_back(origin: LatLon, east: float, north: float) -> None:
    lat, lon = latlon_from_east_north([east, north], origin=origin)
    back = east_north_m(lat, lon, origin=origin)
    assert np.hypot(*(back - [east, north])) < 1e-3  # float64 at the far side of a quarter globe


@given(PLACES, OFFSETS_M, OFFSETS_M)
def test_distances_from_the_origin_are_true(origin: LatLon, east: float, north: float) -> None:
    place = LatLon(*latlon_from_east_north([east, north], origin=origin).tolist())
    assert distance_m(origin, place) == pytest.approx(math.hypot(east, north), abs=0.2)


@pytest.mark.parametrize(
    ("origin", "place", "east_deg", "north_deg"),
    [
        (LatLon(0, 0), LatLon(0, 1), 1, 0),
        (LatLon(0, 0), LatLon(-1, 0), 0, -1),
        (LatLon(0, 179.5), LatLon(0, -179.5), 1, 0),
        (LatLon(89.5, 0), LatLon(89.5, 180), 0, 1),  # straight over the pole
        (LatLon(60, 10), LatLon(60.1, 10), 0, 0.1),
    ],
)
def test_east_and_north_of_known_places(
    origin: LatLon, place: LatLon, east_deg: float, north_deg: float
) -> None:
    offset = east_north_m(place.lat, place.lon, origin=origin)
    assert offset / DEGREE_M == pytest.approx([east_deg, north_deg], abs=1e-9)


def test_many_places_are_projected_at_once() -> None:
    lat, lon = np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 5.0, 6.0]])
    offsets = east_north_m(lat, lon, origin=LatLon(2, 5))
    assert offsets.shape == (1, 3, 2)
    back = latlon_from_east_north(offsets, origin=LatLon(2, 5))
    np.testing.assert_allclose(back, np.stack([lat, lon], axis=-1), atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [
        (LatLon(0, 0), LatLon(0, 0), 0),
        (LatLon(0, 0), LatLon(0, 90), 90),
        (LatLon(90, 0), LatLon(-90, 123), 180),
        (LatLon(0, -179.5), LatLon(0, 179.5), 1),
        (LatLon(90, 10), LatLon(90, -70), 0),
    ],
)
def test_distances_of_known_places(a: LatLon, b: LatLon, degrees: float) -> None:
    assert distance_m(a, b) == pytest.approx(degrees * DEGREE_M, abs=1e-6)
    assert distance_m(b, a) == distance_m(a, b)


@pytest.mark.parametrize("lat", [90.001, -91, math.nan, math.inf])
def test_a_latitude_out_of_range_is_an_error(lat: float) -> None:
    with pytest.raises(ValueError, match="lat is"):
        LatLon(lat, 0)


@pytest.mark.parametrize("lon", [180.001, -181, math.nan, -math.inf])
def test_a_longitude_out_of_range_is_an_error(lon: float) -> None:
    with pytest.raises(ValueError, match="lon is"):
        LatLon(0, lon)


@pytest.mark.parametrize(
    "sides",
    [
        *((2, 0, 1, 0), (-91, 0, 0, 0), (0, 0, 90.1, 0), (math.nan, 0, 1, 0), (0, 0, math.nan, 0)),
        *((0, -181, 1, 0), (0, 0, 1, 181), (0, math.nan, 1, 0), (0, 0, 1, math.nan)),
    ],
)
def test_bounds_out_of_range_are_an_error(sides: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="want -"):
        Bounds(*sides)


@pytest.mark.parametrize(
    ("west", "east", "width"), [(8, 9, 1), (179, -179, 2), (-180, 180, 360), (5, 5, 0)]
)
def test_the_width_of_bounds_goes_east(west: float, east: float, width: float) -> None:
    assert Bounds(0, west, 1, east).width_deg == width


def test_a_position_is_taken_apart_latitude_first() -> None:
    lat, lon = place = LatLon(47.37, 8.54)
    assert (lat, lon) == (place[0], place[1]) == (47.37, 8.54)
    with pytest.raises(IndexError):
        place[2]
