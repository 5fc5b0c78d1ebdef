"""What EXIF says of a photo: which way is up, when and where it was taken, how wide it sees.

Tags are those of Exif 2.32 (CIPA DC-008). What is absent, broken or impossible counts as unknown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from geofix.geo import LatLon
from geofix.lens import hfov_from_focal, hfov_from_focal_35mm

# Beyond, a lens is a fisheye or a number is wrong: plane pictures are not that wide or narrow.
_NARROWEST_DEG, _WIDEST_DEG = 1.0, 150.0
_MM_FROM_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # inch, cm; not in the standard: mm, um
_MAX_CHANGE_OF_ASPECT = 0.02  # more, and the photo was cut after it was taken

_TRANSPOSE_FROM_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What is known of a photo beside its pixels."""

    transpose: Image.Transpose | None = None  # brings the stored picture upright
    turns_sideways: bool = False  # so that width becomes height
    captured_at: datetime | None = None  # with a time zone only if EXIF has one
    hfov_deg: float | None = None  # of the upright photo


def read_exif(image: Image.Image) -> PhotoFacts:
    """Return what the EXIF of an opened picture says."""
    try:
        exif = image.getexif()
        orientation = exif.get(Base.Orientation, 1)
        details = exif.get_ifd(IFD.Exif)
    except Exception:  # the picture itself may well be sound
        return PhotoFacts()
    if orientation not in _TRANSPOSE_FROM_ORIENTATION:
        orientation = 1
    turns_sideways = orientation in _TURNS_SIDEWAYS
    return PhotoFacts(
        transpose=_TRANSPOSE_FROM_ORIENTATION.get(orientation),
        turns_sideways=turns_sideways,
        captured_at=_parse_time(
            details.get(Base.DateTimeOriginal), details.get(Base.OffsetTimeOriginal)
        ),
        hfov_deg=_hfov_deg(details, image.size, turns_sideways=turns_sideways),
    )


def place_from_exif(path: Path) -> LatLon | None:
    """Return where a photo says it was taken; None where it does not say, or says 0, 0.

    To judge fixes by; a fix never knows it.
    """
    try:
        with Image.open(path) as image:
            gps = image.getexif().get_ifd(IFD.GPSInfo)
        lat = _degrees(gps[GPS.GPSLatitude], is_negative=_is(gps.get(GPS.GPSLatitudeRef), "S"))
        lon = _degrees(gps[GPS.GPSLongitude], is_negative=_is(gps.get(GPS.GPSLongitudeRef), "W"))
        return LatLon(lat, lon) if lat or lon else None
    except Exception:  # broken EXIF raises nearly anything, and counts as none
        return None


def _degrees(parts: Any, *, is_negative: bool) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    return (degrees + minutes / 60 + seconds / 3600) * (-1 if is_negative else 1)


def _is(reference: Any, letter: str) -> bool:
    text = reference.decode("ascii", "replace") if isinstance(reference, bytes) else str(reference)
    return text.strip("\0 ").upper() == letter


def _hfov_deg(
    details: Mapping[int, Any], stored: tuple[int, int], *, turns_sideways: bool
) -> float | None:
    """Return the upright photo's field of view: by the 35 mm equivalent, else by the sensor."""
    width, height = stored[::-1] if turns_sideways else stored
    focal_mm = _number(details.get(Base.FocalLengthIn35mmFilm))
    hfov_deg = hfov_from_focal_35mm(focal_mm, width=width, height=height)
    if math.isnan(hfov_deg):
        sensor_mm = _sensor_mm(details, stored)
        zoom = max(1.0, _number(details.get(Base.DigitalZoomRatio)))  # 0 and absent: none
        focal_mm = _number(details.get(Base.FocalLength)) * zoom
        hfov_deg = hfov_from_focal(focal_mm, width=sensor_mm[1 if turns_sideways else 0])
    return hfov_deg if _NARROWEST_DEG <= hfov_deg <= _WIDEST_DEG else None


def _sensor_mm(details: Mapping[int, Any], stored: tuple[int, int]) -> tuple[float, float]:
    """Return the width and height of what saw the stored picture; NaN where unknown.

    The resolution is that of the picture as it was taken, whose size stands beside it.
    """
    taken = (
        _number(details.get(Base.ExifImageWidth)) or stored[0],
        _number(details.get(Base.ExifImageHeight)) or stored[1],
    )
    across = _number(details.get(Base.FocalPlaneXResolution))
    down = _number(details.get(Base.FocalPlaneYResolution)) or across
    unit_mm = _MM_FROM_UNIT.get(details.get(Base.FocalPlaneResolutionUnit, 2), math.nan)
    change = abs(math.log(max(taken[0], 1) / max(taken[1], 1) * stored[1] / stored[0]))
    if not (across > 0 and down > 0 and change <= _MAX_CHANGE_OF_ASPECT):
        return math.nan, math.nan
    return taken[0] / across * unit_mm, taken[1] / down * unit_mm


def _number(value: Any) -> float:
    """Return a number of EXIF, 0 where it is none: there, 0 means unknown as well."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _parse_time(text: object, offset: object) -> datetime | None:
    try:
        taken_at = datetime.strptime(str(text).rstrip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    try:
        zone = datetime.strptime(str(offset).rstrip("\0 "), "%z").tzinfo
    except ValueError:  # absent, or "   :  ", which means unknown
        return taken_at
    return taken_at.replace(tzinfo=zone)
