"""A map of a photo table by split, over its imagery, drawn with Pillow alone. North is up.

The plane is azimuthal equidistant around the middle of the photos, metres east and north.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from geofix.geo import LatLon, east_north_m, latlon_from_east_north
from geofix.map_image import SIDE_PX, round_length
from geofix_train.aerial import Mosaic
from geofix_train.photo_table import PhotoTable

COLOURS = {
    "train": (0, 114, 178), "val": (230, 159, 0), "test": (0, 158, 115), "": (90, 90, 90)
}  # fmt: skip
LEAK = (213, 94, 0)  # with the above: Okabe and Ito's palette, distinct for all eyes
_PAPER, _INK = (246, 245, 241), (40, 40, 40)
_MARGIN = 0.06  # of the longer side
_LEAST_SIDE_M = 50.0
_LEGEND_PX = 34
_BACKGROUND_PX = 500  # imagery is faded and small: half the map's resolution is enough


def draw_table(
    out: Path, table: PhotoTable, *, mosaics: Sequence[Mosaic] = (), leaks: Sequence[int] = ()
) -> None:
    """Write a PNG of where photos were taken.

    Args:
        out: path of the PNG.
        table: the photos.
        mosaics: imagery; the first date becomes the background.
        leaks: rows to draw a ring around.
    """
    origin = _middle(table)
    xy = east_north_m(table.lat, table.lon, origin=origin)
    low, high = xy.min(axis=0), xy.max(axis=0)
    side_m = max(float((high - low).max()) * (1 + 2 * _MARGIN), _LEAST_SIDE_M)
    px_per_m = SIDE_PX / side_m
    west, north = ((low + high) / 2 + (-side_m / 2, side_m / 2)).tolist()
    image = _background(mosaics, origin, west, north, side_m)
    draw = ImageDraw.Draw(image)
    places = (xy - (west, north)) * (px_per_m, -px_per_m)
    for split in ("", "train", "val", "test"):  # the few above the many
        for place in places[table.split == split].tolist():
            _dot(draw, place, COLOURS[split], 4)
    for row in leaks:
        x, y = places[row].tolist()
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), outline=LEAK, width=2)
    sheet = Image.new("RGB", (SIDE_PX, SIDE_PX + _LEGEND_PX), "white")
    sheet.paste(image, (0, 0))
    _legend(sheet, table, px_per_m, has_leaks=bool(len(leaks)))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, format="PNG")


def _middle(table: PhotoTable) -> LatLon:
    """Return a point amid the photos, also on both sides of the antimeridian."""
    first = LatLon(float(table.lat[0]), float(table.lon[0]))
    xy = east_north_m(table.lat, table.lon, origin=first)
    lat, lon = latlon_from_east_north((xy.min(axis=0) + xy.max(axis=0)) / 2, origin=first).tolist()
    return LatLon(lat, lon)


def _background(
    mosaics: Sequence[Mosaic], origin: LatLon, west: float, north: float, side_m: float
) -> Image.Image:
    if not mosaics:
        return Image.new("RGB", (SIDE_PX, SIDE_PX), _PAPER)
    mosaic = mosaics[0]
    ticks = (np.arange(_BACKGROUND_PX) + 0.5) / _BACKGROUND_PX * side_m
    x, y = np.meshgrid(west + ticks, north - ticks)
    latlon = latlon_from_east_north(np.column_stack([x.ravel(), y.ravel()]), origin=origin)
    xy = mosaic.frame.xy(latlon[:, 0], latlon[:, 1])
    pixels = mosaic.tiles(xy, side_m=mosaic.pixel_m, num_pixels=1)[:, 0, 0]  # (pixels, 3)
    faded = np.where(mosaic.covers(xy)[:, None], 128 + pixels // 2, _PAPER)
    shown: npt.NDArray[np.uint8] = faded.reshape(len(ticks), len(ticks), 3).astype(np.uint8)
    return Image.fromarray(shown).resize((SIDE_PX, SIDE_PX))


def _dot(
    draw: ImageDraw.ImageDraw, at: Sequence[float], colour: tuple[int, int, int], radius: int
) -> None:
    x, y = at
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, fill=colour, outline="white")


def _legend(sheet: Image.Image, table: PhotoTable, px_per_m: float, *, has_leaks: bool) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    middle, x = SIDE_PX + _LEGEND_PX // 2, 14
    shown = [
        (f"{split or 'no split'} {(table.split == split).sum()}", colour)
        for split, colour in COLOURS.items()
        if (table.split == split).any()
    ]
    for text, colour in [*shown, ("leak", LEAK)] if has_leaks else shown:
        _dot(draw, (x, middle), colour, 5)
        draw.text((x + 12, middle), text, fill=_INK, font=font, anchor="lm")
        x += 30 + round(draw.textlength(text, font=font))
    length_m = round_length(150 / px_per_m)
    right = sheet.width - 14
    left = right - length_m * px_per_m
    draw.line([(left, middle), (right, middle)], fill=_INK, width=3)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    draw.text((left - 8, middle), text, fill=_INK, font=font, anchor="rm")
