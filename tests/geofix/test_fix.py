"""When a fix may be acted upon."""

from dataclasses import replace

import pytest

from geofix.fix import Candidate, Fix
from geofix.geo import LatLon

PLACE = LatLon(47.37, 8.54)
SURE = Fix(
    status="fixed",
    latlon=PLACE,
    accuracy_m=60.0,
    radius95_m=150.0,
    covariance_m2=None,
    confidence=0.85,
    candidates=(Candidate("479009f75", PLACE, 0.5, 0.8),),
    pack_id="tiny",
)


def test_a_fix_is_sure_of_the_radius_that_it_has() -> None:
    assert SURE.is_sure(radius95_m=150.0)
    assert not SURE.is_sure(radius95_m=149.0)


@pytest.mark.parametrize(
    "lack",
    [
        {"status": "ambiguous"},
        {"status": "unknown"},
        {"prior_conflict": True},
        {"radius95_m": None},
        {"confidence": None},
        {"confidence": 0.79},
    ],
)
def test_nothing_makes_up_for_what_a_fix_lacks(lack: dict[str, object]) -> None:
    assert not replace(SURE, **lack).is_sure(radius95_m=1000.0)  # type: ignore[arg-type]


def test_how_confident_is_asked_for() -> None:
    assert SURE.is_sure(radius95_m=200.0, confidence=0.85)
    assert not SURE.is_sure(radius95_m=200.0, confidence=0.95)


def test_a_track_has_to_be_surer() -> None:
    tracked = replace(SURE, is_tracked=True)
    assert not tracked.is_sure(radius95_m=200.0)
    assert replace(tracked, confidence=0.95).is_sure(radius95_m=200.0)
    assert tracked.is_sure(radius95_m=200.0, confidence=0.8)


def test_json_says_whether_a_fix_is_sure_whatever_the_radius() -> None:
    assert replace(SURE, radius95_m=9000.0).to_json()["is_sure"] is True
    assert replace(SURE, confidence=0.79).to_json()["is_sure"] is False
