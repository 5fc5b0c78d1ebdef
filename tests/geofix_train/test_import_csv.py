from pathlib import Path

import pytest

from geofix_train.importers.csv_table import read_csv
from geofix_train.importers.photo import BadPhoto
from geofix_train.photo_table import TableError
from tests.geofix_train.photo_files import (
    only,
)
from tests.geofix_train.tiny_data import write_photos


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
