"""By what photos are told apart: hemispheres, unknown values, and a table's own slices."""

from typing import Any

import numpy as np
import pytest

from geofix_train.photo_slices import photo_slices, season
from geofix_train.photo_table import PhotoTable


def slices_of(**columns: list[Any]) -> dict[str, list[str]]:
    """Return the slices of photos at Zurich, or where `columns` say."""
    num = len(next(iter(columns.values())))
    content: dict[str, list[Any]] = {"path": ["a.jpg"] * num, "lat": [47.4] * num}
    content |= {"lon": [8.5] * num, **columns}
    found = photo_slices(PhotoTable.from_columns(content))
    return {name: values.tolist() for name, values in found.items()}


@pytest.mark.parametrize(
    ("month", "north", "south"),
    [
        (12, "winter", "summer"),
        (1, "winter", "summer"),
        (2, "winter", "summer"),
        (3, "spring", "autumn"),
        (5, "spring", "autumn"),
        (6, "summer", "winter"),
        (8, "summer", "winter"),
        (9, "autumn", "spring"),
        (11, "autumn", "spring"),
    ],
)
def test_seasons_turn_with_the_hemisphere(month: int, north: str, south: str) -> None:
    assert season(month, is_south=False) == north
    assert season(month, is_south=True) == south


def test_the_season_is_that_of_each_photos_own_latitude() -> None:
    found = slices_of(captured_at=["2024-07-01T10:00:00Z"] * 3, lat=[47.4, -33.9, 0.0])
    assert found["season"] == ["summer", "winter", "summer"]


@pytest.mark.parametrize(
    ("captured_at", "year", "wanted"),
    [
        ("2023-10-08T15:38:18+00:00", "2023", "autumn"),
        ("2023-01", "2023", "winter"),
        ("20240402T101500Z", "2024", "spring"),
        ("2024-07-01 10:00:00", "2024", "summer"),
        ("", "unknown", "unknown"),
        ("2024-13-01", "unknown", "unknown"),
        ("yesterday", "unknown", "unknown"),
    ],
)
def test_year_and_season_are_read_from_the_time(captured_at: str, year: str, wanted: str) -> None:
    found = slices_of(captured_at=[captured_at])
    assert (found["year"], found["season"]) == ([year], [wanted])


def test_what_a_table_does_not_say_is_unknown() -> None:
    found = slices_of(lat=[47.0, 47.1])
    assert list(found) == ["camera", "season", "year", "heading", "hfov"]
    assert all(values == ["unknown"] * 2 for values in found.values())


def test_a_heading_and_a_field_of_view_are_known_or_not() -> None:
    found = slices_of(heading_deg=[0.0, np.nan], hfov_deg=[np.nan, 70.0], camera=["car", ""])
    assert found["heading"] == ["known", "unknown"]
    assert found["hfov"] == ["unknown", "known"]
    assert found["camera"] == ["car", "unknown"]


def test_a_table_adds_slices_of_its_own() -> None:
    found = slices_of(
        slice_weather=["rain", None], slice_lanes=[2, 4], slice_season=["dry", "wet"], light=[1, 2]
    )
    assert found["weather"] == ["rain", "unknown"]
    assert found["lanes"] == ["2", "4"]
    assert found["season"] == ["dry", "wet"]
    assert "light" not in found
