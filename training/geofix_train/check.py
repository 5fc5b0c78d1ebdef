"""A data report: what a photo table holds and what is wrong with it, before anyone trains."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.geo import Bounds, LatLon
from geofix.map_image import bounds_around
from geofix_train.aerial import Mosaic, read_imagery
from geofix_train.importers.moments import seconds_since_1970
from geofix_train.leaks import Leak, find_leaks
from geofix_train.photo_table import HEADING_NORTH, PhotoTable, read_photo_table
from geofix_train.same_pictures import read_fingerprints, same_files, same_pictures
from geofix_train.split import missing_splits

_SEASONS = ("winter", "spring", "summer", "autumn")  # of the north, from December in threes
_SAME_DEGREES = 1e-6  # of a position: 0.1 m
_SAME_HEADING_DEG = 1.0
_PIXEL_M = 4.0  # imagery is read so coarsely, since only its cover counts
_MAX_SIDE_PX = 5000  # of a mosaic as large as what the photos span


@dataclass(frozen=True)
class Report:
    """What was found. Groups hold the paths of photos that belong together."""

    table: str
    num_photos: int  # that can be used
    bad_rows: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]  # of split, camera, season, year
    missing_splits: tuple[str, ...]  # a sentence for each split that no photo has
    bounds: Bounds
    num_without: Mapping[str, int]  # heading_deg, hfov_deg, captured_at
    num_magnetic: int  # headings that count from magnetic north
    same_files: tuple[tuple[str, ...], ...]
    same_pictures: tuple[tuple[str, ...], ...]  # same files are the same picture, too
    same_views: tuple[tuple[str, ...], ...]  # at one position, with one heading
    imagery_dates: tuple[str, ...]  # empty where imagery was not checked
    outside_imagery: tuple[str, ...]
    leaks: tuple[Leak, ...]

    @property
    def is_sound(self) -> bool:
        """Whether there is neither a bad row nor a leak."""
        return not self.bad_rows and not self.leaks

    def to_json(self) -> dict[str, Any]:
        """Return the report for `json.dumps`; leaks as sentences by kind."""
        content = asdict(self)
        kinds = dict.fromkeys(leak.kind for leak in self.leaks)
        content["leaks"] = {
            kind: [leak.text for leak in self.leaks if leak.kind == kind] for kind in kinds
        }
        content["is_sound"] = self.is_sound
        return content


@dataclass(frozen=True)
class Checked:
    """A report, and what its map is drawn of."""

    report: Report
    table: PhotoTable  # the photos that can be used
    mosaics: list[Mosaic]


def check_table(path: Path, *, aerial: Path | None = None) -> Checked:
    """Look through a photo table and its photos.

    Args:
        path: the table.
        aerial: imagery that photos should lie in.

    Raises:
        TableError: the table or the imagery cannot be read, or no row is good.
    """
    table, bad_rows = read_photo_table(path, on_error="skip")
    prints = read_fingerprints(table)
    files, pictures = same_files(prints), same_pictures(prints)
    mosaics = _read_coarsely(table, aerial) if aerial else []
    usable = table[prints.is_read]

    def named(groups: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(table.columns["path"][list(group)].tolist()) for group in groups)

    report = Report(
        table=str(path),
        num_photos=len(usable),
        bad_rows=(*bad_rows, *filter(None, prints.problems)),
        counts=_counts(usable),
        missing_splits=tuple(missing_splits(usable)),
        bounds=_bounds(table),
        num_without=_num_without(usable),
        num_magnetic=int((_texts(usable, HEADING_NORTH) == "magnetic").sum()),
        same_files=named(files),
        same_pictures=named(pictures),
        same_views=named(_same_views(table)),
        imagery_dates=tuple(mosaic.date for mosaic in mosaics),
        outside_imagery=tuple(usable.columns["path"][_outside(usable, mosaics)].tolist()),
        leaks=tuple(find_leaks(table, same_pictures=pictures)),
    )
    return Checked(report, table, mosaics)


def season(captured_at: str, lat: float) -> str:
    """Return the season of a moment, empty where it is unknown; south of the equator the other."""
    if not np.isfinite(seconds_since_1970(captured_at)):
        return ""
    north = int(captured_at[5:7]) % 12 // 3
    return _SEASONS[north if lat >= 0 else (north + 2) % 4]


def _counts(table: PhotoTable) -> dict[str, dict[str, int]]:
    times = table.columns["captured_at"].tolist()
    columns = {
        "split": table.split.tolist(),
        "camera": table.columns["camera"].tolist(),
        "season": [season(at, lat) for at, lat in zip(times, table.lat, strict=True)],
        "year": [_year(at) for at in times],
    }
    return {name: dict(sorted(Counter(values).items())) for name, values in columns.items()}


def _year(captured_at: str) -> str:
    seconds = seconds_since_1970(captured_at)
    return str(datetime.fromtimestamp(seconds, timezone.utc).year) if np.isfinite(seconds) else ""


def _num_without(table: PhotoTable) -> dict[str, int]:
    seconds = np.array([seconds_since_1970(at) for at in table.columns["captured_at"].tolist()])
    numbers = {
        "heading_deg": table.heading_deg, "hfov_deg": table.hfov_deg, "captured_at": seconds
    }  # fmt: skip
    return {name: int(np.isnan(values).sum()) for name, values in numbers.items()}


def _texts(table: PhotoTable, name: str) -> npt.NDArray[np.str_]:
    return np.asarray(table.columns.get(name, np.full(len(table), "")), dtype=str)


def _bounds(table: PhotoTable) -> Bounds:
    places = [LatLon(*place) for place in zip(table.lat.tolist(), table.lon.tolist(), strict=True)]
    return bounds_around(places, margin_m=0.0)


def _same_views(table: PhotoTable) -> list[list[int]]:
    """Return groups of rows at one position with one heading, or with none."""
    groups: dict[tuple[float, ...], list[int]] = {}
    heading = np.where(np.isnan(table.heading_deg), -1.0, table.heading_deg // _SAME_HEADING_DEG)
    places = np.round(table.latlon / _SAME_DEGREES)
    for row, view in enumerate(np.column_stack([places, heading]).tolist()):
        groups.setdefault(tuple(view), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def _read_coarsely(table: PhotoTable, aerial: Path) -> list[Mosaic]:
    bounds = _bounds(table)
    widest_m = 111_000.0 * max(bounds.north - bounds.south, bounds.width_deg)
    return read_imagery(aerial, pixel_m=max(_PIXEL_M, widest_m / _MAX_SIDE_PX))


def _outside(table: PhotoTable, mosaics: list[Mosaic]) -> npt.NDArray[np.bool_]:
    """Return which photos no date of the imagery shows, none where there is no imagery."""
    if not mosaics:
        return np.zeros(len(table), bool)
    xy = mosaics[0].frame.xy(table.lat, table.lon)
    return np.asarray(~np.any([mosaic.covers(xy) for mosaic in mosaics], axis=0))
