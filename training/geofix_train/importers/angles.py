"""Headings in degrees."""

import math


def compass_deg(angle: float) -> float:
    """Return a direction as 0 to below 360 degrees; NaN where it is no finite number."""
    if not math.isfinite(angle):
        return math.nan
    turned = angle % 360.0
    return 0.0 if turned == 360.0 else turned  # a tiny negative angle rounds up to 360
