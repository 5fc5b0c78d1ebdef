"""What is read and made of real photos and imagery; skipped where they are not at hand."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from geofix import InputSpec, Localizer
from geofix_export import build_pack
from geofix_train.aerial import Mosaic, read_imagery
from geofix_train.check import check_table
from geofix_train.import_photos import import_photos
from geofix_train.photo_table import (
    PhotoTable,
    read_columns,
    read_photo_table,
    write_photo_table,
)
from geofix_train.same_pictures import read_fingerprints, same_pictures
from geofix_train.split import split_by_group
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


def stac_item_of(table: PhotoTable, row: int) -> dict[str, Any]:
    """Return a row of a table as an item of Panoramax."""
    columns = table.columns
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"item-{row}",
        "collection": str(columns["sequence_id"][row]),
        "geometry": {"type": "Point", "coordinates": [table.lon[row], table.lat[row]]},
        "properties": {
            "datetime": str(columns["captured_at"][row]),
            "view:azimuth": table.heading_deg[row],
            "pers:interior_orientation": {"field_of_view": table.hfov_deg[row]},
        },
        "assets": {"hd": {"href": str(table.photo_path(row).resolve()), "roles": ["data"]}},
    }


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


def test_an_imported_manifest_says_what_the_manifest_says(
    panoramax: PhotoTable, tmp_path: Path
) -> None:
    table, problems = import_photos([DATA / "panoramax" / "manifest.csv"], root=tmp_path)
    assert problems == []
    for name in ("lat", "lon", "heading_deg", "hfov_deg", "captured_at", "sequence_id"):
        np.testing.assert_array_equal(table.columns[name], panoramax.columns[name])
    assert table.photo_path(7).resolve() == panoramax.photo_path(7).resolve()


def test_items_of_real_photos_become_the_rows_of_their_manifest(
    panoramax: PhotoTable, tmp_path: Path
) -> None:
    items = [stac_item_of(panoramax, row) for row in range(len(panoramax))]
    content = {"type": "FeatureCollection", "features": items}
    (tmp_path / "items.json").write_text(json.dumps(content))
    table, problems = import_photos([tmp_path / "items.json"], root=tmp_path)
    assert problems == []
    for name in ("lat", "lon", "heading_deg", "hfov_deg", "captured_at", "sequence_id"):
        np.testing.assert_array_equal(table.columns[name], panoramax.columns[name])


def test_real_photos_are_found_by_their_mapillary_ids(helsinki: PhotoTable, tmp_path: Path) -> None:
    images = [
        {
            "id": helsinki.photo_path(row).stem,
            "computed_geometry": {"type": "Point", "coordinates": [lon, lat]},
            "computed_compass_angle": heading_deg,
        }
        for row, (lat, lon, heading_deg) in enumerate(
            zip(helsinki.lat, helsinki.lon, helsinki.heading_deg, strict=True)
        )
    ]
    (tmp_path / "images.json").write_text(json.dumps({"data": images}))
    photos = DATA / "helsinki_pairs" / "photos"
    table, problems = import_photos([tmp_path / "images.json"], root=tmp_path, photos=photos)
    assert problems == []
    np.testing.assert_array_equal(table.lat, helsinki.lat)
    assert table.photo_path(3).resolve() == helsinki.photo_path(3).resolve()


def test_neighbours_on_a_drive_are_no_doubles_and_pictures_saved_anew_are(
    panoramax: PhotoTable, tmp_path: Path
) -> None:
    paths = [panoramax.photo_path(row) for row in range(len(panoramax))]
    for row in range(0, 240, 12):
        paths.append(tmp_path / f"{row}.jpg")
        with Image.open(paths[row]) as picture:
            picture.resize((200, 200)).save(paths[-1], quality=60)
    place = [0.0] * len(paths)
    table = PhotoTable.from_columns({"path": list(map(str, paths)), "lat": place, "lon": place})
    found = same_pictures(read_fingerprints(table))
    assert found == [[row, 248 + row // 12] for row in range(0, 240, 12)]


def test_a_real_table_is_sound(tmp_path: Path) -> None:
    table, _ = import_photos([DATA / "panoramax" / "manifest.csv"], root=tmp_path)
    split = split_by_group(table, {"train": 0.8, "val": 0.1, "test": 0.1})
    write_photo_table(split, tmp_path / "photos.csv")
    report = check_table(tmp_path / "photos.csv").report
    assert report.is_sound
    assert report.counts["split"] == {"train": 200, "val": 24, "test": 24}
    assert report.same_pictures == report.same_views == ()


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
