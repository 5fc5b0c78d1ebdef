from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from geofix.fix import STATUSES, Candidate, Fix
from geofix.geo import Bounds, LatLon
from geofix.map_image import COLOURS, SIDE_PX, bounds_around, draw_map
from geofix_index import cells as s2

ZURICH_BOX = Bounds(47.3, 8.5, 47.4, 8.6)
ANTIMERIDIAN_BOX = Bounds(-17, 179.9, -16.9, -179.9)


def make_fix(place: LatLon, status: str = "fixed", accuracy_m: float | None = 60.0) -> Fix:
    return Fix(
        status=status,
        latlon=place,
        accuracy_m=accuracy_m,
        radius95_m=None,
        covariance_m2=None,
        confidence=None,
        candidates=(Candidate("479009f75", place, 0.5, None),),
        pack_id="tiny",
    )


def pixel_of(place: LatLon, box: Bounds, size: tuple[int, int]) -> tuple[int, int]:
    """Return row and column of a place on a map of a size (width, height)."""
    across = ((place.lon - box.west) % 360) / box.width_deg
    down = (box.north - place.lat) / (box.north - box.south)
    return round(down * size[1]), round(across * size[0])


def map_size(box: Bounds) -> tuple[int, int]:
    """Return width and height of a map in pixels, without the legend."""
    width = box.width_deg * np.cos(np.radians((box.south + box.north) / 2))
    scale = SIDE_PX / max(width, box.north - box.south)
    return round(width * scale), round((box.north - box.south) * scale)


def drawn(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("accuracy_m", [None, 60.0, 5000.0])
def test_the_pixel_under_a_fix_has_the_colour_of_its_status(
    tmp_path: Path, status: str, accuracy_m: float | None
) -> None:
    place = LatLon(47.33, 8.57)
    fix = make_fix(place, status, accuracy_m)
    draw_map(tmp_path / "map.png", bounds=ZURICH_BOX, fixes=[fix])
    pixels = drawn(tmp_path / "map.png")
    assert tuple(pixels[pixel_of(place, ZURICH_BOX, map_size(ZURICH_BOX))]) == COLOURS[status]


@pytest.mark.parametrize("lon", [179.95, 180.0, -180.0, -179.95])
def test_both_sides_of_the_antimeridian_are_drawn(tmp_path: Path, lon: float) -> None:
    place = LatLon(-16.95, lon)
    cells = s2.cell_from_latlon(-16.95, np.array([179.95, -179.95]), level=12)
    draw_map(
        tmp_path / "map.png", bounds=ANTIMERIDIAN_BOX, fixes=[make_fix(place)],
        truths=[LatLon(-16.92, -lon)], cells=cells,
    )  # fmt: skip
    pixels = drawn(tmp_path / "map.png")
    at = pixel_of(place, ANTIMERIDIAN_BOX, map_size(ANTIMERIDIAN_BOX))
    assert tuple(pixels[at]) == COLOURS["fixed"]


def test_what_lies_beyond_an_edge_reaches_in_from_there(tmp_path: Path) -> None:
    middle = (ZURICH_BOX.south + ZURICH_BOX.north) / 2
    draw_map(tmp_path / "empty.png", bounds=ZURICH_BOX, fixes=[])
    for lon, column in ((ZURICH_BOX.west - 0.001, 0), (ZURICH_BOX.east + 0.001, -1)):
        fix = make_fix(LatLon(middle, lon), accuracy_m=400)
        draw_map(tmp_path / "map.png", bounds=ZURICH_BOX, fixes=[fix])
        width, height = map_size(ZURICH_BOX)
        empty, pixels = (
            drawn(tmp_path / name)[:height, :width] for name in ("empty.png", "map.png")
        )
        is_changed = (empty != pixels).any(axis=(0, 2))
        assert is_changed[column]
        assert not is_changed[-1 - column]


def test_cells_and_truths_show_below_fixes(tmp_path: Path) -> None:
    place, truth = LatLon(47.35, 8.55), LatLon(47.36, 8.56)
    cells = np.atleast_1d(s2.cell_from_latlon(place.lat, place.lon, level=14))
    for name, options in {
        "bare": {},
        "cells": {"cells": cells},
        "truth": {"truths": [truth]},
        "no cells": {"cells": cells[:0]},
    }.items():
        path = tmp_path / f"{name}.png"
        draw_map(path, bounds=ZURICH_BOX, fixes=[make_fix(place)], **options)  # type: ignore[arg-type]
    bare, with_cells, with_truth, without = (
        drawn(tmp_path / f"{name}.png") for name in ("bare", "cells", "truth", "no cells")
    )
    size = map_size(ZURICH_BOX)
    beside = pixel_of(LatLon(*s2.latlon_from_cell(cells[0]).tolist()), ZURICH_BOX, size)
    assert (bare != with_cells).any()
    assert (bare[beside] != with_cells[beside]).any()
    assert tuple(with_truth[pixel_of(truth, ZURICH_BOX, size)]) == (0, 158, 115)
    np.testing.assert_array_equal(bare, without)


def test_a_fix_whose_place_is_unknown_has_no_line(tmp_path: Path) -> None:
    places = [LatLon(47.33, 8.53), LatLon(47.33, 8.57)]
    fixes = [make_fix(place) for place in places]
    truths = [None, LatLon(47.37, 8.57)]
    draw_map(tmp_path / "map.png", bounds=ZURICH_BOX, fixes=fixes, truths=truths)
    pixels = drawn(tmp_path / "map.png")
    row, column = pixel_of(LatLon(47.35, 8.57), ZURICH_BOX, map_size(ZURICH_BOX))
    assert pixels[row, column].max() < 150  # the line of the second
    row, column = pixel_of(LatLon(47.35, 8.53), ZURICH_BOX, map_size(ZURICH_BOX))
    assert pixels[row, column].min() > 200


def test_candidates_are_rings_as_wide_as_they_are_probable(tmp_path: Path) -> None:
    place, other, unlikely = LatLon(47.33, 8.53), LatLon(47.37, 8.57), LatLon(47.37, 8.53)
    fix = replace(
        make_fix(place),
        candidates=(
            Candidate("479009f75", place, 0.9, 0.7),
            Candidate("479009f77", other, 0.8, 0.25),
            Candidate("479009f71", unlikely, 0.1, 0.01),
        ),
    )
    draw_map(tmp_path / "map.png", bounds=ZURICH_BOX, fixes=[fix])
    pixels = drawn(tmp_path / "map.png")
    row, column = pixel_of(other, ZURICH_BOX, map_size(ZURICH_BOX))
    blue = (pixels[row, column - 12 : column + 13] == COLOURS["fixed"]).all(axis=1)
    assert blue.any()  # 16 px wide
    assert not blue[8:17].any()  # a ring
    row, column = pixel_of(unlikely, ZURICH_BOX, map_size(ZURICH_BOX))
    part = pixels[row - 12 : row + 13, column - 12 : column + 13]
    assert not (part == COLOURS["fixed"]).all(axis=2).any()


def test_a_background_fills_the_map(tmp_path: Path) -> None:
    background = np.zeros((2, 2, 3), np.uint8)
    background[0, 0] = (255, 0, 0)
    path = tmp_path / "deep" / "map.png"
    draw_map(path, bounds=ZURICH_BOX, fixes=[], background=background)
    pixels = drawn(path)
    width, height = map_size(ZURICH_BOX)
    assert (pixels[10, 10].astype(int) - pixels[height - 10, width - 10])[0] > 150


def test_the_95_percent_circle_is_drawn_and_a_drive_has_a_line_instead(tmp_path: Path) -> None:
    places = [LatLon(47.33, 8.53), LatLon(47.33, 8.57)]
    fixes = [replace(make_fix(place), radius95_m=500.0) for place in places]
    size = map_size(ZURICH_BOX)
    north = pixel_of(LatLon(47.33 + 500 / 111_195, 8.53), ZURICH_BOX, size)
    between = pixel_of(LatLon(47.33, 8.55), ZURICH_BOX, size)
    for is_drive in (False, True):
        draw_map(tmp_path / "map.png", bounds=ZURICH_BOX, fixes=fixes, is_drive=is_drive)
        pixels = drawn(tmp_path / "map.png").astype(int)
        paper = pixels[5, 5]
        around = pixels[north[0] - 2 : north[0] + 3, north[1]]
        assert (np.abs(around - paper).max() > 20) == (not is_drive)
        assert (np.abs(pixels[between] - paper).max() > 20) == is_drive


def test_as_many_truths_as_fixes_or_none(tmp_path: Path) -> None:
    place = LatLon(47.35, 8.55)
    with pytest.raises(ValueError, match="2 truths for 1 fixes"):
        draw_map(
            tmp_path / "map.png", bounds=ZURICH_BOX, fixes=[make_fix(place)], truths=[place] * 2
        )


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ([LatLon(0, 0)], (-1, -1, 1, 1)),
        ([LatLon(0, 0), LatLon(10, 20)], (-1, -1.0154, 11, 21.0154)),
        ([LatLon(0, 179.5), LatLon(0, -179.5)], (-1, 178.5, 1, -178.5)),
        ([LatLon(0, -179.5), LatLon(0, 179.5)], (-1, 178.5, 1, -178.5)),
        ([LatLon(0, 180)], (-1, 179, 1, -179)),
        ([LatLon(60, 10)], (59, 8, 61, 12)),
        ([LatLon(89.5, 10)], (88.5, -90, 90, 110)),
        ([LatLon(0, -100), LatLon(0, 0), LatLon(0, 79)], (-1, -101, 1, 80)),
        ([LatLon(0, 0), LatLon(0, 179.5), LatLon(0, -179.5)], (-1, -180, 1, 180)),
    ],
)
def test_bounds_lie_around_all_places(
    places: list[LatLon], wanted: tuple[float, float, float, float]
) -> None:
    box = bounds_around(places, margin_m=np.radians(1) * 6_371_008.8)
    assert (box.south, box.west, box.north, box.east) == pytest.approx(wanted, abs=1e-3)


def test_the_smallest_and_the_largest_maps_are_drawn(tmp_path: Path) -> None:
    point, globe = Bounds(10, 20, 10, 20), Bounds(-90, -180, 90, 180)
    for box in (point, globe, Bounds(0, -180, 0.001, 180), Bounds(-90, 0, 90, 0.001)):
        draw_map(tmp_path / "map.png", bounds=box, fixes=[make_fix(LatLon(10, 20))])
        assert max(drawn(tmp_path / "map.png").shape) >= SIDE_PX
