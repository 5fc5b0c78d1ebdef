"""What is read and made of real photos and imagery; skipped where they are not at hand."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from geofix import InputSpec, Localizer
from geofix_export import build_pack
from geofix_train.aerial import Mosaic, read_imagery
from geofix_train.photo_table import PhotoTable, read_columns, read_photo_table
from geofix_train.training_free import encode_photos, training_free_codes

DATA = Path(os.environ.get("GEOFIX_DATA") or Path(__file__).parents[2] / "shared" / "data")
MAX_DIFFERENCE = 12.0  # of pixel values, mean; resampling and JPEG give less, a wrong place more
MOBILENET = InputSpec(
    width=224,
    height=224,
    layout="nchw",
    dtype="float32",
    mean=(127.5, 127.5, 127.5),
    scale=(127.5, 127.5, 127.5),
    input_name="image",
    output_name="fmap",
)

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data at {DATA}; GEOFIX_DATA may name another folder"
)


@pytest.fixture(scope="module")
def helsinki() -> PhotoTable:
    table, _ = read_photo_table(DATA / "helsinki_pairs" / "manifest.csv")
    return table


@pytest.fixture(scope="module")
def panoramax() -> PhotoTable:
    table, _ = read_photo_table(DATA / "panoramax" / "manifest.csv")
    return table


def centres(table: Path, mosaic: Mosaic) -> npt.NDArray[np.float64]:
    """Return where the centres of a table's tiles lie in a mosaic."""
    columns = read_columns(table)
    return mosaic.frame.xy(columns["lat"], columns["lon"])


def source_middles(table: Path, *, side_m: float, num_pixels: int) -> npt.NDArray[np.float64]:
    """Return the middles of a table's pictures, (N, num_pixels, num_pixels, 3)."""
    columns = read_columns(table)
    middles = []
    for name, whole_m in zip(columns["aerial"], columns["aerial_side_m"], strict=True):
        with Image.open(table.parent / name) as picture:
            low, high = ((0.5 + sign * side_m / whole_m / 2) * picture.width for sign in (-1, 1))
            middle = picture.convert("RGB").resize(
                (num_pixels, num_pixels), Image.Resampling.BOX, box=(low, low, high, high)
            )
        middles.append(np.asarray(middle, np.float64))
    return np.stack(middles)


def differences(
    table: Path, mosaic: Mosaic, *, side_m: float, num_pixels: int
) -> npt.NDArray[np.float64]:
    """Return how tiles (N,) cut from a mosaic differ from each picture (M,), (N, M)."""
    cut = mosaic.tiles(centres(table, mosaic), side_m=side_m, num_pixels=num_pixels)
    source = source_middles(table, side_m=side_m, num_pixels=num_pixels)
    return np.stack([np.abs(tile - source).mean(axis=(1, 2, 3)) for tile in cut.astype(float)])


def test_helsinki_photos_stand_on_their_imagery(helsinki: PhotoTable) -> None:
    (mosaic,) = read_imagery(DATA / "helsinki_pairs" / "manifest.csv", pixel_m=4)
    assert len(helsinki) == 10
    assert np.isfinite(helsinki.heading_deg).all()
    assert mosaic.covers(mosaic.frame.xy(helsinki.lat, helsinki.lon)).all()


def test_helsinki_tiles_show_their_pictures() -> None:
    table = DATA / "helsinki_pairs" / "manifest.csv"
    (mosaic,) = read_imagery(table, pixel_m=4)
    found = differences(table, mosaic, side_m=128, num_pixels=16)
    assert found.diagonal().max() < MAX_DIFFERENCE
    assert found.argmin(axis=1).tolist() == list(range(10))


def test_berlin_tiles_become_one_mosaic() -> None:
    table = DATA / "berlin_aerial" / "manifest.csv"
    (mosaic,) = read_imagery(table, pixel_m=8)
    found = differences(table, mosaic, side_m=64, num_pixels=8)
    assert found.shape == (108, 108)
    assert mosaic.covers(centres(table, mosaic)).all()
    assert np.median(found.diagonal()) < MAX_DIFFERENCE
    assert found.argmin(axis=1).tolist() == list(range(108))


def test_panoramax_has_four_faces_of_62_pictures(panoramax: PhotoTable) -> None:
    _, faces = np.unique(panoramax.columns["picture_id"], return_counts=True)
    assert faces.tolist() == [4] * 62
    assert set(panoramax.hfov_deg) == {90.0}
    assert np.isfinite(panoramax.heading_deg).all()


def test_real_photos_and_a_pretrained_encoder_make_a_pack(
    panoramax: PhotoTable, tmp_path: Path
) -> None:
    model = DATA / "mobilenet_v2_050" / "mobilenet_v2_050_224_fp32.onnx"
    table = panoramax[np.arange(120)]
    made = training_free_codes(encode_photos(model, table, input_spec=MOBILENET), level=20)
    pack = tmp_path / "cap_ferret.geofix"
    codes = made.codes.cell_codes
    build_pack(pack, cells=made.codes.cells, cell_codes=codes, encoders=[made.encoder])
    with Localizer.open(pack) as localizer:
        fix = localizer.localize(table.photo_path(0))
    assert np.linalg.norm(codes, axis=1) == pytest.approx(1, abs=1e-5)
    assert made.queries is not None
    assert np.linalg.norm(made.queries.embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    assert fix.latlon.lat == pytest.approx(table.lat[0], abs=2e-4)
    assert fix.latlon.lon == pytest.approx(table.lon[0], abs=2e-4)
