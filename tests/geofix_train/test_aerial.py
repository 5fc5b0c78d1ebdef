from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.warp import transform

import geofix_index.cells as s2
from geofix.geo import LatLon, distance_m
from geofix_train.aerial import LocalFrame, Mosaic, read_imagery, write_geotiff
from geofix_train.photo_table import TableError
from tests.geofix_train.tiny_data import FRAME, LAT, LON, random_pixels

SIDE_PX, PIXEL_M = 200, 2.0
PLACE = Affine(PIXEL_M, 0, -200, 0, -PIXEL_M, 200)
WGS84, UTM, SWISS, WEB_MERCATOR = "EPSG:4326", "EPSG:32632", "EPSG:2056", "EPSG:3857"
WriteRaster = Callable[..., Path]


@pytest.fixture(scope="module")
def mosaic() -> Mosaic:
    """Return random pixels on a square of 400 m around (0, 0), unknown in the north-west."""
    pixels = np.random.default_rng(0).integers(1, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    known = np.ones((SIDE_PX, SIDE_PX), bool)
    known[:50, :50] = False
    half_m = SIDE_PX * PIXEL_M / 2
    return Mosaic(FRAME, pixels, known, -half_m, half_m, PIXEL_M, "2024")


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Return a function that writes a raster of any type and georeference into a folder."""

    def write(
        pixels: npt.NDArray[np.generic],
        name: str = "ortho.tif",
        *,
        crs: str | None = FRAME.crs,
        place: Affine = PLACE,
    ) -> Path:
        path = tmp_path / "aerial" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width, bands = pixels.shape
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=bands,
            dtype=pixels.dtype, crs=crs, transform=place,
        ) as file:  # fmt: skip
            file.write(np.moveaxis(pixels, 2, 0))
        return tmp_path / "aerial"

    return write


def test_a_frame_is_true_to_scale_at_its_point_and_comes_back() -> None:
    latlon = np.array([(LAT, LON), (LAT + 0.01, LON), (LAT, LON + 0.01), (LAT - 0.02, LON - 0.03)])
    xy = FRAME.xy(*latlon.T)
    np.testing.assert_allclose(FRAME.latlon(xy), latlon, atol=1e-9)
    assert xy[0] == pytest.approx((0, 0), abs=1e-6)
    away = [distance_m(LatLon(LAT, LON), LatLon(*place)) for place in latlon.tolist()]
    np.testing.assert_allclose(np.linalg.norm(xy, axis=1), away, rtol=0.006)  # a sphere's distances


def test_a_tile_holds_the_pixels_around_its_centre(mosaic: Mosaic) -> None:
    # The centre lies on the corner of four pixels: (0, 0) is that of rows and columns 99 and 100.
    tiles = mosaic.tiles(np.array([(0.0, 0.0), (60.0, -20.0)]), side_m=16.0, num_pixels=8)
    np.testing.assert_array_equal(tiles[0], mosaic.image[96:104, 96:104])
    np.testing.assert_array_equal(tiles[1], mosaic.image[106:114, 126:134])


def test_the_centre_of_a_tile_is_the_pixel_at_that_place(mosaic: Mosaic) -> None:
    rows, columns = np.array([(30, 120), (77, 31), (150, 199), (0, 100)]).T
    middles = np.column_stack([columns + 0.5 - SIDE_PX / 2, SIDE_PX / 2 - rows - 0.5]) * PIXEL_M
    tiles = mosaic.tiles(middles, side_m=10.0, num_pixels=5)
    np.testing.assert_array_equal(tiles[:, 2, 2], mosaic.image[rows, columns])


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_a_tile_turned_clockwise_shows_the_picture_turned_the_other_way(
    mosaic: Mosaic, quarter_turns: int
) -> None:
    at = np.array([(10.0, -40.0)])
    north_up = mosaic.tiles(at, side_m=40.0, num_pixels=20)[0]
    turned = mosaic.tiles(
        at, side_m=40.0, num_pixels=20, rotation_deg=np.array([90.0 * quarter_turns])
    )[0]
    np.testing.assert_array_equal(turned, np.rot90(north_up, quarter_turns))
    assert quarter_turns == 0 or (turned != north_up).any()


def test_each_tile_has_its_own_turn(mosaic: Mosaic) -> None:
    at = np.array([(10.0, -40.0), (-30.0, 60.0)])
    both = mosaic.tiles(at, side_m=30.0, num_pixels=15, rotation_deg=np.array([33.0, 190.0]))
    for row, turn in enumerate((33.0, 190.0)):
        alone = mosaic.tiles(
            at[row : row + 1], side_m=30.0, num_pixels=15, rotation_deg=np.array([turn])
        )
        np.testing.assert_array_equal(both[row], alone[0])


def test_a_coarse_tile_is_averaged(mosaic: Mosaic) -> None:
    tile = mosaic.tiles(np.array([(0.0, 0.0)]), side_m=32.0, num_pixels=4)[0]
    blocks = mosaic.image[92:108, 92:108].reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(tile, blocks.astype(np.uint8))


def test_a_tile_over_the_edge_is_black_there(mosaic: Mosaic) -> None:
    tile = mosaic.tiles(np.array([(200.0, 0.0)]), side_m=40.0, num_pixels=20)[0]
    np.testing.assert_array_equal(tile[:, :10], mosaic.image[90:110, 190:])
    assert not tile[:, 10:].any()


def test_places_without_imagery_are_not_covered(mosaic: Mosaic) -> None:
    places = {
        (0, 0): True, (199, -199): True, (201, 0): False, (0, -201): False,
        (-150, 150): False, (-150, 50): True, (1e6, 1e6): False,
    }  # fmt: skip
    assert mosaic.covers(np.array(list(places), float)).tolist() == list(places.values())


def test_places_that_no_plane_can_hold_are_not_covered(mosaic: Mosaic) -> None:
    antipode, pole_of_the_plane, out_of_range = (-LAT, LON - 180), (0.0, LON + 90), (120.0, LON)
    xy = mosaic.frame.xy(*np.transpose([antipode, pole_of_the_plane, out_of_range, (LAT, LON)]))
    assert np.isinf(xy[:3]).all()
    assert mosaic.covers(xy).tolist() == [False, False, False, True]


@pytest.mark.parametrize("level", [16, 17, 18])
def test_the_cells_are_those_whose_centre_is_covered(mosaic: Mosaic, level: int) -> None:
    around = s2.cell_from_latlon(LAT, LON, level=12)
    near = s2.descendants(np.unique([around, *s2.neighbours([around]).ravel()]), level=level)
    centres = s2.latlon_from_cell(near)
    wanted = np.sort(near[mosaic.covers(mosaic.frame.xy(*centres.T))])
    assert len(wanted) > 3
    np.testing.assert_array_equal(mosaic.cells(level=level), wanted)


def test_bounds_hold_the_corners(mosaic: Mosaic) -> None:
    bounds = mosaic.bounds
    assert bounds.south < LAT < bounds.north
    assert bounds.west < LON < bounds.east
    south_west, north_east = mosaic.frame.xy(
        [bounds.south, bounds.north], [bounds.west, bounds.east]
    )
    assert south_west == pytest.approx((-200, -200), abs=1e-3)
    assert north_east == pytest.approx((200, 200), abs=1e-3)


def test_a_written_geotiff_reads_back_but_for_its_compression(tmp_path: Path) -> None:
    pixels = random_pixels(SIDE_PX, SIDE_PX, seed=1)
    write_geotiff(
        tmp_path / "ortho.tif", pixels, west=-200.0, north=200.0, pixel=PIXEL_M, crs=FRAME.crs
    )
    (read,) = read_imagery(tmp_path, pixel_m=PIXEL_M, frame=FRAME)
    assert read.date == tmp_path.name
    assert (read.west, read.north) == pytest.approx((-200, 200), abs=1e-6)
    assert read.image.shape == pixels.shape
    assert read.known.all()
    assert np.abs(read.image.astype(int) - pixels).mean() < 3  # JPEG's errors lie at edges
    at = np.array([(20.0, 30.0)])
    tile = read.tiles(at, side_m=2 * PIXEL_M, num_pixels=2)[0].astype(int)
    assert np.abs(tile - pixels[84:86, 109:111]).max() < 16


@pytest.mark.parametrize("crs", [UTM, SWISS, WEB_MERCATOR, WGS84])
def test_imagery_in_any_reference_system_lands_within_a_pixel(
    write_raster: WriteRaster, crs: str
) -> None:
    (x,), (y,) = transform(WGS84, crs, [LON], [LAT])
    one_m = 1 / 111_195 if crs == WGS84 else 1.5 if crs == WEB_MERCATOR else 1.0  # in units of crs
    pixel = 0.5 * one_m
    pixels = np.full((400, 400, 3), 40, np.uint8)
    marks = {(200, 200): 0, (60, 90): 1, (333, 300): 2}  # row and column, channel
    for (row, column), channel in marks.items():
        pixels[row - 3 : row + 3, column - 3 : column + 3, channel] = 255
    place = Affine(pixel, 0, x - 200 * pixel, 0, -pixel, y + 200 * pixel)
    folder = write_raster(pixels, crs=crs, place=place)
    (mosaic,) = read_imagery(folder, pixel_m=0.5)
    for (row, column), channel in marks.items():
        lon, lat = transform(crs, WGS84, *np.array([place @ (column, row)]).T.tolist())
        rows, columns = np.nonzero(mosaic.image[..., channel] > 150)
        middle = (
            mosaic.west + (columns.mean() + 0.5) * 0.5,
            mosaic.north - (rows.mean() + 0.5) * 0.5,
        )
        assert middle == pytest.approx(tuple(mosaic.frame.xy(lat, lon)[0]), abs=0.5)


def test_a_raster_that_stands_askew_leaves_its_corners_unknown(write_raster: WriteRaster) -> None:
    turned = Affine.translation(0, 0) @ Affine.rotation(30) @ Affine.scale(1.0, -1.0)
    folder = write_raster(np.full((100, 100, 3), 200, np.uint8), place=turned)
    (mosaic,) = read_imagery(folder, pixel_m=1.0)
    assert not mosaic.known[0, -1]
    assert mosaic.known[len(mosaic.known) // 2, mosaic.known.shape[1] // 2]
    assert 0.9e4 < mosaic.known.sum() < 1.1e4
    assert not mosaic.image[~mosaic.known].any()


def test_neighbouring_rasters_become_one_mosaic(write_raster: WriteRaster) -> None:
    pixels = random_pixels(SIDE_PX, SIDE_PX, seed=2)
    for row in (0, 1):
        for column in (0, 1):
            part = pixels[100 * row : 100 * row + 100, 100 * column : 100 * column + 100]
            place = Affine(PIXEL_M, 0, -200 + 200 * column, 0, -PIXEL_M, 200 - 200 * row)
            folder = write_raster(part, f"{row}{column}.tif", place=place)
    (mosaic,) = read_imagery(folder, pixel_m=PIXEL_M, frame=FRAME)
    np.testing.assert_array_equal(mosaic.image, pixels)
    assert mosaic.known.all()


def test_dates_are_sorted_and_share_a_plane(write_raster: WriteRaster) -> None:
    for date, level in (("2024-10", 90), ("2023-07", 30), ("2025", 150)):
        folder = write_raster(np.full((50, 50, 3), level, np.uint8), f"{date}/ortho.tif")
    (folder / "empty").mkdir()
    mosaics = read_imagery(folder, pixel_m=PIXEL_M)
    assert [mosaic.date for mosaic in mosaics] == ["2023-07", "2024-10", "2025"]
    assert [int(mosaic.image.max()) for mosaic in mosaics] == [30, 90, 150]
    assert len({mosaic.frame for mosaic in mosaics}) == 1


def test_one_band_becomes_gray_and_a_fourth_is_dropped(write_raster: WriteRaster) -> None:
    gray = np.arange(2500, dtype=np.uint8).reshape(50, 50, 1)
    four = np.concatenate([gray, gray + 1, gray + 2, np.full_like(gray, 255)], axis=2)
    write_raster(gray, "a/gray.tif")
    folder = write_raster(four, "b/four.tif")
    one_band, four_bands = read_imagery(folder, pixel_m=PIXEL_M, frame=FRAME)
    np.testing.assert_array_equal(one_band.image, gray.repeat(3, axis=2))
    np.testing.assert_array_equal(four_bands.image, four[..., :3])


def test_a_table_of_square_tiles_becomes_a_mosaic(tmp_path: Path) -> None:
    pixels = random_pixels(64, 128, seed=3)
    lines = ["aerial,lat,lon,aerial_side_m"]
    for name, half, x in (("west.png", pixels[:, :64], -64.0), ("east.png", pixels[:, 64:], 64.0)):
        Image.fromarray(half).save(tmp_path / name)
        lat, lon = FRAME.latlon(np.array([(x, 0.0)]))[0]
        lines.append(f"{name},{lat:.9f},{lon:.9f},128")
    table = tmp_path / "tiles.csv"
    table.write_text("\n".join(lines))
    (mosaic,) = read_imagery(table, pixel_m=PIXEL_M, frame=FRAME)
    assert mosaic.date == "tiles"
    xs, ys = np.meshgrid(np.arange(-126.0, 127, 4), np.arange(-62.0, 63, 4))
    at = np.column_stack([xs.ravel(), ys.ravel()])
    got = mosaic.tiles(at, side_m=2 * PIXEL_M, num_pixels=2)[:, 1, 1]
    rows, columns = ((64 - at[:, 1]) / 2).astype(int), ((128 + at[:, 0]) / 2).astype(int)
    assert (got == pixels[rows, columns]).mean() > 0.95  # at edges of colours, rounding decides


def test_no_imagery_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none: no such imagery"):
        read_imagery(tmp_path / "none", pixel_m=1.0)
    (tmp_path / "notes.txt").write_text("no raster")
    with pytest.raises(TableError, match=rf"{tmp_path}: no imagery; want rasters \(\.tif"):
        read_imagery(tmp_path, pixel_m=1.0)


def test_an_unreadable_raster_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(40))
    with pytest.raises(TableError, match=r"broken\.tif: unreadable"):
        read_imagery(tmp_path, pixel_m=1.0)


@pytest.mark.parametrize("place", [PLACE, Affine.identity()])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_reference_system_is_named(
    write_raster: WriteRaster, place: Affine
) -> None:
    folder = write_raster(np.zeros((20, 20, 3), np.uint8), crs=None, place=place)
    with pytest.raises(TableError, match=r"ortho\.tif: no coordinate reference system"):
        read_imagery(folder, pixel_m=1.0)


def test_a_raster_of_16_bits_is_refused_and_not_wrapped_around(write_raster: WriteRaster) -> None:
    folder = write_raster(np.full((20, 20, 3), 1000, np.uint16))
    with pytest.raises(TableError, match=r"ortho\.tif: holds uint16, want uint8"):
        read_imagery(folder, pixel_m=1.0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("aerial,lat,lon", "no column 'aerial_side_m'"),
        ("aerial,lat,lon,aerial_side_m\nnone.png,47,8,128", "tile none.png"),
    ],
)
def test_a_bad_table_of_tiles_says_why(tmp_path: Path, line: str, reason: str) -> None:
    table = tmp_path / "tiles.csv"
    table.write_text(line + "\n")
    with pytest.raises(TableError, match=reason):
        read_imagery(table, pixel_m=1.0)


def test_a_frame_is_where_it_was_asked_for() -> None:
    assert LocalFrame(1.0, 2.0).xy(1.0, 2.0).tolist() == [[0.0, 0.0]]
