import math
from pathlib import Path
from typing import Any

import pytest

from geofix_train.importers.photo import BadPhoto
from geofix_train.importers.stac import read_stac
from tests.geofix_train.photo_files import (
    only,
    reason,
    stac_item,
    write_json,
)
from tests.geofix_train.tiny_data import write_photos


@pytest.mark.parametrize("form", ["collection", "item", "folder"])
def test_a_stac_item_becomes_a_photo(tmp_path: Path, form: str) -> None:
    write_photos(tmp_path / "pictures", ["p1.png"])
    item = stac_item("p1", href="pictures/p1.png")
    content = {"type": "FeatureCollection", "features": [item]} if form == "collection" else item
    path = write_json(tmp_path / "items.json", content)
    photo = only(read_stac(tmp_path if form == "folder" else path, photos=tmp_path))
    assert photo.path == tmp_path / "pictures" / "p1.png"
    assert (photo.lat, photo.lon, photo.heading_deg, photo.hfov_deg) == (47.37, 8.54, 161, 75)
    assert photo.captured_at == "2025-10-02T15:36:20+00:00"
    assert (photo.camera, photo.sequence_id) == ("GoPro Max", "drive-1")


def test_the_best_local_asset_is_taken_and_never_a_thumbnail(tmp_path: Path) -> None:
    write_photos(tmp_path, ["full.png", "small.png", "thumb.png"])
    item = stac_item("p1")
    item["assets"] = {
        "thumb": {"href": "thumb.png", "roles": ["thumbnail"]},
        "sd": {"href": "small.png", "roles": ["visual"]},
        "hd": {"href": (tmp_path / "full.png").as_uri(), "roles": ["data"]},
    }
    path = write_json(tmp_path / "items.json", item)
    assert only(read_stac(path, photos=tmp_path)).path.name == "full.png"
    del item["assets"]["hd"], item["assets"]["sd"]
    write_json(path, item)
    assert "no asset is a local file" in reason(read_stac(path, photos=tmp_path))


def test_an_item_on_a_server_is_found_by_its_id(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos" / "drive", ["p1.png"])
    path = write_json(tmp_path / "items.json", stac_item("p1"))
    photo = only(read_stac(path, photos=tmp_path / "photos"))
    assert photo.path == tmp_path / "photos" / "drive" / "p1.png"


def test_focal_length_and_sensor_give_the_field_of_view(tmp_path: Path) -> None:
    write_photos(tmp_path, ["p1.png"])
    lens: dict[str, Any] = {"focal_length": 3, "pixel_spacing": [0.002, 0.002]}
    lens["sensor_array_dimensions"] = [3000, 9]
    properties: dict[str, Any] = {"pers:interior_orientation": lens}
    path = write_json(tmp_path / "items.json", stac_item("p1", **properties))
    assert only(read_stac(path, photos=tmp_path)).hfov_deg == pytest.approx(90)


def test_an_item_of_the_least_members_stays_unknown_elsewhere(tmp_path: Path) -> None:
    write_photos(tmp_path, ["p1.png"])
    item = {
        "type": "Feature", "id": "p1", "assets": {}, "properties": {},
        "geometry": {"type": "Point", "coordinates": [8.54, 47.37]},
    }  # fmt: skip
    photo = only(read_stac(write_json(tmp_path / "i.json", item), photos=tmp_path))
    assert math.isnan(photo.heading_deg)
    assert math.isnan(photo.hfov_deg)
    assert (photo.captured_at, photo.camera, photo.sequence_id) == ("", "", "")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"geometry": None}, "no point in geometry"),
        ({"geometry": {"type": "Point", "coordinates": ["8", 47]}}, "lon is '8', want a number"),
        ({"id": "p2"}, "no photo 'p2' in "),
        ({"properties": {"view:azimuth": "north"}}, "view:azimuth is 'north', want a number"),
        ({"properties": {"datetime": "today"}}, "captured_at is 'today'"),
        (
            {"properties": {"pers:interior_orientation": {"field_of_view": 360}}},
            "a panorama (360 degrees): cut it into plane faces first",
        ),
    ],
)
def test_a_bad_item_says_why(tmp_path: Path, changes: dict[str, Any], wanted: str) -> None:
    write_photos(tmp_path, ["p1.png"])
    path = write_json(tmp_path / "items.json", {**stac_item("p1"), **changes})
    assert wanted in reason(read_stac(path, photos=tmp_path))


@pytest.mark.parametrize("text", ["{", '"text"', "[3]", '{"features": [1]}'])
def test_json_without_features_is_bad_and_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(text)
    (bad,) = read_stac(path, photos=tmp_path)
    assert isinstance(bad, BadPhoto)
    assert bad.source == str(path)


def test_a_feature_is_named_by_its_number(tmp_path: Path) -> None:
    path = write_json(tmp_path / "items.json", [stac_item("p1"), stac_item("p2")])
    found = list(read_stac(path, photos=tmp_path))
    assert [bad.source for bad in found] == [f"{path}: feature 1", f"{path}: feature 2"]


def test_two_photos_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_photos(tmp_path / folder, ["p1.png"])
    path = write_json(tmp_path / "items.json", stac_item("p1"))
    assert reason(read_stac(path, photos=tmp_path)).startswith("several photos are called 'p1'")
