import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.warp import transform

from geofix_train.aerial import read_imagery
from geofix_train.photo_table import TableError
from geofix_train.xyz_tiles import find_tiles, is_tile_folder
from tests.geofix_train.tiny_data import LAT, LON

WGS84, WEB_MERCATOR = "EPSG:4326", "EPSG:3857"
ZOOM = 18  # 0.60 m a pixel at the equator, 0.40 m here
WriteTiles = Callable[..., Path]


def tile_at(lat: float, lon: float, zoom: int) -> tuple[float, float]:
    """Return where a place lies, in tiles (the usual formula of slippy maps)."""
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    return (lon + 180) / 360 * 2**zoom, y * 2**zoom


def corner(x: float, y: float, zoom: int) -> tuple[float, float]:
    """Return latitude and longitude of a tile's corner in the north-west."""
    return math.degrees(
        math.atan(math.sinh(math.pi * (1 - 2 * y / 2**zoom)))
    ), x / 2**zoom * 360 - 180


def paint(x: int, y: int, size: int) -> npt.NDArray[np.uint8]:
    """Return a tile in a colour of its own."""
    colour = np.random.default_rng([x, y]).integers(60, 256, 3, dtype=np.uint8)
    return np.broadcast_to(colour, (size, size, 3)).copy()


@pytest.fixture
def write_tiles(tmp_path: Path) -> WriteTiles:
    """Return a function that writes 3 x 3 tiles around the middle of the tiny data set."""

    def write(
        folder: str = "tiles", *, zoom: int = ZOOM, size: int = 256, ending: str = "png"
    ) -> Path:
        x, y = map(int, tile_at(LAT, LON, zoom))
        for column in (x - 1, x, x + 1):
            for row in (y - 1, y, y + 1):
                path = tmp_path / folder / str(zoom) / str(column) / f"{row}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(paint(column, row, size)).save(path)
        return tmp_path / folder

    return write


@given(st.integers(1, 20), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_tile_lies_where_maps_put_it(zoom: int, east: float, south: float) -> None:
    x, y = int(east * 2**zoom), int(south * 2**zoom)
    lat, lon = corner(x, y, zoom)
    assert tile_at(lat, lon, zoom) == pytest.approx((x, y), abs=1e-6)
    (to_x,), (to_y,) = transform(WGS84, WEB_MERCATOR, [lon], [lat])
    side = 2 * math.pi * 6_378_137 / 2**zoom
    assert (to_x / side + 2**zoom / 2, 2**zoom / 2 - to_y / side) == pytest.approx((x, y), abs=1e-5)


@pytest.mark.parametrize(
    ("size", "ending"), [(256, "png"), (512, "png"), (256, "jpg"), (100, "webp")]
)
def test_each_tile_shows_at_its_place(write_tiles: WriteTiles, size: int, ending: str) -> None:
    folder = write_tiles(size=size, ending=ending)
    (mosaic,) = read_imagery(folder, pixel_m=1.0)
    assert mosaic.date == "tiles"
    x, y = map(int, tile_at(LAT, LON, ZOOM))
    for column in (x - 1, x, x + 1):
        for row in (y - 1, y, y + 1):
            for at in ((0.03, 0.03), (0.5, 0.5), (0.97, 0.97)):
                place = mosaic.frame.xy(*corner(column + at[0], row + at[1], ZOOM))
                seen = mosaic.tiles(place, side_m=1.0, num_pixels=1)[0, 0, 0].astype(int)
                assert np.abs(seen - paint(column, row, 1)[0, 0]).max() <= 4  # JPEG, WebP
    assert mosaic.covers(mosaic.frame.xy(*corner(x + 0.5, y + 0.5, ZOOM))).all()
    assert not mosaic.covers(mosaic.frame.xy(*corner(x + 2.5, y + 0.5, ZOOM))).any()


def test_dates_are_subfolders_also_those_that_look_like_numbers(write_tiles: WriteTiles) -> None:
    for date in ("all/2024", "all/2023", "all/12"):
        folder = write_tiles(date).parent
    mosaics = read_imagery(folder, pixel_m=2.0)
    assert [mosaic.date for mosaic in mosaics] == ["12", "2023", "2024"]
    assert len({mosaic.frame for mosaic in mosaics}) == 1


@pytest.mark.parametrize(
    ("pixel_m", "wanted"), [(0.1, 18), (0.41, 18), (0.5, 18), (0.81, 17), (3.0, 16), (50.0, 16)]
)
def test_the_coarsest_zoom_that_is_fine_enough_is_chosen(
    write_tiles: WriteTiles, pixel_m: float, wanted: int
) -> None:
    for zoom in (16, 17, 18):
        folder = write_tiles(zoom=zoom)
    side = {zoom: 40_075_016.7 / 2**zoom for zoom in (16, 17, 18)}
    raster = find_tiles(folder, pixel_m=pixel_m)[0]
    assert raster.width * raster.transform.a == pytest.approx(side[wanted], rel=1e-6)


def test_tiles_of_512_pixels_are_finer_than_their_zoom_says(write_tiles: WriteTiles) -> None:
    write_tiles(zoom=17, size=512)
    folder = write_tiles(zoom=18, size=512)
    raster = find_tiles(folder, pixel_m=0.41)[0]
    assert raster.width * raster.transform.a == pytest.approx(40_075_016.7 / 2**17, rel=1e-6)


def test_a_zoom_can_be_given(write_tiles: WriteTiles) -> None:
    for zoom in (16, 18):
        folder = write_tiles(zoom=zoom)
    coarse, fine = (read_imagery(folder, pixel_m=5.0, zoom=zoom)[0] for zoom in (16, 18))
    assert coarse.known.sum() > 10 * fine.known.sum()
    with pytest.raises(TableError, match=r"tiles: no tiles of zoom 17; there are 16, 18"):
        read_imagery(folder, pixel_m=5.0, zoom=17)


def test_tiles_are_not_read_finer_than_needed(write_tiles: WriteTiles) -> None:
    raster = find_tiles(write_tiles(size=512), pixel_m=1.0)[0]
    image, known = raster.read(4)
    assert image.shape == (3, 64, 64)
    assert known.shape == (64, 64)


def test_what_is_transparent_is_not_known(tmp_path: Path) -> None:
    x, y = map(int, tile_at(LAT, LON, ZOOM))
    pixels = np.full((256, 256, 4), 200, np.uint8)
    pixels[:, :128, 3] = 0
    path = tmp_path / str(ZOOM) / str(x) / f"{y}.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(pixels).save(path)
    (mosaic,) = read_imagery(tmp_path, pixel_m=1.0)
    west, east = (mosaic.frame.xy(*corner(x + at, y + 0.5, ZOOM)) for at in (0.25, 0.75))
    assert not mosaic.covers(west).any()
    assert mosaic.covers(east).all()


def test_a_broken_tile_is_named(write_tiles: WriteTiles) -> None:
    folder = write_tiles()
    path = sorted(folder.rglob("*.png"))[4]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(TableError, match=rf"{path.name}: unreadable"):
        read_imagery(folder, pixel_m=1.0)
    path.write_text("I am no picture")
    with pytest.raises(TableError, match=rf"{path.name}: unreadable"):
        read_imagery(folder, pixel_m=1.0)


@pytest.mark.parametrize(
    "path",
    ["18/5/notes.txt", "18/north/5.png", "31/5/5.png", "018/5/5.png", "3/9/5.png", "5/6.png"],
)
def test_other_folders_are_not_tiles(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"")
    assert not is_tile_folder(tmp_path)
