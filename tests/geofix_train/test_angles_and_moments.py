import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_train.importers.angles import compass_deg
from geofix_train.importers.moments import iso_time, seconds_since_1970


@given(st.floats(-1e6, 1e6))
def test_a_heading_lies_from_0_to_below_360_and_points_the_same_way(angle: float) -> None:
    turned = compass_deg(angle)
    assert 0 <= turned < 360
    assert math.cos(math.radians(turned - angle)) == pytest.approx(1)


def test_an_infinite_heading_is_unknown() -> None:
    assert math.isnan(compass_deg(math.inf))


# Moments


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, ""),
        ("", ""),
        ("2025-10-02T15:36:20Z", "2025-10-02T15:36:20+00:00"),
        ("2025-10-02T15:36:20.5+02:00", "2025-10-02T15:36:20.500000+02:00"),
        ("2025-10-02T15:36:20.1234567Z", "2025-10-02T15:36:20.123456+00:00"),
        ("2025-10-02", "2025-10-02T00:00:00"),
        ("2024:05:01 12:00:00", "2024-05-01T12:00:00"),
        ("2024:05:01 12:00:00+02:00", "2024-05-01T12:00:00+02:00"),
        (1_600_000_000_123, "2020-09-13T12:26:40.123000+00:00"),
        ("1600000000", "2020-09-13T12:26:40+00:00"),
    ],
)
def test_moments_become_iso_8601(value: object, wanted: str) -> None:
    assert iso_time(value) == wanted


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "12:00", "nan", "1e30"])
def test_what_is_no_moment_is_named(value: str) -> None:
    with pytest.raises(ValueError, match="captured_at is "):
        iso_time(value)


def test_a_moment_without_an_offset_counts_as_utc() -> None:
    assert seconds_since_1970("1970-01-01T01:00:00+01:00") == 0
    assert seconds_since_1970("1970-01-01T00:00:01") == 1
    assert math.isnan(seconds_since_1970(""))
