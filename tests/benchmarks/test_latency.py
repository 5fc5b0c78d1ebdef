from pathlib import Path

import pytest

from benchmarks.latency import PICTURE, REPORTS, stored_reports, write_photos
from geofix.bench.photos import image_files
from geofix.bench.plots import card
from geofix.exif import place_from_exif
from tests.geofix_train.tiny_data import make_table, write_data


def test_stored_reports_are_whole() -> None:
    reports = stored_reports()
    assert len(reports) == len(list(REPORTS.glob("*.json"))) >= 1
    for report in reports:
        assert report.is_complete
        assert report.recall is not None


def test_the_picture_is_what_the_stored_reports_give() -> None:
    assert PICTURE.read_text() == card(stored_reports()), "run benchmarks.latency"


def test_test_photos_say_where_they_were_taken(tmp_path: Path) -> None:
    table = make_table(tmp_path / "town", split=["test", "train"] * 5, num=10).of_split("test")
    write_data(tmp_path / "town", num=10, split=["test", "train"] * 5)
    (tmp_path / "out").mkdir()
    write_photos(tmp_path / "town", tmp_path / "out")
    places = [place_from_exif(path) for path in image_files(tmp_path / "out")]
    assert len(places) == len(table) > 0
    for place, (lat, lon) in zip(places, table.latlon.tolist(), strict=True):
        assert place is not None
        assert (place.lat, place.lon) == pytest.approx((lat, lon), abs=1e-5)
