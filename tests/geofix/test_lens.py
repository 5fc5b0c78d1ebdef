import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.lens import hfov_from_focal, hfov_from_focal_35mm


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
