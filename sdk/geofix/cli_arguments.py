"""Places and regions as words of a command line."""

import argparse
import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from geofix.geo import LatLon
from geofix.prior import Prior

T = TypeVar("T")

_WITH_NUMBERS = (
    "--prior",
    "--gps",
    "--bbox",
    "--at",
)  # options whose value may begin with a minus


def join_numbers(words: list[str]) -> list[str]:
    """Write `--prior X` as `--prior=X`: argparse takes a negative latitude for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in _WITH_NUMBERS:
            joined[-1] = f"{joined[-1]}={word}"
        else:
            joined.append(word)
    return joined


def expanded(images: Sequence[Path]) -> list[Path]:
    """Return paths, and the files of patterns that no shell has expanded, in the order of names.

    Raises:
        ValueError: no file matches a pattern.
    """
    found: list[Path] = []
    for path in images:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not matches:
            raise ValueError(f"{path}: no file matches")
        found += matches
    return found


def png(text: str) -> Path:
    """Read the name of a picture to write."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"want a name that ends in .png, got {text!r}")
    return path


def disk(text: str) -> Prior:
    """Read LAT,LON,RADIUS_M."""
    return _read(text, "LAT,LON,RADIUS_M", _disk)


def gps(text: str) -> Prior:
    """Read LAT,LON,ACCURACY_M, a radius of 68 %."""
    return _read(text, "LAT,LON,ACCURACY_M", _gps)


def bbox(text: str) -> Prior:
    """Read SOUTH,WEST,NORTH,EAST."""
    return _read(text, "SOUTH,WEST,NORTH,EAST", Prior.bbox)


def place(text: str) -> LatLon:
    """Read LAT,LON."""
    return _read(text, "LAT,LON", LatLon)


def _disk(lat: float, lon: float, radius_m: float) -> Prior:
    return Prior.disk(lat, lon, radius_m=radius_m)


def _gps(lat: float, lon: float, accuracy_m: float) -> Prior:
    return Prior.from_android(lat, lon, accuracy_m=accuracy_m)


def _read(text: str, wanted: str, make: Callable[..., T]) -> T:
    """Return what is made of as many numbers as are wanted."""
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == wanted.count(",") + 1:
            return make(*numbers)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"want {wanted}, got {text!r}: {e}") from e
    raise argparse.ArgumentTypeError(f"want {wanted}, got {text!r}")
