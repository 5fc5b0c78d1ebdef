"""The pack that is shipped, and its photos."""

from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "samples" / "town"
PACK = _FOLDER / "town.geofix"
PHOTOS = sorted(_FOLDER.glob("*.jpg"))
