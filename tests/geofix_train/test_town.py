"""What the folder of a town holds, and who photographed where and when."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rasterio.warp import transform

from geofix_train.codes import slices
from geofix_train.config import DataConfig, RunConfig
from geofix_train.photo_table import NUMBERS, TEXTS, PhotoTable
from geofix_train.town import TOWN_VERSION, dataset, make_town
from geofix_train.town.drives import Shot
from geofix_train.town.plan import ASPHALT, DISTRICT_M, MARKING, SIDEWALK
from geofix_train.town.raster import Warp, World
from tests.geofix_train.conftest import MIDDLE_SQUARES, NUM_PHOTOS, SEED, SIZE_KM, Town, plan_shots

pytestmark = pytest.mark.xdist_group("town")

SIZE_M = SIZE_KM * 1000


@pytest.fixture(scope="module")
def many_shots() -> list[Shot]:
    """Return as many photos as tell where drives go."""
    return plan_shots(num_photos=3000)


def test_two_processes_write_what_one_draws_byte_for_byte(
    town: Town, shots: list[Shot], tmp_path: Path
) -> None:
    (sector,) = dataset._sectors(SEED, SIZE_M / 2 + dataset.MARGIN_M)
    (tmp_path / "photos").mkdir()
    dataset._write_photos(tmp_path, sector, list(enumerate(shots)))
    for date in dataset.AERIAL_DATES:
        (tmp_path / "aerial" / date).mkdir(parents=True)
        dataset._write_tile(tmp_path, sector, date, *MIDDLE_SQUARES[0])
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == NUM_PHOTOS + len(dataset.AERIAL_DATES)
    for file in files:
        assert (tmp_path / file).read_bytes() == (town.folder / file).read_bytes(), file


def test_the_folder_says_how_to_make_it_again(town: Town) -> None:
    facts = json.loads((town.folder / "town.json").read_text())
    assert facts == {
        "town_version": TOWN_VERSION,
        "seed": SEED,
        "size_km": SIZE_KM,
        "num_photos": NUM_PHOTOS,
        "photographed": 1.0,
    }
    with Image.open(town.folder / "contact_sheet.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 30


def test_the_returned_table_is_the_written_one(town: Town, town_table: PhotoTable) -> None:
    assert len(town_table) == NUM_PHOTOS
    assert set(town_table.columns) == {*NUMBERS, *TEXTS, "season", "light", "slice_area"}
    for name, column in town.table.columns.items():
        np.testing.assert_array_equal(town_table.columns[name], column)


def test_photos_are_there_and_differ(town_table: PhotoTable) -> None:
    paths = [town_table.photo_path(row) for row in range(len(town_table))]
    photos = [np.asarray(Image.open(path)) for path in paths]
    assert len({photo.tobytes() for photo in photos}) == NUM_PHOTOS
    assert min(photo.std() for photo in photos) > 10
    for photo, camera in zip(photos, town_table.columns["camera"].tolist(), strict=True):
        assert photo.shape == ((128, 96, 3) if camera == "phone" else (96, 128, 3))


def test_each_photo_has_its_row_in_the_table(shots: list[Shot], town_table: PhotoTable) -> None:
    positions = transform(
        "EPSG:4326", dataset.CRS, town_table.lon.tolist(), town_table.lat.tolist()
    )
    np.testing.assert_allclose(positions[0], [shot.x for shot in shots], atol=1e-3)
    np.testing.assert_allclose(positions[1], [shot.y for shot in shots], atol=1e-3)
    for name in ("camera", "sequence_id", "split", "season", "light", "captured_at"):
        assert town_table.columns[name].tolist() == [getattr(shot, name) for shot in shots]


def test_angles_and_heights_of_cameras_are_plausible(many_shots: list[Shot]) -> None:
    heading = np.array([shot.heading_deg for shot in many_shots])
    assert heading.min() >= 0
    assert heading.max() < 360
    assert (np.histogram(heading, bins=8, range=(0, 360))[0] > 0).all()
    for camera, height_m, low, high in (
        ("car", 2.5, 76, 92), ("pedestrian", 1.7, 60, 74), ("phone", 1.6, 48, 56)
    ):  # fmt: skip
        own = [shot for shot in many_shots if shot.camera == camera]
        assert {shot.height_m for shot in own} == {height_m}
        assert all(low <= shot.hfov_deg <= high for shot in own)


def test_what_a_camera_does_not_know_is_nan_in_the_table(many_shots: list[Shot]) -> None:
    table = dataset._table(many_shots)
    for name, known in (
        ("heading_deg", [shot.has_heading for shot in many_shots]),
        ("hfov_deg", [shot.has_hfov for shot in many_shots]),
    ):
        np.testing.assert_array_equal(np.isfinite(table.columns[name]), known)
        assert 0.8 < np.mean(known) < 1.0


def test_a_photo_was_taken_by_day_in_the_season_of_its_date(many_shots: list[Shot]) -> None:
    months = {"spring": {3, 4, 5}, "summer": {6, 7, 8, 9}, "autumn": {10, 11}, "winter": {12, 1, 2}}
    for shot in many_shots:
        captured_at = datetime.fromisoformat(shot.captured_at)
        assert captured_at.month in months[shot.season]
        assert 8 <= captured_at.hour <= 17
        assert captured_at.utcoffset() is not None
    assert {shot.season for shot in many_shots} == set(months)
    assert {shot.light for shot in many_shots} == {"clear", "overcast", "low sun"}


def test_a_photo_stands_on_a_street_within_the_town(world: World, many_shots: list[Shot]) -> None:
    x, y = np.array([(shot.x, shot.y) for shot in many_shots]).T
    assert max(np.abs(x).max(), np.abs(y).max()) <= SIZE_M / 2
    ground = world.surface.ravel()[world.index(*world.warp.uv(x, y))]
    assert set(ground.tolist()) <= {ASPHALT, MARKING, SIDEWALK}
    assert np.ptp(x) > 0.8 * SIZE_M
    assert np.ptp(y) > 0.8 * SIZE_M


def test_a_drive_belongs_to_one_split(many_shots: list[Shot]) -> None:
    drives = {(shot.sequence_id, shot.split) for shot in many_shots}
    assert len({sequence_id for sequence_id, _ in drives}) == len(drives)
    splits = [split for _, split in drives]
    assert set(splits) == {"train", "val", "test"}
    assert min(map(splits.count, set(splits))) > 3


def test_splits_have_their_shares(many_shots: list[Shot]) -> None:
    splits = [shot.split for shot in many_shots]
    shares = {split: splits.count(split) / len(splits) for split in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.01)


def test_test_photos_are_younger_than_all_training_photos(many_shots: list[Shot]) -> None:
    dates = {
        split: [shot.captured_at for shot in many_shots if shot.split == split]
        for split in ("train", "test")
    }
    assert max(dates["train"]) < min(dates["test"])


def test_test_photos_stand_near_training_photos_and_far_from_all(many_shots: list[Shot]) -> None:
    table = dataset._table(many_shots)
    is_seen = slices(table)[table.split == "test"] == "seen"
    assert 0.4 < is_seen.mean() < 0.8


def test_a_district_is_kept_for_test_photos(world: World, many_shots: list[Shot]) -> None:
    train, test = (
        {district_of(world.warp, shot) for shot in many_shots if shot.split == split} - {None}
        for split in ("train", "test")
    )
    assert test - train
    assert test & train


def district_of(warp: Warp, shot: Shot) -> tuple[int, int] | None:
    """Return the district that a photo was taken in; None on the avenues between districts."""
    verge_m = 12.0
    uv = np.array(warp.uv(np.array(shot.x), np.array(shot.y)))
    rest = uv % DISTRICT_M
    if (rest < verge_m).any() or (rest > DISTRICT_M - verge_m).any():
        return None
    column, row = np.floor(uv / DISTRICT_M).astype(int).tolist()
    return column, row


def test_the_streets_frame_maps_back_exactly() -> None:
    x, y = np.random.default_rng(0).uniform(-10_000, 10_000, (2, 1000))
    for seed in range(5):
        warp = Warp.from_seed(seed)
        np.testing.assert_allclose(warp.xy(*warp.uv(x, y)), (x, y), atol=1e-8)
        assert np.abs(np.array(warp.uv(x, y)) - (x, y)).max() > 30


def test_imagery_reaches_as_far_beyond_the_photos_as_training_looks() -> None:
    run, data = RunConfig(), DataConfig(photos="photos.parquet")
    assert dataset.MARGIN_M >= data.tile_side_m / 2**0.5 + run.shift_m


def test_tiles_adjoin_and_cover_the_town() -> None:
    side_m = dataset.TILE_PIXELS * dataset.PIXEL_M
    for reach_m in (560.0, 660.0, 1765.0):
        squares = np.array(list(dataset._squares(reach_m)))
        num = round(len(squares) ** 0.5)
        steps = (np.arange(num) - num / 2) * side_m
        assert squares[:, 0] == pytest.approx(np.tile(steps, num))
        assert squares[:, 1] == pytest.approx(np.repeat(-steps, num))
        assert 0 <= -steps[0] - reach_m < side_m / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_km": 0.79}, "--size-km is 0.79, want 0.8 to 20"),
        ({"size_km": 20.1}, "--size-km is 20.1, want 0.8 to 20"),
        ({"size_km": float("nan")}, "--size-km is nan, want 0.8 to 20"),
        ({"num_photos": 49}, "--photos is 49, want at least 50"),
        ({"seed": -1}, "--seed is -1, want 0 or more"),
        ({"photographed": 0.05}, r"--photographed is 0\.05, want 0\.1 to 1"),
        ({"photographed": 1.5}, r"--photographed is 1\.5, want 0\.1 to 1"),
    ],
)
def test_a_wrong_number_is_named_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"size_km": 0.8, "num_photos": 50, "seed": 1}
    with pytest.raises(ValueError, match=message):
        make_town(tmp_path / "town", **(arguments | changes))
    assert not (tmp_path / "town").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path} is not empty: choose another folder"):
        make_town(tmp_path, size_km=0.8, num_photos=50, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_town_without_streets_to_keep_back_says_that_it_is_too_small() -> None:
    with pytest.raises(ValueError, match=r"a town of 0\.1 km has no street that is '[a-z ]+'"):
        plan_shots(num_photos=50, size_m=100.0)


@pytest.mark.parametrize("seed", [6, 11, 12, 15])  # for these chance gives no street to "val only"
def test_the_smallest_town_has_streets_of_every_kind(seed: int) -> None:
    planned = plan_shots(num_photos=50, seed=seed)
    assert {shot.split for shot in planned} == {"train", "val", "test"}


def test_a_large_town_has_photos_in_some_districts_and_only_tests_in_some_others() -> None:
    planned = plan_shots(num_photos=4000, size_m=3200.0, photographed=0.4)
    warp = Warp.from_seed(SEED)
    districts: dict[str, set[tuple[int, int]]] = {}
    for shot in planned:
        place = district_of(warp, shot)
        if place:
            districts.setdefault(shot.split, set()).add(place)
    only_test = districts["test"] - districts["train"]
    assert 0.2 < len(districts["train"]) / (3200 / DISTRICT_M) ** 2 < 0.5
    assert len(only_test) >= 4
    assert all(
        shot.area == "district without photos"
        for shot in planned
        if shot.split == "test" and district_of(warp, shot) in only_test
    )
    driven = {shot.area for shot in planned if shot.split == "train"}
    assert driven == {"driven street"}


def test_views_do_not_depend_on_which_part_of_the_town_was_painted(shots: list[Shot]) -> None:
    whole, *_ = dataset._sectors(SEED, SIZE_M / 2 + dataset.MARGIN_M)
    shot = shots[0]
    part = dataset._Sector(SEED, shot.x - 5, shot.y - 5, shot.x + 5, shot.y + 5)
    views = [
        dataset._photo(dataset._world(sector), shot, size=(128, 96)) for sector in (whole, part)
    ]
    np.testing.assert_array_equal(views[0], views[1])
