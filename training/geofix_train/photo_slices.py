"""What the photos of a table are told apart by in an evaluation: camera, season, year and so on."""

import re

import numpy as np
import numpy.typing as npt

from geofix_train.photo_table import OWN_SLICE, PhotoTable

UNKNOWN = "unknown"
AREAS = ("seen", "unseen", "held-out")  # by the training photos around; see codes.areas
_SEASONS = ("winter", "spring", "summer", "autumn")  # of three months each, the first from December

Texts = npt.NDArray[np.str_]


def photo_slices(table: PhotoTable) -> dict[str, Texts]:
    """Return slices by name, each with a value for each photo, (N,).

    These are camera, season, year, heading and hfov ("known" or "unknown"), and every column
    `slice_NAME` of the table as NAME; such a column stands in the place of ours of the same name.
    """
    months = [_year_month(str(text)) for text in table.columns["captured_at"]]
    slices = {
        "camera": _texts(table.columns["camera"]),
        "season": np.array(
            [
                season(month, is_south=lat < 0) if month else UNKNOWN
                for (_, month), lat in zip(months, table.lat.tolist(), strict=True)
            ]
        ),
        "year": np.array([str(year) if year else UNKNOWN for year, _ in months]),
        "heading": np.where(np.isfinite(table.heading_deg), "known", UNKNOWN),
        "hfov": np.where(np.isfinite(table.hfov_deg), "known", UNKNOWN),
    }
    for name, column in table.columns.items():
        if name.startswith(OWN_SLICE) and name != OWN_SLICE:
            slices[name.removeprefix(OWN_SLICE)] = _texts(column)
    return slices


def season(month: int, *, is_south: bool) -> str:
    """Return the season of a month from 1 to 12: winter is December to February in the north."""
    return _SEASONS[(month % 12 // 3 + 2 * is_south) % 4]


def _year_month(captured_at: str) -> tuple[int, int]:
    """Return year and month of an ISO 8601 time, as written there; zeros where there is none."""
    found = re.match(r"(\d{4})-?(\d{2})", captured_at.strip())
    if not found or not 1 <= int(found[2]) <= 12:
        return 0, 0
    return int(found[1]), int(found[2])


def _texts(column: npt.NDArray[np.generic]) -> Texts:
    """Return values as text, "unknown" for what is empty, None or not a number."""
    texts = [str(value) for value in column.tolist()]
    return np.array([UNKNOWN if text in ("", "None", "nan") else text for text in texts])
