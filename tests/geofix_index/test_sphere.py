import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_index.sphere import EARTH_RADIUS_M, great_circle_m

QUARTER_MERIDIAN_M = EARTH_RADIUS_M * np.pi / 2
POSITIONS = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@pytest.mark.parametrize(
    ("start", "end", "wanted_m"),
    [
        ((0, 0), (90, 0), QUARTER_MERIDIAN_M),
        ((0, -45), (0, 45), QUARTER_MERIDIAN_M),
        ((0, 179), (0, -179), QUARTER_MERIDIAN_M / 45),
        ((-90, 12), (90, -77), 2 * QUARTER_MERIDIAN_M),
        ((90, 12), (90, -77), 0),
        ((47, 8), (47, 8), 0),
    ],
)
def test_known_distances(
    start: tuple[float, float], end: tuple[float, float], wanted_m: float
) -> None:
    assert great_circle_m(*start, *end) == pytest.approx(wanted_m, rel=1e-12, abs=1e-6)


def test_near_points_keep_their_precision() -> None:
    step_deg = 1e-9  # about 0.1 mm
    wanted_m = np.radians(step_deg) * EARTH_RADIUS_M
    assert great_circle_m(47.0, 8.0, 47.0 + step_deg, 8.0) == pytest.approx(wanted_m, rel=1e-4)


@given(POSITIONS, POSITIONS, POSITIONS)
def test_a_distance_is_symmetric_and_no_detour_is_shorter(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]
) -> None:
    direct = great_circle_m(*a, *c)
    assert direct == great_circle_m(*c, *a)
    assert 0 <= direct <= 2 * QUARTER_MERIDIAN_M
    # Between antipodes the haversine formula is off by up to 0.2 m.
    assert direct <= great_circle_m(*a, *b) + great_circle_m(*b, *c) + 0.2


def test_antipodes_are_half_the_globe_apart() -> None:
    lats, lons = np.linspace(-90, 90, 1801), np.linspace(-180, 0, 1801)
    apart = great_circle_m(lats, lons, -lats, lons + 180)
    assert apart == pytest.approx(2 * QUARTER_MERIDIAN_M, abs=0.2)


def test_arrays_broadcast() -> None:
    lats = np.array([[0.0], [10.0]])
    assert great_circle_m(lats, 0, 0, np.zeros(3)).shape == (2, 3)
