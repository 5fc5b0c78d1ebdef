"""How often training saw a place as a photo shows it: from near by, in the same direction."""

import numpy as np
import numpy.typing as npt

from geofix_index.sphere import great_circle_m
from geofix_train.photo_table import PhotoTable

NEAR_M = 30.0
ASIDE_DEG = 45.0
MANY = 5  # drives; more are not told apart


def like_looking_drives(photos: PhotoTable, train: PhotoTable) -> npt.NDArray[np.str_]:
    """Return by how many training drives each photo's view was seen: "0", "1", ..., "5 or more".

    A drive counts where one of its photos stands within 30 m and looks at most 45 degrees aside.

    Args:
        photos: those without a heading are "unknown".
        train: those without a heading do not count.
    """
    train = train[np.isfinite(train.heading_deg)]
    drives = train.columns["sequence_id"]
    counts = [
        len(np.unique(drives[_looks_alike(photos, row, train)])) if known else -1
        for row, known in enumerate(np.isfinite(photos.heading_deg).tolist())
    ]
    names = {-1: "unknown", MANY: f"{MANY} or more"}
    return np.array([names.get(min(count, MANY), str(count)) for count in counts])


def _looks_alike(photos: PhotoTable, row: int, train: PhotoTable) -> npt.NDArray[np.bool_]:
    """Return which training photos look at what a photo looks at."""
    distance = great_circle_m(photos.lat[row], photos.lon[row], train.lat, train.lon)
    aside = (train.heading_deg - photos.heading_deg[row] + 180.0) % 360.0 - 180.0
    return np.asarray((distance <= NEAR_M) & (np.abs(aside) <= ASIDE_DEG))
