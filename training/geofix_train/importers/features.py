"""Features out of JSON files: GeoJSON, items of their own, lists, or an API's `{"data": [...]}`."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from geofix_train.importers.photo import BadPhoto, Found, ImportedPhoto

JSON_ENDINGS = (".json", ".geojson")


class Feature(NamedTuple):
    """An object of a JSON file, and how to call it."""

    source: str
    file: Path
    content: dict[str, Any]

    @property
    def properties(self) -> dict[str, Any]:
        """The properties of a GeoJSON feature, or the whole object where it has none."""
        found = self.content.get("properties")
        return found if isinstance(found, dict) else self.content

    def text(self, name: str) -> str:
        """Return a property as text, empty where it is absent."""
        value = self.properties.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float:
        """Return a property as a number, NaN where it is absent; ValueError where it is none."""
        return number_of(self.properties.get(name), name)

    def position(self, *names: str) -> tuple[float, float]:
        """Return latitude and longitude of the first point among members of these names.

        Raises:
            ValueError: none of them is a point.
        """
        for name in names:
            geometry = self.properties.get(name) or self.content.get(name)
            if not isinstance(geometry, dict) or geometry.get("type") != "Point":
                continue
            coordinates = geometry.get("coordinates")
            if isinstance(coordinates, list) and len(coordinates) >= 2:
                return number_of(coordinates[1], "lat"), number_of(coordinates[0], "lon")
        raise ValueError(f"no point in {' or '.join(names)}")


def photos_of_features(source: Path, photo_of: Callable[[Feature], ImportedPhoto]) -> Found:
    """Yield what `photo_of` makes of features; it may raise OSError or ValueError for a bad one.

    Args:
        source: a JSON file, or a folder of them.
        photo_of: reads one feature.
    """
    for feature in read_features(source):
        if isinstance(feature, BadPhoto):
            yield feature
            continue
        try:
            yield photo_of(feature)
        except (OSError, ValueError) as e:
            yield BadPhoto(feature.source, str(e))


def read_features(source: Path) -> Iterator[Feature | BadPhoto]:
    """Yield the features of a JSON file, or of all JSON files below a folder."""
    for path in json_files(source):
        try:
            found = _objects(json.loads(path.read_text(encoding="utf-8-sig")))
        except (OSError, ValueError) as e:
            yield BadPhoto(str(path), f"not readable as JSON: {e}")
            continue
        for number, content in enumerate(found, start=1):
            name = str(path) if len(found) == 1 else f"{path}: feature {number}"
            if isinstance(content, dict):
                yield Feature(name, path, content)
            else:
                yield BadPhoto(name, f"is {type(content).__name__}, want an object")


def json_files(source: Path) -> list[Path]:
    """Return a JSON file itself, or all those below a folder, sorted."""
    if not source.is_dir():
        return [source]
    found = source.rglob("*")
    return sorted(p for p in found if p.suffix.lower() in JSON_ENDINGS and p.is_file())


def number_of(value: Any, name: str) -> float:
    """Return a JSON value as a number, NaN where it is None; ValueError where it is none."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {value!r}, want a number")
    return float(value)


def _objects(content: Any) -> list[Any]:
    if isinstance(content, dict):
        for name in ("features", "data"):
            if isinstance(content.get(name), list):
                return list(content[name])
        return [content]
    if isinstance(content, list):
        return content
    raise ValueError(f"holds {type(content).__name__}, want an object or a list")
