import math
from pathlib import Path
from typing import Any

import pytest

from geofix_train.importers.mapillary import read_mapillary
from tests.geofix_train.photo_files import (
    mapillary_image,
    only,
    reason,
    write_json,
)
from tests.geofix_train.tiny_data import write_photos


@pytest.mark.parametrize("form", ["data", "list", "geojson", "folder"])
def test_a_mapillary_image_becomes_a_photo(tmp_path: Path, form: str) -> None:
    write_photos(tmp_path, ["17.png"], width=40, height=30)
    image: Any = mapillary_image("17")
    if form == "geojson":
        geometry = image.pop("computed_geometry")
        feature = {"type": "Feature", "geometry": geometry, "properties": image}
        image = {"type": "FeatureCollection", "features": [feature]}
    content = {"data": [image]} if form == "data" else [image] if form == "list" else image
    path = write_json(tmp_path / "images.json", content)
    photo = only(read_mapillary(tmp_path if form == "folder" else path, photos=tmp_path))
    wanted = (47.371, 8.541) if form == "geojson" else (47.37, 8.54)
    assert (photo.lat, photo.lon) == wanted
    assert photo.heading_deg == 95.5
    assert photo.hfov_deg == pytest.approx(math.degrees(2 * math.atan(0.5 / 0.75)))
    assert photo.captured_at == "2020-09-13T12:26:40.123000+00:00"
    assert (photo.camera, photo.sequence_id) == ("Apple iPhone12", "abc")


def test_what_the_device_said_stands_in_for_what_was_not_computed(tmp_path: Path) -> None:
    write_photos(tmp_path, ["17.png"])
    image = mapillary_image("17", sequence={"id": "xyz"}, camera_parameters=None)
    del image["computed_geometry"], image["computed_compass_angle"]
    photo = only(read_mapillary(write_json(tmp_path / "i.json", image), photos=tmp_path))
    assert (photo.lat, photo.lon, photo.heading_deg) == (47.371, 8.541, 100)
    assert photo.sequence_id == "xyz"
    assert math.isnan(photo.hfov_deg)


def test_the_longer_side_is_the_unit_of_the_focal_length(tmp_path: Path) -> None:
    write_photos(tmp_path, ["17.png"], width=30, height=40)
    path = write_json(tmp_path / "i.json", mapillary_image("17", camera_parameters=[0.375]))
    assert only(read_mapillary(path, photos=tmp_path)).hfov_deg == pytest.approx(90)


def test_a_fisheye_has_no_field_of_view_of_a_plane(tmp_path: Path) -> None:
    write_photos(tmp_path, ["17.png"])
    path = write_json(tmp_path / "i.json", mapillary_image("17", camera_type="fisheye"))
    assert math.isnan(only(read_mapillary(path, photos=tmp_path)).hfov_deg)


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({"id": ""}, "no id"),
        ({"id": "18"}, "no photo '18' in "),
        ({"camera_type": "spherical"}, "a panorama (360 degrees)"),
        ({"is_pano": True}, "a panorama (360 degrees)"),
        (
            {"computed_geometry": None, "geometry": None},
            "no point in computed_geometry or geometry",
        ),
        ({"computed_compass_angle": "N"}, "computed_compass_angle is 'N', want a number"),
        ({"captured_at": "noon"}, "captured_at is 'noon'"),
    ],
)
def test_a_bad_image_says_why(tmp_path: Path, members: dict[str, Any], wanted: str) -> None:
    write_photos(tmp_path, ["17.png"])
    path = write_json(tmp_path / "images.json", mapillary_image("17", **members))
    assert reason(read_mapillary(path, photos=tmp_path)).startswith(wanted)
