"""Photos with a GPS position in their EXIF.

`hfov_deg` comes from the focal length, as on the device (`geofix.exif`). A heading that the camera
states against magnetic north is kept as it is, and the column `heading_north` says "magnetic";
where photos lie in subfolders, a subfolder is a sequence, or one for each day.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, Base

import geofix.exif
from geofix.images import PHOTO_ENDINGS
from geofix_train.importers.angles import compass_deg
from geofix_train.importers.moments import iso_time
from geofix_train.importers.photo import (
    UNREADABLE_ENDINGS,
    BadPhoto,
    Found,
    ImportedPhoto,
    photos_below,
)
from geofix_train.photo_table import HEADING_NORTH

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_NORTHS = {"T": "true", "M": "magnetic"}


def read_exif(source: Path, *, by_day: bool = False) -> Found:
    """Yield the photos of a folder and its subfolders, or one photo.

    Args:
        source: the folder or photo.
        by_day: what a subfolder holds of a day is a sequence of its own, "SUBFOLDER 2024-05-01".
    """
    endings = (*PHOTO_ENDINGS, *UNREADABLE_ENDINGS)  # those are named, and not passed over
    for path in photos_below(source, endings=endings) if source.is_dir() else [source]:
        if path.suffix.lower() in UNREADABLE_ENDINGS:
            yield BadPhoto(str(path), f"{path.suffix} is not read: save it as JPEG, with its EXIF")
            continue
        sequence_id = ""
        if source.is_dir() and path.parent != source:
            sequence_id = path.parent.relative_to(source).as_posix()
        try:
            photo = _photo(path, sequence_id)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
            yield BadPhoto(str(path), str(e))
            continue
        yield _of_its_day(photo) if by_day else photo


def _of_its_day(photo: ImportedPhoto) -> ImportedPhoto:
    if not (photo.sequence_id and photo.captured_at):
        return photo
    return replace(photo, sequence_id=f"{photo.sequence_id} {photo.captured_at[:10]}")


def _photo(path: Path, sequence_id: str) -> ImportedPhoto:
    with Image.open(path) as image:
        exif = image.getexif()
        details, gps = exif.get_ifd(_EXIF_IFD), exif.get_ifd(_GPS_IFD)
        hfov_deg = geofix.exif.read_exif(image).hfov_deg
    lat, lon = _position(gps)
    heading_deg = compass_deg(_number(gps.get(GPS.GPSImgDirection)))
    north = _NORTHS.get(_text(gps.get(GPS.GPSImgDirectionRef)).upper(), "")
    return ImportedPhoto(
        source=str(path),
        path=path,
        lat=lat,
        lon=lon,
        heading_deg=heading_deg,
        hfov_deg=math.nan if hfov_deg is None else hfov_deg,
        captured_at=_captured_at(details),
        camera=" ".join(filter(None, (_text(exif.get(tag)) for tag in (Base.Make, Base.Model)))),
        sequence_id=sequence_id,
        more={HEADING_NORTH: north if math.isfinite(heading_deg) else ""},
    )


def _position(gps: dict[int, Any]) -> tuple[float, float]:
    """Return latitude and longitude; raise ValueError where there are none."""
    lat = _degrees(gps.get(GPS.GPSLatitude))
    lon = _degrees(gps.get(GPS.GPSLongitude))
    if not (math.isfinite(lat) and math.isfinite(lon)):
        raise ValueError("no GPS position in its EXIF")
    if lat == lon == 0:
        raise ValueError("its GPS position is 0, 0, which cameras write when they know none")
    south = _text(gps.get(GPS.GPSLatitudeRef)).upper() == "S"
    west = _text(gps.get(GPS.GPSLongitudeRef)).upper() == "W"
    return (-lat if south else lat), (-lon if west else lon)


def _degrees(parts: Any) -> float:
    """Return degrees of EXIF's degrees, minutes and seconds; NaN where they are none."""
    if not isinstance(parts, tuple) or len(parts) != 3:
        return math.nan
    degrees, minutes, seconds = map(_number, parts)
    return degrees + minutes / 60 + seconds / 3600


def _captured_at(details: dict[int, Any]) -> str:
    taken_at = _text(details.get(Base.DateTimeOriginal))
    offset = _text(details.get(Base.OffsetTimeOriginal))
    for text in (taken_at + offset, taken_at):  # an offset may be "   :  ", which means unknown
        try:
            return iso_time(text)
        except ValueError:
            continue
    return ""


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\0 ")


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan
