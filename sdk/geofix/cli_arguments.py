"""Places and regions as words of a command line."""

import argparse
import glob
from collections.abc import Sequence
from pathlib import Path

from geofix.geo import LatLon
from geofix.prior import Prior

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
    lat, lon, radius_m = _numbers(text, "LAT,LON,RADIUS_M")
    try:
        return Prior.disk(lat, lon, radius_m=radius_m)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"want LAT,LON,RADIUS_M, got {text!r}: {e}") from e


def gps(text: str) -> Prior:
    """Read LAT,LON,ACCURACY_M, a radius of 68 %."""
    lat, lon, accuracy_m = _numbers(text, "LAT,LON,ACCURACY_M")
    try:
        return Prior.from_android(lat, lon, accuracy_m=accuracy_m)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"want LAT,LON,ACCURACY_M, got {text!r}: {e}") from e


def bbox(text: str) -> Prior:
    """Read SOUTH,WEST,NORTH,EAST."""
    try:
        return Prior.bbox(*_numbers(text, "SOUTH,WEST,NORTH,EAST"))
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"want SOUTH,WEST,NORTH,EAST, got {text!r}: {e}") from e


def place(text: str) -> LatLon:
    """Read LAT,LON."""
    try:
        return LatLon(*_numbers(text, "LAT,LON"))
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"want LAT,LON, got {text!r}: {e}") from e


def _numbers(text: str, wanted: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"want {wanted}, got {text!r}: {e}") from e
    if len(numbers) != wanted.count(",") + 1:
        raise argparse.ArgumentTypeError(f"want {wanted}, got {text!r}")
    return numbers
