"""How good the answers are, on photos whose EXIF says where they were taken."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geofix.bench.photos import places_of
from geofix.bench.report import Recall
from geofix.errors import ImageError
from geofix.geo import distance_m
from geofix.localizer import Localizer

RIGHT_WITHIN_M = 100.0
MAX_PHOTOS = 500


def measure_recall(localizer: Localizer, paths: Sequence[Path]) -> Recall | None:
    """Return how near fixes come to where photos were taken, without a prior.

    Of at most 500 photos, spread over the paths; None where no photo that can be read says where
    it was taken.
    """
    errors_m: list[float] = []
    for path, place in places_of(paths, limit=MAX_PHOTOS):
        try:
            fix = localizer.localize(path)
        except (ImageError, OSError):
            continue
        errors_m.append(distance_m(fix.latlon, place))
    if not errors_m:
        return None
    return Recall(
        num_photos=len(errors_m),
        within_100m=round(float(np.mean(np.array(errors_m) <= RIGHT_WITHIN_M)), 4),
        median_error_m=round(float(np.median(errors_m)), 1),
    )
