"""The sample that tests training-free packs, on pictures that an encoder tells apart."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geofix import RegionPack
from geofix_train.photo_table import read_photo_table, write_photo_table
from samples import real_photos
from tests.geofix_train.tiny_data import make_table
from tests.tiny_pack import make_onnx, projection

NUM_PLACES, NUM_FACES = 12, 3  # every place twice: two groups see the same
NUM_PHOTOS = 2 * NUM_PLACES * NUM_FACES


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the sample left: each photo's twin of another group stands 8 m away."""
    folder = tmp_path_factory.mktemp("real")
    place = np.arange(NUM_PHOTOS) // NUM_FACES % NUM_PLACES
    twin = np.arange(NUM_PHOTOS) // (NUM_FACES * NUM_PLACES)
    table = make_table(
        folder,
        num=NUM_PHOTOS,
        split=[""] * NUM_PHOTOS,
        lat=47.37 + 0.01 * (place // 4) + 0.00007 * twin,
        lon=8.54 + 0.01 * (place % 4),
        picture_id=[f"g{place}-{twin}" for place, twin in zip(place, twin, strict=True)],
    )
    half = NUM_PHOTOS // 2
    for row in range(half):  # twins look alike
        shutil.copy(table.photo_path(row), table.photo_path(row + half))
    write_photo_table(table, folder / "photos.parquet")
    encoder = folder / "model.onnx"
    encoder.write_bytes(make_onnx(projection(np.random.default_rng(0))))
    words: list[Any] = [folder / "photos.parquet", encoder, folder / "out", "--level", "17"]
    words += ["--group", "picture_id"]
    real_photos.main([str(word) for word in words])
    return folder / "out"


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_left_out_photos_are_found_by_their_twins(report: dict[str, Any]) -> None:
    assert report["num_photos"] == NUM_PHOTOS
    assert report["num_groups"] == 2 * NUM_PLACES
    assert report["cell_level"] == 17
    found = report["recall_at_m"]["100"]
    assert found["ceiling"] == 1.0
    assert found["recall"] > 0.8  # every tenth photo calibrates, and is nobody's twin then
    low, high = found["interval95"]
    assert low <= found["recall"] <= high


def test_the_ceiling_is_how_near_other_groups_come(report: dict[str, Any]) -> None:
    ceilings = [found["ceiling"] for found in report["recall_at_m"].values()]
    assert ceilings == [1.0] * 5


def test_the_last_pack_lacks_the_last_group_and_is_whole(out: Path) -> None:
    pack = RegionPack.open(out / "photos.geofix")
    assert pack.verify() > 0
    assert NUM_PLACES <= pack.manifest.num_cells < 2 * NUM_PLACES


def test_answers_are_one_picture(out: Path) -> None:
    with Image.open(out / "answers.png") as picture:
        assert picture.width > 1000
        assert picture.height >= 1000


def test_a_column_that_is_not_there_is_an_error_of_one_line(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = out.parent
    words: list[Any] = [
        folder / "photos.parquet",
        folder / "model.onnx",
        folder / "b",
        "--group",
        "panorama",
    ]
    assert real_photos.main([str(word) for word in words]) == 1
    assert "--group panorama: no such column; the table has" in capsys.readouterr().err
    assert not (folder / "b").exists()


def test_a_column_of_one_value_leaves_nothing_to_learn_from(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [out.parent / "photos.parquet", out.parent / "model.onnx", out.parent / "b"]
    assert real_photos.main([*map(str, words), "--group", "sequence_id"]) == 1
    assert "--group sequence_id: all photos have '', want two" in capsys.readouterr().err


def test_without_a_column_places_are_left_out(out: Path) -> None:
    table, _ = read_photo_table(out.parent / "photos.parquet")
    groups = real_photos._groups(table, "")
    assert NUM_PLACES <= len(np.unique(groups)) <= 2 * NUM_PLACES
    for name in np.unique(table.columns["picture_id"]):
        assert len(np.unique(groups[table.columns["picture_id"] == name])) == 1
