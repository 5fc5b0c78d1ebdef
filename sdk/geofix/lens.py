"""Horizontal fields of view of plane photos, in degrees."""

import math

_HALF_DIAGONAL_35MM = math.hypot(36.0, 24.0) / 2  # of a 35 mm frame, millimetres


def hfov_from_focal_35mm(focal_mm: float, *, width: float, height: float) -> float:
    """Return the field of view of a focal length that is stated as equivalent on 35 mm film.

    Equivalent means the same view along the diagonal (CIPA DCG-001), so the aspect ratio counts.

    Args:
        focal_mm: 0 or less means unknown, as in EXIF.
        width: of the upright photo, in any unit.
        height: in the same unit.

    Returns:
        Degrees; NaN where unknown.
    """
    half_width = _HALF_DIAGONAL_35MM * width / math.hypot(width, height)
    return hfov_from_focal(focal_mm, width=2 * half_width)


def hfov_from_focal(focal: float, *, width: float) -> float:
    """Return the field of view of a pinhole camera; NaN where a length is not positive.

    Args:
        focal: focal length.
        width: of the image plane, in the same unit.
    """
    if not (focal > 0 and width > 0):
        return math.nan
    return math.degrees(2 * math.atan(width / 2 / focal))
