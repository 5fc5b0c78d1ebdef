from typing import Any

import numpy as np
import pytest

from geofix_train.leaks import find_leaks
from geofix_train.photo_table import PhotoTable


def table_of(*splits: str, **columns: Any) -> PhotoTable:
    """Return a table with a photo 0.jpg, 1.jpg, ... of each of these splits."""
    num = len(splits)
    content = {"path": [f"{row}.jpg" for row in range(num)], "split": list(splits)}
    return PhotoTable.from_columns({"lat": [47.0] * num, "lon": [8.0] * num, **content, **columns})


def texts(table: PhotoTable, *groups: list[int]) -> list[str]:
    return [leak.text for leak in find_leaks(table, same_pictures=groups)]


def test_a_sequence_in_two_splits_is_a_leak() -> None:
    table = table_of("train", "test", "train", "val", "", sequence_id=["a", "a", "a", "b", "b"])
    assert texts(table) == ["sequence a is in several splits: 2 train, 1 test"]


def test_photos_without_a_sequence_share_none() -> None:
    assert texts(table_of("train", "test")) == []


def test_a_picture_in_two_splits_is_a_leak() -> None:
    table = table_of("train", "train", "test", "")
    assert texts(table, [0, 1], [0, 3]) == []
    assert texts(table, [1, 2, 3]) == [
        "the same picture is in several splits: 1.jpg (train), 2.jpg (test), 3.jpg (no split)"
    ]


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_a_photo_within_seconds_of_the_nearest_training_photo_is_a_leak(held_out: str) -> None:
    times = ["2025-10-02T12:00:00Z", "2025-10-02T14:00:04.5+02:00", "2025-10-02T12:00:06"]
    table = table_of("train", held_out, "train", captured_at=times)
    assert texts(table) == [f"1.jpg ({held_out}) was taken 1.5 s from 2.jpg (train)"]
    assert find_leaks(table, same_pictures=[])[0].rows == (1, 2)


@pytest.mark.parametrize("seconds", [10, 11, 60])
def test_ten_seconds_are_the_border(seconds: int) -> None:
    times = ["2025-10-02T12:00:00", f"2025-10-02T12:{seconds // 60:02d}:{seconds % 60:02d}"]
    for order in (("train", "test"), ("test", "train")):
        assert len(texts(table_of(*order, captured_at=times))) == (seconds <= 10)


def test_photos_of_one_moment_far_apart_are_no_leak() -> None:
    table = table_of("train", "test", captured_at=["2025-10-02T12:00:00Z"] * 2, lat=[47.0, 47.01])
    assert texts(table) == []


def test_photos_without_a_time_or_a_split_are_no_leak() -> None:
    times = ["", "", "2025-10-02T12:00:00Z", "2025-10-02T12:00:00Z"]
    assert texts(table_of("train", "test", "", "test", captured_at=times)) == []


def test_times_are_found_among_many() -> None:
    num = 500
    rng = np.random.default_rng(0)
    seconds = rng.integers(0, 20_000, num)
    splits = rng.choice(["train", "test"], num, p=[0.8, 0.2])
    table = table_of(*splits.tolist(), captured_at=(1.7e9 + seconds).astype("M8[s]").astype(str))
    gaps = np.abs(seconds[:, None] - seconds[None, splits == "train"]).min(axis=1)
    wanted = np.flatnonzero((splits == "test") & (gaps <= 10)).tolist()
    assert [leak.rows[0] for leak in find_leaks(table, same_pictures=[])] == wanted
