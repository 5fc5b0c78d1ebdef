"""Exports of Mapillary: images of its API (v4) as JSON or GeoJSON, beside downloaded photos.

What structure from motion computed goes before what the device said. Photos are called like the
image's id. `camera_parameters` start with the focal length in units of the longer side.
"""

import math
from pathlib import Path
from typing import Any

from PIL import Image

from geofix.lens import hfov_from_focal
from geofix_train.importers.angles import compass_deg
from geofix_train.importers.features import Feature, number_of, photos_of_features
from geofix_train.importers.moments import iso_time
from geofix_train.importers.photo import (
    Found,
    ImportedPhoto,
    PhotoFinder,
    upright_size,
)

_OWN = ("computed_geometry", "computed_compass_angle", "compass_angle", "camera_parameters")
_PANORAMAS = ("spherical", "equirectangular")


def is_mapillary(content: dict[str, Any]) -> bool:
    """Return whether a JSON object looks like an image of Mapillary's API."""
    properties = content.get("properties")
    members = properties if isinstance(properties, dict) else content
    return any(name in members for name in _OWN)


def read_mapillary(source: Path, *, photos: Path) -> Found:
    """Return the photos of Mapillary images.

    Args:
        source: a JSON or GeoJSON file, or a folder of them.
        photos: the folder with the photos, named `ID.jpg`, in subfolders if you like.
    """
    finder = PhotoFinder(photos)
    return photos_of_features(source, lambda feature: _photo(feature, finder))


def _photo(feature: Feature, finder: PhotoFinder) -> ImportedPhoto:
    if feature.text("camera_type") in _PANORAMAS or feature.properties.get("is_pano") is True:
        raise ValueError("a panorama (360 degrees): cut it into plane faces first")
    lat, lon = feature.position("computed_geometry", "geometry")
    angles = (feature.number(name) for name in ("computed_compass_angle", "compass_angle"))
    path = _path(feature, finder)
    return ImportedPhoto(
        source=feature.source,
        path=path,
        lat=lat,
        lon=lon,
        heading_deg=compass_deg(next(filter(math.isfinite, angles), math.nan)),
        hfov_deg=_hfov_deg(feature, path),
        captured_at=iso_time(feature.properties.get("captured_at")),
        camera=" ".join(filter(None, (feature.text("make"), feature.text("model")))),
        sequence_id=_sequence_id(feature),
    )


def _path(feature: Feature, finder: PhotoFinder) -> Path:
    name = feature.text("id") or str(feature.content.get("id") or "")
    if not name:
        raise ValueError("no id")
    found = finder.find(name)
    if found is None:
        raise ValueError(f"no photo {name!r} in {finder.folder}; want {name}.jpg")
    return found


def _sequence_id(feature: Feature) -> str:
    for name in ("sequence", "sequence_id"):
        value = feature.properties.get(name)
        if isinstance(value, dict):  # the API gives {"id": ...} where fields are expanded
            value = value.get("id")
        if value:
            return str(value)
    return ""


def _hfov_deg(feature: Feature, path: Path) -> float:
    """Return the field of view of a perspective camera; NaN where it is another or unknown.

    A fisheye has none: the field of view of a photo table is that of a plane picture.
    """
    parameters = feature.properties.get("camera_parameters")
    if feature.text("camera_type") != "perspective" or not isinstance(parameters, list):
        return math.nan
    if not parameters:
        return math.nan
    focal = number_of(parameters[0], "camera_parameters[0]")
    with Image.open(path) as image:  # smaller downloads keep the aspect ratio
        width, height = upright_size(image)
    return hfov_from_focal(focal * max(width, height), width=width)
