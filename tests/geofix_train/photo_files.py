"""Photos as cameras write them, and exports as platforms write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, Base

from geofix_train.importers.photo import BadPhoto, Found, ImportedPhoto
from tests.geofix_train.tiny_data import random_pixels

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


def only(found: Found) -> ImportedPhoto:
    """Return the one photo that was found."""
    (photo,) = found
    assert isinstance(photo, ImportedPhoto), photo
    return photo


def reason(found: Found) -> str:
    """Return why the one photo that was found is bad."""
    (bad,) = found
    assert isinstance(bad, BadPhoto)
    return bad.reason


def write_exif_photo(
    path: Path,
    *,
    gps: dict[int, Any] | None = None,
    details: dict[int, Any] | None = None,
    main: dict[int, Any] | None = None,
    size: tuple[int, int] = (36, 24),
    seed: int = 0,
) -> Path:
    """Write a JPEG with the given tags of EXIF's three directories; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif.update(main or {})
    for directory, tags in ((_EXIF_IFD, details), (_GPS_IFD, gps)):
        exif.get_ifd(directory).update(tags or {})
    width, height = size
    Image.fromarray(random_pixels(height, width, seed=seed)).save(path, exif=exif)
    return path


def gps_tags(lat: float, lon: float, **more: Any) -> dict[int, Any]:
    """Return the tags of a position; `more` are other tags of that directory by their name."""
    return {
        GPS.GPSLatitudeRef: "N" if lat >= 0 else "S",
        GPS.GPSLatitude: _degrees_minutes_seconds(abs(lat)),
        GPS.GPSLongitudeRef: "E" if lon >= 0 else "W",
        GPS.GPSLongitude: _degrees_minutes_seconds(abs(lon)),
        **{GPS[name]: value for name, value in more.items()},
    }


def camera_tags(**tags: Any) -> dict[int, Any]:
    """Return tags by their name."""
    return {Base[name]: value for name, value in tags.items()}


def write_json(path: Path, content: Any) -> Path:
    """Write JSON; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def stac_item(name: str, *, href: str = "", **properties: Any) -> dict[str, Any]:
    """Return an item as Panoramax gives it; without `href` its assets lie on a server."""
    assets = {
        "thumb": {"href": href or f"https://example.org/{name}/thumb.jpg", "roles": ["thumbnail"]},
        "sd": {"href": href or f"https://example.org/{name}/sd.jpg", "roles": ["visual"]},
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "drive-1",
        "geometry": {"type": "Point", "coordinates": [8.54, 47.37]},
        "properties": {
            "datetime": "2025-10-02T15:36:20+00:00",
            "view:azimuth": 161,
            "pers:interior_orientation": {
                "camera_manufacturer": "GoPro",
                "camera_model": "Max",
                "field_of_view": 75,
            },
            **properties,
        },
        "assets": assets,
    }


def mapillary_image(name: str, **members: Any) -> dict[str, Any]:
    """Return an image as Mapillary's API gives it."""
    return {
        "id": name,
        "geometry": {"type": "Point", "coordinates": [8.541, 47.371]},
        "computed_geometry": {"type": "Point", "coordinates": [8.54, 47.37]},
        "compass_angle": 100.0,
        "computed_compass_angle": 95.5,
        "captured_at": 1_600_000_000_123,
        "sequence": "abc",
        "camera_type": "perspective",
        "camera_parameters": [0.75, 0.01, 0.0],
        "make": "Apple",
        "model": "iPhone12",
        **members,
    }


def _degrees_minutes_seconds(degrees: float) -> tuple[float, float, float]:
    whole = int(degrees)
    minutes = int((degrees - whole) * 60)
    return float(whole), float(minutes), float(np.round((degrees - whole - minutes / 60) * 3600, 5))
