"""What an importer yields: a photo, or what it could not use.

Positions are WGS84 degrees. `source` is how a message calls the photo: a file, a feature, a line.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from geofix.images import PHOTO_ENDINGS

UNREADABLE_ENDINGS = (".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef", ".arw")

_ORIENTATION = 0x0112
_TURNS_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class ImportedPhoto:
    """A row of a photo table to be; NaN and empty texts are unknown."""

    source: str
    path: Path
    lat: float
    lon: float
    heading_deg: float = math.nan
    hfov_deg: float = math.nan  # of the upright photo
    captured_at: str = ""
    camera: str = ""
    sequence_id: str = ""
    split: str = ""
    more: Mapping[str, str] = field(default_factory=dict)  # further columns, by name


@dataclass(frozen=True)
class BadPhoto:
    """What cannot become a row, and why."""

    source: str
    reason: str


Found: TypeAlias = Iterator[ImportedPhoto | BadPhoto]


class PhotoFinder:
    """Finds photo files below a folder by their name or their stem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path | None:
        """Return the photo of a file name or an id, None where there is none.

        Raises:
            ValueError: several are called so.
        """
        found = self._paths.get(name, [])
        if len(found) > 1:
            raise ValueError(f"several photos are called {name!r}: {found[0]}, {found[1]}")
        return found[0] if found else None

    @cached_property
    def _paths(self) -> dict[str, list[Path]]:
        paths: dict[str, list[Path]] = {}
        for path in photos_below(self.folder):
            for name in {path.name, path.stem}:
                paths.setdefault(name, []).append(path)
        return paths


def photos_below(folder: Path, *, endings: Sequence[str] = PHOTO_ENDINGS) -> list[Path]:
    """Return all photo files of a folder and its subfolders, sorted."""
    found = folder.rglob("*")
    return sorted(p for p in found if p.suffix.lower() in endings and p.is_file())


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened picture as it is seen, turned by its orientation."""
    width, height = image.size
    sideways = image.getexif().get(_ORIENTATION, 1) in _TURNS_SIDEWAYS
    return (height, width) if sideways else (width, height)
