"""A picture of fixes on a map, drawn with Pillow alone. North is up, the plane equirectangular."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from geofix.coverage import Coverage
from geofix.fix import Fix
from geofix.geo import Bounds, LatLon
from geofix_index import cells as s2
from geofix_index.sphere import EARTH_RADIUS_M

SIDE_PX = 1000  # the longer side of the map
MAX_DRAWN_CELLS = 20_000
COLOURS = {
    "fixed": (0, 114, 178), "ambiguous": (230, 159, 0), "unknown": (204, 121, 167)
}  # fmt: skip
_TRUTH = (0, 158, 115)  # with the above: Okabe and Ito's palette, distinct for all eyes
_PAPER, _CELL, _CELL_EDGE, _INK = (246, 245, 241), (228, 234, 240), (190, 202, 214), (40, 40, 40)
_PHOTOGRAPHED = (146, 190, 220)
_ROW_PX = 26  # of the legend
_MANY = 30  # more circles of 95 % hide each other
_CANDIDATE_PX = 16  # radius of a sure one
_LEAST_DRAWN = 0.02  # probability
_METRES_PER_DEGREE = math.radians(1) * EARTH_RADIUS_M


@dataclass(frozen=True)
class _Plane:
    """From degrees to pixels."""

    bounds: Bounds
    px_per_m: float
    width: int
    height: int

    @classmethod
    def fit(cls, bounds: Bounds) -> "_Plane":
        middle = math.radians((bounds.south + bounds.north) / 2)
        width_m = max(bounds.width_deg * _METRES_PER_DEGREE * math.cos(middle), 1.0)
        height_m = max((bounds.north - bounds.south) * _METRES_PER_DEGREE, 1.0)
        scale = SIDE_PX / max(width_m, height_m)
        return cls(bounds, scale, max(1, round(width_m * scale)), max(1, round(height_m * scale)))

    def xy(self, lat: float, lon: float) -> tuple[float, float]:
        east = (lon - self.bounds.west) % 360.0
        if east > 180.0 + self.bounds.width_deg / 2:  # nearer to the west edge, beyond it
            east -= 360.0
        x = east / max(self.bounds.width_deg, 1e-9) * self.width
        rise = max(self.bounds.north - self.bounds.south, 1e-9)
        return x, (self.bounds.north - lat) / rise * self.height


def draw_map(
    out: str | os.PathLike[str],
    *,
    bounds: Bounds,
    fixes: Sequence[Fix],
    truths: Sequence[LatLon | None] = (),
    labels: Sequence[str] = (),
    background: npt.NDArray[np.uint8] | None = None,
    cells: npt.NDArray[np.uint64] | None = None,
    photographed: npt.NDArray[np.bool_] | None = None,
    is_drive: bool = False,
) -> None:
    """Write a PNG of fixes with their circles and candidates, and lines to the true positions.

    Args:
        out: path of the PNG.
        bounds: what the picture shows.
        fixes: to draw.
        truths: true position of each fix, None where unknown, or none at all.
        labels: a short text for each fix, or none at all.
        background: a picture of the same bounds, (H, W, 3).
        cells: S2 cells that the pack covers, drawn below everything.
        photographed: which of them ground photos were trained on, drawn darker.
        is_drive: the fixes follow each other, and a line joins them.
    """
    for name, values in (("truths", truths), ("labels", labels)):
        if values and len(values) != len(fixes):
            raise ValueError(f"{len(values)} {name} for {len(fixes)} fixes, want as many or none")
    plane = _Plane.fit(bounds)
    image = Image.new("RGB", (plane.width, plane.height), _PAPER)
    if background is not None:
        picture = Image.fromarray(background).resize(image.size, Image.Resampling.BOX)
        image = Image.blend(picture, Image.new("RGB", image.size, "white"), 0.25)
    draw = ImageDraw.Draw(image, "RGBA")
    if cells is not None and len(cells):
        _draw_cells(draw, plane, cells, photographed)
    for fix in fixes:
        _draw_disk(draw, plane, fix, alpha=60 // len(fixes))
    if is_drive:
        meaning = _draw_way(draw, plane, fixes)
    else:
        meaning = _draw_around(draw, plane, fixes, truths)
    _draw_dots(draw, plane, fixes, truths, labels)
    rows = 2 if fixes else 1
    sheet = Image.new("RGB", (max(image.width, 760), image.height + rows * _ROW_PX), "white")
    sheet.paste(image, (0, 0))
    dots = [(s, COLOURS[s]) for s in COLOURS if any(fix.status == s for fix in fixes)]
    if any(truth is not None for truth in truths):
        dots.append(("true position", _TRUTH))
    if photographed is not None:
        dots += [("with ground photos", _PHOTOGRAPHED), ("from above alone", _CELL)]
    _draw_legend(sheet, plane, dots)
    if fixes:
        draw = ImageDraw.Draw(sheet)
        y = sheet.height - _ROW_PX // 2
        draw.text((14, y), meaning, fill=_INK, font=_font(13), anchor="lm")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, format="PNG")


def draw_coverage(out: str | os.PathLike[str], coverage: Coverage) -> None:
    """Write a PNG of where a pack has cells, and of which ground photos were trained on.

    Many cells are drawn as their parents, which count as photographed where one of them is.
    """
    cells = coverage.cells_in(coverage.bounds)
    photographed = coverage.photographed_in(coverage.bounds)
    level = coverage.cell_level
    while len(cells) > MAX_DRAWN_CELLS:
        level -= 1
        cells, numbers = np.unique(s2.parent(cells, level=level), return_inverse=True)
        if photographed is not None:
            photographed = np.bincount(numbers, photographed) > 0
    draw_map(out, bounds=coverage.bounds, fixes=[], cells=cells, photographed=photographed)


def bounds_around(places: Sequence[LatLon], *, margin_m: float) -> Bounds:
    """Return a box around places, `margin_m` wider on each side."""
    lats, west = [place.lat for place in places], places[0].lon
    # Relative to the first place, so that places on both sides of the antimeridian stay together.
    east_of_first = [(place.lon - west + 180.0) % 360.0 - 180.0 for place in places]
    margin = margin_m / _METRES_PER_DEGREE
    margin_lon = margin / max(math.cos(math.radians(max(map(abs, lats)))), 0.01)
    sides = (west + min(east_of_first) - margin_lon, west + max(east_of_first) + margin_lon)
    if sides[1] - sides[0] >= 360.0:
        sides = (-180.0, 180.0)
    wrapped = [side if abs(side) <= 180.0 else (side + 180.0) % 360.0 - 180.0 for side in sides]
    return Bounds(
        max(-90.0, min(lats) - margin), wrapped[0], min(90.0, max(lats) + margin), wrapped[1]
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _draw_cells(
    draw: ImageDraw.ImageDraw,
    plane: _Plane,
    cells: npt.NDArray[np.uint64],
    photographed: npt.NDArray[np.bool_] | None,
) -> None:
    darker = np.zeros(len(cells), bool) if photographed is None else photographed
    for corners, is_dark in zip(s2.vertices(cells).tolist(), darker.tolist(), strict=True):
        fill = _PHOTOGRAPHED if is_dark else _CELL
        draw.polygon([plane.xy(*corner) for corner in corners], fill, _CELL_EDGE)


def _draw_disk(draw: ImageDraw.ImageDraw, plane: _Plane, fix: Fix, *, alpha: int) -> None:
    if fix.accuracy_m is None:
        return
    box = _box(*plane.xy(*fix.latlon), fix.accuracy_m * plane.px_per_m)
    colour = COLOURS[fix.status]
    draw.ellipse(box, fill=(*colour, alpha), outline=(*colour, 40 + alpha))


def _draw_way(draw: ImageDraw.ImageDraw, plane: _Plane, fixes: Sequence[Fix]) -> str:
    """Join the fixes of a drive; return the legend in words."""
    draw.line([plane.xy(*fix.latlon) for fix in fixes], fill=(*_INK, 150), width=2)
    return "disk: 68 %;  line: from fix to fix"


def _draw_around(
    draw: ImageDraw.ImageDraw,
    plane: _Plane,
    fixes: Sequence[Fix],
    truths: Sequence[LatLon | None],
) -> str:
    """Draw 95 % circles where fixes are few, candidates, and errors; return the legend in words."""
    meaning = ["disk: 68 %"]
    radii = [(fix, fix.radius95_m) for fix in fixes if fix.radius95_m is not None]
    if radii and len(fixes) <= _MANY:
        meaning.append("thin circle: 95 %")
        for fix, radius_m in radii:
            box = _box(*plane.xy(*fix.latlon), radius_m * plane.px_per_m)
            draw.ellipse(box, outline=(*COLOURS[fix.status], 120))
    known = [(fix, truth) for fix, truth in zip(fixes, truths, strict=False) if truth is not None]
    for fix, truth in known:
        draw.line([plane.xy(*truth), plane.xy(*fix.latlon)], fill=(*_INK, 150), width=2)
    for fix in fixes:
        _draw_candidates(draw, plane, fix)
    if any(_others(fix) for fix in fixes):
        meaning.append("small rings: other candidates, the wider the likelier")
    if known:
        meaning.append("line: from the true position to the fix")
    return ";  ".join(meaning)


def _draw_dots(
    draw: ImageDraw.ImageDraw,
    plane: _Plane,
    fixes: Sequence[Fix],
    truths: Sequence[LatLon | None],
    labels: Sequence[str],
) -> None:
    for truth in truths:
        if truth is not None:
            _draw_dot(draw, plane.xy(*truth), _TRUTH, 4)
    for fix in fixes:
        _draw_dot(draw, plane.xy(*fix.latlon), COLOURS[fix.status], 5)
    for fix, label in zip(fixes, labels, strict=False):
        x, y = plane.xy(*fix.latlon)
        draw.text(
            (x + 8, y - 8), label, _INK, _font(16), anchor="lb", stroke_width=2, stroke_fill="white"
        )


def _draw_candidates(draw: ImageDraw.ImageDraw, plane: _Plane, fix: Fix) -> None:
    """Draw a ring for each other cell that might be the answer, as wide as it is probable."""
    for place, probability in _others(fix):
        box = _box(*plane.xy(*place), _CANDIDATE_PX * math.sqrt(probability))
        draw.ellipse(box, outline=COLOURS[fix.status], width=2)


def _others(fix: Fix) -> list[tuple[LatLon, float]]:
    """Return places and probabilities of the candidates that are drawn beside the best."""
    told = [(other.latlon, other.probability or 0.0) for other in fix.candidates[1:]]
    return [(place, probability) for place, probability in told if probability >= _LEAST_DRAWN]


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def _draw_dot(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], colour: tuple[int, int, int], radius: int
) -> None:
    draw.ellipse(_box(*at, radius), fill=colour, outline="white")


def _draw_legend(
    sheet: Image.Image, plane: _Plane, dots: Sequence[tuple[str, tuple[int, int, int]]]
) -> None:
    draw, font = ImageDraw.Draw(sheet), _font(15)
    middle, x = plane.height + _ROW_PX // 2, 14
    for text, colour in dots:
        _draw_dot(draw, (x, middle), colour, 5)
        draw.text((x + 12, middle), text, fill=_INK, font=font, anchor="lm")
        x += 30 + round(draw.textlength(text, font=font))
    length_m = round_length(150 / plane.px_per_m)
    right = sheet.width - 14
    left = right - length_m * plane.px_per_m
    draw.line([(left, middle), (right, middle)], fill=_INK, width=3)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    draw.text((left - 8, middle), text, fill=_INK, font=font, anchor="rm")


def round_length(length_m: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at most `length_m`."""
    power: float = 10.0 ** math.floor(math.log10(length_m))
    return max(step * power for step in (1, 2, 5) if step * power <= length_m)
