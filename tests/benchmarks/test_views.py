"""Which training drives count as having seen a view."""

import numpy as np

from benchmarks.views import like_looking_drives
from geofix_train.photo_table import PhotoTable

DEG_M = 1 / 111_195  # degrees of latitude to a metre


def table(rows: list[tuple[float, float, str]]) -> PhotoTable:
    """Return photos from metres north of a place, heading and drive."""
    north, heading, drive = zip(*rows, strict=True)
    return PhotoTable.from_columns(
        {
            "path": [f"{number}.jpg" for number in range(len(rows))],
            "lat": [47 + DEG_M * metres for metres in north],
            "lon": [8.0] * len(rows),
            "heading_deg": heading,
            "sequence_id": drive,
            "split": ["train"] * len(rows),
        }
    )


def test_drives_count_that_passed_near_and_looked_the_same_way() -> None:
    train = table(
        [
            (0, 350, "a"),
            (9, 10, "a"),  # the same drive again
            (25, 30, "b"),
            (35, 0, "too far"),
            (5, 180, "the other way"),
            (5, np.nan, "whatever way"),
        ]
    )
    photos = table([(0, 355, ""), (0, 320, ""), (0, 180, ""), (900, 0, ""), (0, np.nan, "")])
    assert like_looking_drives(photos, train).tolist() == ["2", "1", "1", "0", "unknown"]


def test_many_drives_are_not_told_apart() -> None:
    train = table([(0, 0, f"drive {number}") for number in range(7)])
    assert like_looking_drives(table([(0, 0, "")]), train).tolist() == ["5 or more"]
