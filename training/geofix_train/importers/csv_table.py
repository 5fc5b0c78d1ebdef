"""CSV tables with any separator and any names of columns.

Known names are understood in any case; `columns` says the others. Further columns are kept. With a
separator other than a comma, numbers may have a decimal comma.
"""

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geofix_train.importers.angles import compass_deg
from geofix_train.importers.moments import iso_time
from geofix_train.importers.photo import BadPhoto, Found, ImportedPhoto, PhotoFinder
from geofix_train.photo_table import NUMBERS, TEXTS, TableError

NAMES = {
    "path": ("photo", "image", "file", "filename", "file_name", "image_path", "img"),
    "lat": ("latitude", "gps_latitude", "y_wgs84"),
    "lon": ("longitude", "lng", "long", "gps_longitude", "x_wgs84"),
    "heading_deg": ("heading", "bearing", "azimuth", "compass", "compass_angle"),
    "hfov_deg": ("hfov", "fov", "field_of_view"),
    "captured_at": ("timestamp", "datetime", "date_time", "time", "taken_at"),
    "camera": ("device", "camera_model"),
    "sequence_id": ("sequence", "sequence_key", "trip", "drive"),
    "split": ("subset",),
}  # fmt: skip
_SEPARATORS = ",;\t|"
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


def read_csv(source: Path, *, photos: Path, columns: Mapping[str, str] | None = None) -> Found:
    """Yield the photos of a CSV file.

    Args:
        source: the file, UTF-8.
        photos: the folder that paths are relative to; a photo that is not there is looked for by
            its name below the folder.
        columns: from a column of photo tables ("lat") to what it is called here ("LATITUDE").

    Raises:
        TableError: unreadable, or a column is missing.
    """
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            separator = _separator(file.readline())
            file.seek(0)
            lines = list(csv.reader(file, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise TableError(f"{source}: unreadable: {e}") from e
    if not lines:
        raise TableError(f"{source}: no rows")
    head = [name.strip() for name in lines[0]]
    chosen = _choose(source, head, columns or {})
    finder = PhotoFinder(photos)
    for number, values in enumerate(lines[1:], start=2):
        if not any(values):
            continue
        name = f"{source}: line {number}"
        if len(values) != len(head):
            yield BadPhoto(name, f"{len(values)} values, want {len(head)}")
            continue
        row = dict(zip(head, (value.strip() for value in values), strict=True))
        try:
            yield _photo(name, row, chosen, finder, decimal_comma=separator != ",")
        except ValueError as e:
            yield BadPhoto(name, str(e))


def _separator(head: str) -> str:
    """Return what the columns of the first line are separated by."""
    return max(_SEPARATORS, key=head.count)


def _choose(source: Path, head: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return which column of the file each column of the table comes from."""
    chosen: dict[str, str] = {}
    for wanted, name in columns.items():
        if wanted not in NAMES:
            raise TableError(f"--column {wanted}={name}: want one of {', '.join(NAMES)}")
        if name not in head:
            raise TableError(f"{source}: no column {name!r}; it has {', '.join(head)}")
        chosen[wanted] = name
    lower = {name.lower(): name for name in reversed(head)}
    for wanted, others in NAMES.items():
        known = next((lower[name] for name in (wanted, *others) if name in lower), None)
        if wanted not in chosen and known is not None and known not in chosen.values():
            chosen[wanted] = known
    for wanted in ("path", "lat", "lon"):
        if wanted not in chosen:
            raise TableError(
                f"{source}: no column {wanted!r}; it has {', '.join(head)}; "
                f"say which by --column {wanted}=NAME"
            )
    return chosen


def _photo(
    source: str,
    row: Mapping[str, str],
    chosen: Mapping[str, str],
    finder: PhotoFinder,
    *,
    decimal_comma: bool,
) -> ImportedPhoto:
    known = {wanted: row[name] for wanted, name in chosen.items()}
    numbers: dict[str, Any] = {
        name: _number(known.get(name, ""), name, decimal_comma=decimal_comma) for name in NUMBERS
    }
    if not known["path"]:
        raise ValueError("no path")
    path = finder.folder / known["path"]
    if not path.is_file():
        path = finder.find(Path(known["path"].replace("\\", "/")).name) or path
    numbers["heading_deg"] = compass_deg(numbers["heading_deg"])
    texts: dict[str, Any] = {
        name: known.get(name, "") for name in TEXTS if name not in ("path", "captured_at")
    }
    more = {name: value for name, value in row.items() if name not in chosen.values()}
    return ImportedPhoto(
        source=source,
        path=path,
        captured_at=iso_time(known.get("captured_at")),
        more={name: value for name, value in more.items() if name not in (*NUMBERS, *TEXTS)},
        **numbers,
        **texts,
    )


def _number(text: str, name: str, *, decimal_comma: bool) -> float:
    if text == "":
        return math.nan
    if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, want a number") from None
