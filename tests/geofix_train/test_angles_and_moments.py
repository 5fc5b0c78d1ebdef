import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_train.importers.angles import compass_deg, hfov_from_focal, hfov_from_focal_35mm
from geofix_train.importers.moments import iso_time, seconds_since_1970


def test_a_focal_length_of_18_mm_on_36_mm_of_film_sees_90_degrees() -> None:
    assert hfov_from_focal_35mm(18, width=36, height=24) == pytest.approx(90)
    assert hfov_from_focal_35mm(12, width=24, height=36) == pytest.approx(90)  # upright


@given(st.floats(5, 500), st.floats(100, 9000), st.floats(100, 9000))
def test_the_field_of_view_spans_the_same_diagonal_at_any_aspect_ratio(
    focal_mm: float, width: float, height: float
) -> None:
    half_tangents = [
        math.tan(math.radians(hfov_from_focal_35mm(focal_mm, width=w, height=h)) / 2)
        for w, h in ((width, height), (height, width))
    ]
    assert math.hypot(*half_tangents) * focal_mm == pytest.approx(math.hypot(18, 12))


@pytest.mark.parametrize("focal", [0.0, -3.0, math.nan])
def test_no_focal_length_gives_no_field_of_view(focal: float) -> None:
    assert math.isnan(hfov_from_focal(focal, width=36))
    assert math.isnan(hfov_from_focal_35mm(focal, width=36, height=24))


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
