"""The table of photos that every data set has: one row a photo, CSV or Parquet.

Columns: path (relative to the table), lat, lon (WGS84 degrees), and where known heading_deg
(clockwise from north), hfov_deg (horizontal field of view), captured_at (ISO 8601), camera,
sequence_id, split ("train", "val" or "test"), blur_boxes (see privacy.py). Further columns are
kept. An unknown number is NaN, an unknown text is empty.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_index.sphere import great_circle_m

NUMBERS = ("lat", "lon", "heading_deg", "hfov_deg")
TEXTS = ("path", "captured_at", "camera", "sequence_id", "split")
BLUR_BOXES = "blur_boxes"  # a text, too, but only in tables that have it
HEADING_NORTH = "heading_north"  # "true" or "magnetic", a column of imported tables
OWN_SLICE = "slice_"  # starts the name of a column that an evaluation tells photos apart by
SPLITS = ("train", "val", "test")
_ALIASES = {"photo": "path", "image": "path", "latitude": "lat", "longitude": "lon"}
_FAR_M = 50_000.0  # a photo farther from the rest than this may have its coordinates swapped


class TableError(ValueError):
    """A table that cannot be used; the message names the file and the row."""


@dataclass(frozen=True)
class PhotoTable:
    """Photos as columns of equal length. Select rows with `table[mask_or_indices]`."""

    columns: Mapping[str, npt.NDArray[Any]]
    root: Path = field(default=Path())
    numbers: npt.NDArray[np.intp] | None = None  # of the rows in their file; None: 1, 2, ...

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Sequence[Any]], *, root: Path = Path()
    ) -> "PhotoTable":
        """Return a table; absent columns are filled with NaN or empty text."""
        num = len(next(iter(columns.values())))
        arrays: dict[str, npt.NDArray[Any]] = {name: np.asarray(c) for name, c in columns.items()}
        for name in NUMBERS:
            arrays[name] = np.asarray(arrays.get(name, np.full(num, np.nan)), np.float64)
        for name in TEXTS:
            arrays[name] = np.asarray(arrays.get(name, [""] * num), dtype=str)
        return cls(arrays, root)

    def __len__(self) -> int:
        return len(self.columns["lat"])

    def __getitem__(self, rows: npt.NDArray[Any]) -> "PhotoTable":
        columns = {name: column[rows] for name, column in self.columns.items()}
        numbers = np.arange(1, len(self) + 1) if self.numbers is None else self.numbers
        return PhotoTable(columns, self.root, numbers[rows])

    @property
    def lat(self) -> npt.NDArray[np.float64]:
        """Latitudes, degrees."""
        return self.columns["lat"]

    @property
    def lon(self) -> npt.NDArray[np.float64]:
        """Longitudes, degrees."""
        return self.columns["lon"]

    @property
    def latlon(self) -> npt.NDArray[np.float64]:
        """Positions, (N, 2) degrees."""
        return np.column_stack([self.lat, self.lon])

    @property
    def heading_deg(self) -> npt.NDArray[np.float64]:
        """Headings, clockwise from north; NaN where unknown."""
        return self.columns["heading_deg"]

    @property
    def hfov_deg(self) -> npt.NDArray[np.float64]:
        """Horizontal fields of view; NaN where unknown."""
        return self.columns["hfov_deg"]

    @property
    def split(self) -> npt.NDArray[np.str_]:
        """Which split each photo belongs to; empty where the table has none."""
        return self.columns["split"]

    @property
    def is_train(self) -> npt.NDArray[np.bool_]:
        """Which photos are trained on: those of split "train", or all where none has a split."""
        has_splits = bool((self.split != "").any())
        return self.split == "train" if has_splits else np.ones(len(self), bool)

    def sha256(self) -> str:
        """Return a hash of paths and positions, which tells data sets apart."""
        content = hashlib.sha256("\n".join(self.columns["path"].tolist()).encode())
        for values in (self.lat, self.lon):
            content.update(np.ascontiguousarray(values, "<f8").tobytes())
        return content.hexdigest()

    def of_split(self, split: str) -> "PhotoTable":
        """Return the rows of one split."""
        return self[self.split == split]

    def row_name(self, row: int) -> str:
        """Return how messages call a row: its number in the file, and its photo."""
        number = row + 1 if self.numbers is None else self.numbers[row]
        return f"row {number} ({self.columns['path'][row]})"

    def photo_path(self, row: int) -> Path:
        """Return where the photo of a row lies."""
        return self.root / str(self.columns["path"][row])


def read_photo_table(path: Path, *, on_error: str = "stop") -> tuple[PhotoTable, list[str]]:
    """Read and check a table; return it with a sentence for each row that was left out.

    Args:
        path: a `.csv` or `.parquet` file; photos lie relative to its folder.
        on_error: "stop" raises at the first bad row, "skip" leaves bad rows out.

    Raises:
        TableError: unreadable, a column is missing, or (with "stop") a row is bad.
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error is {on_error!r}, want 'stop' or 'skip'")
    columns = read_columns(path)
    for wanted in ("path", "lat", "lon"):
        if wanted not in columns:
            raise TableError(
                f"{path}: no column {wanted!r}; it has {', '.join(columns)}: "
                f"{_remedy(path, wanted)}"
            )
    texts = _read_numbers(columns)
    table = PhotoTable.from_columns(columns, root=path.parent)
    return keep_good_rows(table, on_error=on_error, name=str(path), texts=texts)


def keep_good_rows(
    table: PhotoTable, *, on_error: str, name: str, texts: Mapping[int, str] | None = None
) -> tuple[PhotoTable, list[str]]:
    """Return the rows that can be used, with a sentence for each that was left out.

    Args:
        table: to check.
        on_error: "stop" raises at the first bad row, "skip" leaves bad rows out.
        name: of the table, for messages.
        texts: what is wrong already, by row.

    Raises:
        TableError: no rows, all are bad, or (with "stop") one is.
    """
    if len(table) == 0:
        raise TableError(f"{name}: no rows")
    problems = _problems(table, texts or {})
    if problems and on_error == "stop":
        raise TableError(f"{name}: {next(iter(problems.values()))}")
    good = np.array([row not in problems for row in range(len(table))])
    if not good.any():
        raise TableError(f"{name}: every row is bad; the first: {next(iter(problems.values()))}")
    return table[good], list(problems.values())


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Read the columns of a CSV or Parquet file by name; raise TableError where that fails."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if not path.is_file():
        raise TableError(f"{path}: no such file")
    try:
        check_ending(path)
        if path.suffix == ".csv":
            _refuse_other_separators(path)
            text = {name: pa.string() for name in (*TEXTS, BLUR_BOXES, "photo", "image")}
            options = csv.ConvertOptions(column_types=text, strings_can_be_null=False)
            data = csv.read_csv(path, convert_options=options)
        else:
            data = parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as e:
        raise TableError(f"{path}: unreadable: {e}") from e
    columns = {}
    for name in data.column_names:
        missing = np.nan if pa.types.is_floating(data[name].type) else None
        values = [missing if value is None else value for value in data[name].to_pylist()]
        known = _ALIASES.get(name, name)
        columns[name if known in data.column_names else known] = [
            "" if known in (*TEXTS, BLUR_BOXES) and value is None else value for value in values
        ]
    return columns


def write_photo_table(table: PhotoTable, path: Path) -> None:
    """Write a table as Parquet or CSV, by the ending of `path`; an unknown number is left empty.

    Raises:
        TableError: another ending.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    check_ending(path)
    data = pa.table(
        {
            name: pa.array(column.tolist(), from_pandas=column.dtype.kind == "f")
            for name, column in table.columns.items()
        }
    )
    if path.suffix == ".csv":
        csv.write_csv(data, path)
    else:
        parquet.write_table(data, path)


def unused_columns(table: PhotoTable) -> list[str]:
    """Return the names of columns that are kept but that nothing reads."""
    known = (*NUMBERS, *TEXTS, BLUR_BOXES, HEADING_NORTH)
    return [name for name in table.columns if name not in known and not name.startswith(OWN_SLICE)]


def check_ending(path: Path) -> None:
    """Raise TableError unless a table can have this name."""
    if path.suffix not in (".csv", ".parquet"):
        raise TableError(f"{path}: ends in {path.suffix!r}, want .csv or .parquet")


def _remedy(path: Path, wanted: str) -> str:
    """Return what to do about a column that a table calls otherwise."""
    if path.suffix != ".csv":
        return f"call one of them {wanted!r}"
    return f"geofix-train import {path} --column {wanted}=NAME -o TABLE makes a photo table of it"


def _refuse_other_separators(path: Path) -> None:
    """Raise TableError for a CSV file whose first line is separated, but not by commas."""
    with path.open("rb") as file:
        head = file.readline()
    for separator in (b";", b"\t", b"|"):
        if separator in head and b"," not in head:
            raise TableError(
                f"{path}: columns are separated by {separator.decode()!r}, want commas: "
                "geofix-train import makes a photo table of any"
            )


def _read_numbers(columns: dict[str, list[Any]]) -> dict[int, str]:
    """Turn the number columns into numbers, in place; return by row what was text instead."""
    texts: dict[int, str] = {}
    for name in NUMBERS:
        for row, value in enumerate(columns.get(name, [])):
            try:
                columns[name][row] = np.nan if value in (None, "") else float(value)
            except (TypeError, ValueError):
                columns[name][row] = np.nan
                texts.setdefault(row, f"{name} is {value!r}, want a number")
    return texts


def _problems(table: PhotoTable, texts: Mapping[int, str]) -> dict[int, str]:
    """Return what is wrong, by row."""
    problems: dict[int, str] = {}
    known = np.isfinite(table.lat) & np.isfinite(table.lon)
    middle = (np.median(table.lat[known]), np.median(table.lon[known])) if known.any() else (0, 0)
    for row in range(len(table)):
        wrong = texts.get(row) or _wrong(table, row, middle)
        if wrong:
            problems[row] = f"{table.row_name(row)}: {wrong}"
    return problems


def _wrong(table: PhotoTable, row: int, middle: tuple[float, float]) -> str:
    """Return what is wrong with a row, empty where nothing is."""
    wrong = _wrong_position(table.lat[row], table.lon[row], middle)
    if wrong:
        return wrong
    split, hfov_deg = str(table.split[row]), float(table.hfov_deg[row])
    if split not in ("", *SPLITS):
        return f"split is {split!r}, want {', '.join(SPLITS)}"
    if np.isfinite(hfov_deg) and not 1 < hfov_deg < 180:
        return f"hfov_deg is {hfov_deg}, want 1 to 180"
    return "" if table.photo_path(row).is_file() else "no such photo"


def _wrong_position(lat: float, lon: float, middle: tuple[float, float]) -> str:
    if not (np.isfinite(lat) and np.isfinite(lon)):
        return f"position is {lat}, {lon}, want two numbers"
    if not -90 <= lat <= 90 or not -180 <= lon <= 180:
        swapped = "; they look swapped" if -90 <= lon <= 90 and -180 <= lat <= 180 else ""
        return f"lat {lat}, lon {lon} are out of range (90, 180){swapped}"
    if abs(lon) > 90 or float(great_circle_m(lat, lon, *middle)) < _FAR_M:
        return ""
    if float(great_circle_m(lon, lat, *middle)) < _FAR_M:
        return f"lat {lat}, lon {lon} lie far from all other photos and near them if swapped"
    return ""
