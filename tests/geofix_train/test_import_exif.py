import math
from pathlib import Path
from typing import Any

import pytest
from PIL.TiffImagePlugin import IFDRational

from geofix_train.importers.exif import read_exif
from geofix_train.importers.photo import ImportedPhoto
from tests.geofix_train.photo_files import (
    camera_tags,
    gps_tags,
    only,
    reason,
    write_exif_photo,
)


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


def test_a_subfolder_may_be_a_sequence_a_day(tmp_path: Path) -> None:
    days = {"car/a.jpg": "2024:05:01", "car/b.jpg": "2024:05:02", "c.jpg": "2024:05:01"}
    for name, day in days.items():
        details = camera_tags(DateTimeOriginal=f"{day} 12:00:00")
        write_exif_photo(tmp_path / name, gps=gps_tags(47.37, 8.54), details=details)
    write_exif_photo(tmp_path / "car" / "undated.jpg", gps=gps_tags(47.37, 8.54))
    found = [p for p in read_exif(tmp_path, by_day=True) if isinstance(p, ImportedPhoto)]
    sequences = {photo.path.name: photo.sequence_id for photo in found}
    assert sequences == {
        "a.jpg": "car 2024-05-01", "b.jpg": "car 2024-05-02", "c.jpg": "", "undated.jpg": "car",
    }  # fmt: skip


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


@pytest.mark.parametrize("name", ["a.HEIC", "a.dng"])
def test_a_photo_of_a_format_that_is_not_read_is_named_and_not_passed_over(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"raw")
    assert reason(read_exif(tmp_path)).endswith(" is not read: save it as JPEG, with its EXIF")
