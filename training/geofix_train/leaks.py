"""What a split lets through from training photos to those that shall judge it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geofix_index.sphere import great_circle_m
from geofix_train.importers.moments import seconds_since_1970
from geofix_train.photo_table import PhotoTable

SECONDS = 10.0  # a photo taken so soon after a training photo, and so near, shows the same
NEAR_M = 500.0  # what a car can drive in that time; other cameras elsewhere are no leak


@dataclass(frozen=True)
class Leak:
    """One way in which two splits share what they should not."""

    kind: str  # "sequence", "picture" or "seconds"
    text: str
    rows: tuple[int, ...]


def find_leaks(table: PhotoTable, *, same_pictures: Sequence[Sequence[int]]) -> list[Leak]:
    """Return the leaks between the splits of a table; none where it has no splits.

    Args:
        table: the photos.
        same_pictures: groups of rows that show the same picture.
    """
    return [
        *_shared_sequences(table),
        *_shared_pictures(table, same_pictures),
        *_near_in_time(table),
    ]


def _shared_sequences(table: PhotoTable) -> Iterator[Leak]:
    sequences, split = table.columns["sequence_id"], table.split
    for name in dict.fromkeys(sequences[sequences != ""].tolist()):
        rows = np.flatnonzero((sequences == name) & (split != ""))
        splits = dict.fromkeys(split[rows].tolist())
        if len(splits) > 1:
            counts = ", ".join(f"{(split[rows] == s).sum()} {s}" for s in splits)
            yield Leak("sequence", f"sequence {name} is in several splits: {counts}", tuple(rows))


def _shared_pictures(table: PhotoTable, groups: Sequence[Sequence[int]]) -> Iterator[Leak]:
    for group in groups:
        splits = {str(table.split[row]) for row in group} - {""}
        if len(splits) > 1:
            names = ", ".join(_called(table, row) for row in group)
            yield Leak("picture", f"the same picture is in several splits: {names}", tuple(group))


def _near_in_time(table: PhotoTable) -> Iterator[Leak]:
    """Yield the photos of val and test that were taken within seconds of a training photo."""
    seconds = np.array([seconds_since_1970(text) for text in table.columns["captured_at"].tolist()])
    train = np.flatnonzero((table.split == "train") & np.isfinite(seconds))
    train = train[np.argsort(seconds[train], kind="stable")]
    held_out = np.flatnonzero(np.isin(table.split, ("val", "test")) & np.isfinite(seconds))
    times = seconds[train]
    for row in held_out.tolist():
        low = np.searchsorted(times, seconds[row] - SECONDS, "left")
        high = np.searchsorted(times, seconds[row] + SECONDS, "right")
        near = train[low:high]
        apart_m = great_circle_m(table.lat[row], table.lon[row], table.lat[near], table.lon[near])
        near = near[apart_m < NEAR_M]
        if len(near):
            other = int(near[np.abs(seconds[near] - seconds[row]).argmin()])
            gap_s = abs(seconds[row] - seconds[other])
            text = f"{_called(table, row)} was taken {gap_s:.1f} s from {_called(table, other)}"
            yield Leak("seconds", text, (row, other))


def _called(table: PhotoTable, row: int) -> str:
    return f"{table.columns['path'][row]} ({table.split[row] or 'no split'})"
