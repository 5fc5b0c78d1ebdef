"""STAC items of street photos, as Panoramax gives them.

`view:azimuth` is the heading; `pers:interior_orientation` gives `hfov_deg`, as Panoramax's
`field_of_view` or by focal length and sensor; `collection` is the sequence. Assets are local files
only: nothing is fetched.
"""

import math
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from geofix.lens import hfov_from_focal
from geofix_train.importers.angles import compass_deg
from geofix_train.importers.features import Feature, number_of, photos_of_features
from geofix_train.importers.moments import iso_time
from geofix_train.importers.photo import Found, ImportedPhoto, PhotoFinder

_ROLES = ("data", "visual")  # best first; Panoramax: the full picture, a smaller one
_ORIENTATION = "pers:interior_orientation"


def is_stac(content: dict[str, Any]) -> bool:
    """Return whether a JSON object looks like a STAC item."""
    properties = content.get("properties")
    has_view = isinstance(properties, dict) and "view:azimuth" in properties
    return content.get("type") == "Feature" and (
        "stac_version" in content or "assets" in content or has_view
    )


def read_stac(source: Path, *, photos: Path) -> Found:
    """Return the photos of STAC items.

    Args:
        source: a FeatureCollection, an item, or a folder of them.
        photos: where a photo called like an item's id is looked for if no asset is a local file.
    """
    finder = PhotoFinder(photos)
    return photos_of_features(source, lambda feature: _photo(feature, finder))


def _photo(feature: Feature, finder: PhotoFinder) -> ImportedPhoto:
    lat, lon = feature.position("geometry")
    lens = feature.properties.get(_ORIENTATION)
    lens = lens if isinstance(lens, dict) else {}
    return ImportedPhoto(
        source=feature.source,
        path=_path(feature, finder),
        lat=lat,
        lon=lon,
        heading_deg=compass_deg(feature.number("view:azimuth")),
        hfov_deg=_hfov_deg(lens, feature.number("field_of_view")),
        captured_at=iso_time(feature.properties.get("datetime")),
        camera=_camera(lens),
        sequence_id=str(feature.content.get("collection") or ""),
    )


def _path(feature: Feature, finder: PhotoFinder) -> Path:
    """Return the best asset that is a local file, or the photo that is called like the item."""
    assets = feature.content.get("assets")
    assets = [a for a in assets.values() if isinstance(a, dict)] if isinstance(assets, dict) else []
    hrefs = [str(a["href"]) for a in sorted(assets, key=_rank) if a.get("href") and _rank(a) < 9]
    for href in hrefs:
        local = _local_path(href, feature.file.parent)
        if local is not None and local.is_file():
            return local
    name = str(feature.content.get("id") or "")
    found = finder.find(name)
    if found is None:
        named = f"; its assets: {', '.join(hrefs)}" if hrefs else ""
        raise ValueError(
            f"no asset is a local file, and no photo {name!r} in {finder.folder}{named}"
        )
    return found


def _rank(asset: dict[str, Any]) -> int:
    """Return the order in which an asset is tried; 9 for one that shows the photo too small."""
    roles = asset.get("roles")
    roles = roles if isinstance(roles, list) else []
    if "thumbnail" in roles:
        return 9
    return min((_ROLES.index(role) for role in roles if role in _ROLES), default=len(_ROLES))


def _local_path(href: str, folder: Path) -> Path | None:
    parts = urlparse(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if len(parts.scheme) > 1 else folder / href  # one letter is a drive, not a scheme


def _hfov_deg(lens: dict[str, Any], stated_deg: float) -> float:
    field_of_view_deg = number_of(lens.get("field_of_view"), "field_of_view")
    if math.isfinite(field_of_view_deg):
        stated_deg = field_of_view_deg
    if stated_deg >= 180:
        raise ValueError(f"a panorama ({stated_deg:g} degrees): cut it into plane faces first")
    if stated_deg > 0:
        return stated_deg
    columns, spacing_mm = (_first(lens, k) for k in ("sensor_array_dimensions", "pixel_spacing"))
    focal_mm = number_of(lens.get("focal_length"), "focal_length")
    return hfov_from_focal(focal_mm, width=columns * spacing_mm)


def _first(lens: dict[str, Any], name: str) -> float:
    """Return the first number of a list, that of the columns; NaN where there is none."""
    values = lens.get(name)
    return number_of(values[0], name) if isinstance(values, list) and values else math.nan


def _camera(lens: dict[str, Any]) -> str:
    parts = (lens.get("camera_manufacturer"), lens.get("camera_model"))
    return " ".join(str(part) for part in parts if part)
