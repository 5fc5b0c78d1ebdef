from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_train.photo_table import PhotoTable, TableError
from geofix_train.split import missing_splits, split_by_group

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def table_of(*sizes: int, **columns: Any) -> PhotoTable:
    """Return a table whose sequences have these numbers of photos."""
    sequences = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    num = len(sequences)
    content = {"path": [f"{row}.jpg" for row in range(num)], "sequence_id": sequences}
    return PhotoTable.from_columns({"lat": [47.0] * num, "lon": [8.0] * num, **content, **columns})


@given(st.lists(st.integers(1, 30), min_size=3, max_size=40), st.integers(0, 5))
def test_a_sequence_is_whole_and_no_split_is_empty(sizes: list[int], seed: int) -> None:
    table = split_by_group(table_of(*sizes, 2), SHARES, seed=seed)
    sequences = table.columns["sequence_id"]
    assert all(len(set(table.split[sequences == name])) == 1 for name in set(sequences))
    assert set(table.split) == set(SHARES)


@given(st.lists(st.integers(1, 10), min_size=40, max_size=60), st.integers(0, 5))
def test_shares_are_met_up_to_a_group(sizes: list[int], seed: int) -> None:
    table = split_by_group(table_of(*sizes, 2), SHARES, seed=seed)
    for name, share in SHARES.items():
        assert abs((table.split == name).sum() - share * len(table)) <= 10


def test_the_seed_says_which_groups() -> None:
    table = table_of(*[5] * 20)
    one, same, other = (split_by_group(table, SHARES, seed=seed).split for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_days_can_be_kept_together() -> None:
    times = [f"2025-10-0{1 + row % 3}T{row:02d}:00:00Z" for row in range(12)]
    table = split_by_group(table_of(12, captured_at=times), SHARES, by="day")
    days = [time[:10] for time in times]
    assert len(set(zip(days, table.split.tolist(), strict=True))) == 3


def test_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    table = PhotoTable(table_of(3, 3, 3).columns, root=tmp_path)
    made = split_by_group(table, SHARES)
    assert made.root == tmp_path
    assert made.columns["path"].tolist() == table.columns["path"].tolist()


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        ("drive", "no column 'drive' to split by; there are "),
        ("camera", r"9 photos have no camera, the first is row 1 \(0.jpg\)"),
        ("heading_deg", "9 photos have no heading_deg"),
        ("day", "9 photos have no captured_at"),
        ("path", "each photo has a path of its own: that would split photo by photo"),
        ("town", "1 groups by town cannot fill 3 splits"),
    ],
)
def test_what_gives_no_groups_is_refused(by: str, wanted: str) -> None:
    with pytest.raises(TableError, match=wanted):
        split_by_group(table_of(3, 3, 3, town=["Chur"] * 9), SHARES, by=by)


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({"training": 1.0}, "split is 'training', want train, val, test"),
        ({"train": 1.5, "val": -0.5}, "the share of val is -0.5, want more than 0"),
        ({"train": 0.8, "val": 0.1}, "the shares sum to 0.9, want 1"),
        ({"train": float("nan")}, "the share of train is nan"),
    ],
)
def test_shares_that_are_none_are_refused(shares: dict[str, float], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        split_by_group(table_of(3, 3, 3), shares)


@pytest.mark.parametrize(
    ("split", "missing"),
    [
        (["train", "val", "test"], []),
        (["train", "train", "test"], ["val"]),
        (["train", "train", "train"], ["val", "test"]),
        (["val", "test", "test"], ["train"]),
        (["", "", ""], ["val", "test"]),  # all are for training
    ],
)
def test_splits_that_no_photo_has_are_named(split: list[str], missing: list[str]) -> None:
    sentences = missing_splits(table_of(3, split=split))
    assert [text.partition(":")[0] for text in sentences] == [
        f"no photo has split {name!r}" for name in missing
    ]
