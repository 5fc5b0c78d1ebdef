from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from geofix_train.aerial import read_imagery
from geofix_train.rasters import find_rasters
from tests.geofix_train.tiny_data import FRAME

SIDE_PX = 256
PLACE = Affine(1, 0, -128, 0, -1, 128)


def write(path: Path, pixels: npt.NDArray[np.uint8], **options: object) -> None:
    """Write a tiled GeoTIFF of pixels (H, W, bands), one metre each."""
    height, width, bands = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype="uint8",
        crs=FRAME.crs, transform=PLACE, tiled=True, blockxsize=64, blockysize=64, **options,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a bright raster whose overviews were made when it was dark."""
    path = tmp_path / "ortho.tif"
    write(path, np.full((SIDE_PX, SIDE_PX, 3), 50, np.uint8))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:  # in a file beside it
        file.build_overviews([2, 4, 8], Resampling.average)
    assert path.with_suffix(".tif.ovr").exists()
    overviews = path.with_suffix(".tif.ovr").read_bytes()
    write(path, np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8))
    path.with_suffix(".tif.ovr").write_bytes(overviews)
    return tmp_path


def test_overviews_are_read_where_they_are_fine_enough(folder: Path) -> None:
    (fine,) = read_imagery(folder, pixel_m=1.0, frame=FRAME)
    assert set(np.unique(fine.image)) == {200}
    (coarse,) = read_imagery(folder, pixel_m=8.0, frame=FRAME)
    assert set(np.unique(coarse.image)) == {50}


@pytest.mark.parametrize(
    ("pixel_m", "wanted"), [(0.5, 256), (1.0, 256), (3.9, 256), (4.0, 128), (6.0, 86), (16.0, 32)]
)
def test_a_raster_is_read_at_twice_the_resolution_of_the_mosaic(
    folder: Path, pixel_m: float, wanted: int
) -> None:
    (raster,) = find_rasters(folder)
    image, known = raster.read(raster.factor(raster.corners, pixel_m=pixel_m))
    assert image.shape == (3, wanted, wanted)
    assert known.shape == (wanted, wanted)


def test_what_is_read_coarsely_lies_where_it_lay(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels = blocks.repeat(16, axis=0).repeat(16, axis=1)
    write(tmp_path / "ortho.tif", pixels)
    (mosaic,) = read_imagery(tmp_path, pixel_m=16.0, frame=FRAME)
    np.testing.assert_allclose(mosaic.image, blocks, atol=1)
    assert mosaic.known.all()


def test_a_size_that_no_factor_divides_keeps_its_corners(tmp_path: Path) -> None:
    write(tmp_path / "ortho.tif", np.full((250, 250, 3), 9, np.uint8))
    (raster,) = find_rasters(tmp_path)
    image, _ = raster.read(4)
    assert image.shape == (3, 63, 63)
    assert raster.transform_of(image) @ (63, 63) == pytest.approx(PLACE @ (250, 250))


@pytest.mark.parametrize("how", ["nodata", "alpha"])
def test_what_a_raster_marks_as_empty_is_not_known(tmp_path: Path, how: str) -> None:
    pixels = np.full((SIDE_PX, SIDE_PX, 4), 200, np.uint8)
    pixels[:, :128] = 0
    if how == "nodata":
        write(tmp_path / "ortho.tif", pixels[..., :3], nodata=0)
    else:
        write(tmp_path / "ortho.tif", pixels, photometric="RGB", alpha="YES")
    (mosaic,) = read_imagery(tmp_path, pixel_m=1.0, frame=FRAME)
    assert not mosaic.known[:, :127].any()
    assert mosaic.known[:, 129:].all()
