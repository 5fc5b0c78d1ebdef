import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from geofix_train.importers.angles import compass_deg, hfov_from_focal, hfov_from_focal_35mm
from geofix_train.importers.csv_table import read_csv
from geofix_train.importers.exif import read_exif
from geofix_train.importers.mapillary import read_mapillary
from geofix_train.importers.moments import iso_time, seconds_since_1970
from geofix_train.importers.photo import BadPhoto, Found, ImportedPhoto
from geofix_train.importers.stac import read_stac
from geofix_train.photo_table import TableError
from tests.geofix_train.photo_files import (
    camera_tags,
    gps_tags,
    mapillary_image,
    stac_item,
    write_exif_photo,
    write_json,
)
from tests.geofix_train.tiny_data import write_photos


def only(found: Found) -> ImportedPhoto:
    """Return the one photo that was found."""
    (photo,) = found
    assert isinstance(photo, ImportedPhoto), photo
    return photo


def reason(found: Found) -> str:
    """Return why the one photo that was found is bad."""
    (bad,) = found
    assert isinstance(bad, BadPhoto)
    return bad.reason


# Angles


def test_a_focal_length_of_18_mm_on_36_mm_of_film_sees_90_degrees() -> None:
    assert hfov_from_focal_35mm(18, width=36, height=24) == pytest.approx(90)
    assert hfov_from_focal_35mm(12, width=24, height=36) == pytest.approx(90)  # upright


@given(st.floats(5, 500), st.floats(100, 9000), st.floats(100, 9000))
def test_the_field_of_view_spans_the_same_diagonal_at_any_aspect_ratio(
    focal_mm: float, width: float, height: float
) -> None:
    half_tangents = [
        math.tan(math.radians(hfov_from_focal_35mm(focal_mm, width=w, height=h)) / 2)
        for w, h in ((width, height), (height, width))
    ]
    assert math.hypot(*half_tangents) * focal_mm == pytest.approx(math.hypot(18, 12))


@pytest.mark.parametrize("focal", [0.0, -3.0, math.nan])
def test_no_focal_length_gives_no_field_of_view(focal: float) -> None:
    assert math.isnan(hfov_from_focal(focal, width=36))
    assert math.isnan(hfov_from_focal_35mm(focal, width=36, height=24))


@given(st.floats(-1e6, 1e6))
def test_a_heading_lies_from_0_to_below_360_and_points_the_same_way(angle: float) -> None:
    turned = compass_deg(angle)
    assert 0 <= turned < 360
    assert math.cos(math.radians(turned - angle)) == pytest.approx(1)


def test_an_infinite_heading_is_unknown() -> None:
    assert math.isnan(compass_deg(math.inf))


# Moments


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, ""),
        ("", ""),
        ("2025-10-02T15:36:20Z", "2025-10-02T15:36:20+00:00"),
        ("2025-10-02T15:36:20.5+02:00", "2025-10-02T15:36:20.500000+02:00"),
        ("2025-10-02T15:36:20.1234567Z", "2025-10-02T15:36:20.123456+00:00"),
        ("2025-10-02", "2025-10-02T00:00:00"),
        ("2024:05:01 12:00:00", "2024-05-01T12:00:00"),
        ("2024:05:01 12:00:00+02:00", "2024-05-01T12:00:00+02:00"),
        (1_600_000_000_123, "2020-09-13T12:26:40.123000+00:00"),
        ("1600000000", "2020-09-13T12:26:40+00:00"),
    ],
)
def test_moments_become_iso_8601(value: object, wanted: str) -> None:
    assert iso_time(value) == wanted


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "12:00", "nan", "1e30"])
def test_what_is_no_moment_is_named(value: str) -> None:
    with pytest.raises(ValueError, match="captured_at is "):
        iso_time(value)


def test_a_moment_without_an_offset_counts_as_utc() -> None:
    assert seconds_since_1970("1970-01-01T01:00:00+01:00") == 0
    assert seconds_since_1970("1970-01-01T00:00:01") == 1
    assert math.isnan(seconds_since_1970(""))


# EXIF


def test_exif_says_where_whither_when_and_with_what(tmp_path: Path) -> None:
    path = write_exif_photo(
        tmp_path / "a.jpg",
        gps=gps_tags(-33.86, 151.21, GPSImgDirection=271.5, GPSImgDirectionRef="T"),
        details=camera_tags(
            DateTimeOriginal="2024:05:01 12:00:00",
            OffsetTimeOriginal="+10:00",
            FocalLengthIn35mmFilm=18,
        ),
        main=camera_tags(Make="Fairphone", Model="FP5"),
    )
    photo = only(read_exif(tmp_path))
    assert (photo.source, photo.path) == (str(path), path)
    assert (photo.lat, photo.lon) == pytest.approx((-33.86, 151.21), abs=1e-7)
    assert photo.heading_deg == 271.5
    assert photo.hfov_deg == pytest.approx(90)
    assert photo.captured_at == "2024-05-01T12:00:00+10:00"
    assert photo.camera == "Fairphone FP5"
    assert (photo.sequence_id, photo.more) == ("", {"heading_north": "true"})


def test_what_exif_does_not_say_stays_unknown(tmp_path: Path) -> None:
    write_exif_photo(tmp_path / "a.jpg", gps=gps_tags(47.37, -8.54))
    photo = only(read_exif(tmp_path / "a.jpg"))
    assert (photo.lat, photo.lon) == pytest.approx((47.37, -8.54))
    assert math.isnan(photo.heading_deg)
    assert math.isnan(photo.hfov_deg)
    assert (photo.captured_at, photo.camera, photo.more["heading_north"]) == ("", "", "")


def test_a_magnetic_heading_is_noted(tmp_path: Path) -> None:
    tags = gps_tags(47.37, 8.54, GPSImgDirection=10.0, GPSImgDirectionRef="M")
    write_exif_photo(tmp_path / "a.jpg", gps=tags)
    photo = only(read_exif(tmp_path))
    assert (photo.heading_deg, photo.more["heading_north"]) == (10.0, "magnetic")


def test_the_field_of_view_is_that_of_the_upright_photo(tmp_path: Path) -> None:
    write_exif_photo(
        tmp_path / "a.jpg",
        gps=gps_tags(47.37, 8.54),
        details=camera_tags(FocalLengthIn35mmFilm=12),
        main=camera_tags(Orientation=6),
    )
    assert only(read_exif(tmp_path)).hfov_deg == pytest.approx(90)


def test_an_unknown_offset_leaves_the_local_time(tmp_path: Path) -> None:
    details = camera_tags(DateTimeOriginal="2024:05:01 12:00:00", OffsetTimeOriginal="   :  ")
    write_exif_photo(tmp_path / "a.jpg", gps=gps_tags(47.37, 8.54), details=details)
    assert only(read_exif(tmp_path)).captured_at == "2024-05-01T12:00:00"


def test_a_subfolder_of_photos_is_a_sequence(tmp_path: Path) -> None:
    for name in ("monday/east/a.jpg", "monday/east/b.jpg", "c.jpg"):
        write_exif_photo(tmp_path / name, gps=gps_tags(47.37, 8.54))
    found = [photo for photo in read_exif(tmp_path) if isinstance(photo, ImportedPhoto)]
    assert [photo.sequence_id for photo in found] == ["", "monday/east", "monday/east"]


@pytest.mark.parametrize(
    ("gps", "wanted"),
    [
        (None, "no GPS position in its EXIF"),
        (gps_tags(0, 0), "its GPS position is 0, 0"),
        ({**gps_tags(47, 8), 2: (IFDRational(1, 0), 0.0, 0.0)}, "no GPS position"),
        ({**gps_tags(47, 8), 2: 47.5}, "no GPS position"),
    ],
)
def test_a_photo_without_a_position_is_bad(
    tmp_path: Path, gps: dict[int, Any] | None, wanted: str
) -> None:
    write_exif_photo(tmp_path / "a.jpg", gps=gps)
    assert reason(read_exif(tmp_path)).startswith(wanted)


def test_a_file_that_is_no_picture_is_bad(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("I am no picture")
    assert "cannot identify image file" in reason(read_exif(tmp_path))


# STAC


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


# Mapillary


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


# CSV


def write_csv(folder: Path, text: str) -> Path:
    """Write photos a.png and b.png, and a CSV file; return its path."""
    write_photos(folder / "img", ["a.png", "b.png"])
    path = folder / "mine.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "Filename,Latitude,LONGITUDE,Bearing,note\nimg/a.png,47.37,8.54,-90,first\n",
        "\ufeffFilename;Latitude;LONGITUDE;Bearing;note\nimg/a.png;47,37;8,54;-90;first\n\n",
        "Filename\tLatitude\tLONGITUDE\tBearing\tnote\nimg/a.png\t47.37\t8.54\t270\tfirst",
        'Filename|Latitude|LONGITUDE|Bearing|note\n"img/a.png"| 47.37 |8.54|630|first',
    ],
    ids=["comma", "semicolon", "tab", "bar"],
)
def test_separators_and_known_names_are_understood(tmp_path: Path, text: str) -> None:
    photo = only(read_csv(write_csv(tmp_path, text), photos=tmp_path))
    assert photo.path == tmp_path / "img" / "a.png"
    assert (photo.lat, photo.lon, photo.heading_deg) == (47.37, 8.54, 270)
    assert photo.more == {"note": "first"}


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "bild,breite,laenge,wann,split\nimg/a.png,47,8,1600000000,val\n")
    names = {"path": "bild", "lat": "breite", "lon": "laenge", "captured_at": "wann"}
    photo = only(read_csv(path, photos=tmp_path, columns=names))
    assert (photo.lat, photo.lon, photo.split) == (47, 8, "val")
    assert photo.captured_at == "2020-09-13T12:26:40+00:00"
    assert photo.more == {}


def test_a_photo_that_is_elsewhere_is_found_by_its_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "path,lat,lon\nC:\\photos\\b.png,47,8\n")
    assert only(read_csv(path, photos=tmp_path)).path == tmp_path / "img" / "b.png"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("img/a.png,47", "2 values, want 4"),
        ("img/a.png,north,8,", "lat is 'north', want a number"),
        ('img/a.png,"47,37",8,', "lat is '47,37', want a number"),
        (",47,8,", "no path"),
        ("img/a.png,47,8,noon", "captured_at is 'noon'"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, wanted: str) -> None:
    path = write_csv(tmp_path, f"path,lat,lon,time\nimg/b.png,47,8,\n{line}\n")
    _, bad = read_csv(path, photos=tmp_path)
    assert isinstance(bad, BadPhoto)
    assert bad.source == f"{path}: line 3"
    assert bad.reason.startswith(wanted)


@pytest.mark.parametrize(
    ("text", "columns", "wanted"),
    [
        ("", {}, "no rows"),
        ("path,lat\n", {}, "no column 'lon'; it has path, lat; say which by --column lon=NAME"),
        ("path,lat,lon\n", {"lat": "breite"}, "no column 'breite'; it has path, lat, lon"),
        ("path,lat,lon\n", {"height": "lat"}, "--column height=lat: want one of path, lat"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(
    tmp_path: Path, text: str, columns: dict[str, str], wanted: str
) -> None:
    path = write_csv(tmp_path, text)
    with pytest.raises(TableError) as caught:
        list(read_csv(path, photos=tmp_path, columns=columns))
    assert wanted in str(caught.value)


def test_a_file_of_bytes_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(TableError, match="unreadable"):
        list(read_csv(path, photos=tmp_path))
