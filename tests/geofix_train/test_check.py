import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geofix_train.aerial import write_geotiff
from geofix_train.check import Checked, check_table, season
from geofix_train.check_map import COLOURS, LEAK, draw_table
from geofix_train.check_report import report_text, write_report
from geofix_train.photo_table import PhotoTable, TableError, write_photo_table
from tests.geofix_train.tiny_data import FRAME, make_table, random_pixels, write_data

TIMES = [f"2025-10-02T12:{row:02d}:00Z" for row in range(20)]


def checked(folder: Path, *, aerial: bool = False, **columns: Any) -> Checked:
    """Check a table of 20 photos, of which `columns` are added or replaced."""
    write_data(folder, num=20, **columns)
    return check_table(folder / "photos.parquet", aerial=folder / "aerial" if aerial else None)


def test_a_sound_table_has_counts_bounds_and_no_warnings(tmp_path: Path) -> None:
    report = checked(
        tmp_path / "data", aerial=True, captured_at=TIMES, heading_deg=[*range(20)],
        hfov_deg=[70] * 20, camera=["one"] * 15 + ["two"] * 5,
        sequence_id=[f"s{row}" for row in range(20)],
    ).report  # fmt: skip
    assert report.is_sound
    assert report.num_photos == 20
    assert report.counts == {
        "split": {"test": 2, "train": 16, "val": 2},
        "camera": {"one": 15, "two": 5},
        "season": {"autumn": 20},
        "year": {"2025": 20},
    }
    assert 47.36 < report.bounds.south < report.bounds.north < 47.38
    assert report.num_without == {"heading_deg": 0, "hfov_deg": 0, "captured_at": 0}
    assert (report.imagery_dates, report.outside_imagery) == (("aerial",), ())
    text = report_text(report)
    assert text.splitlines()[0] == f"{tmp_path / 'data' / 'photos.parquet'}: 20 photos"
    assert text.endswith("no warnings")


@pytest.mark.parametrize(
    ("captured_at", "lat", "wanted"),
    [
        ("2025-12-31T12:00:00", 47, "winter"),
        ("2025-03-01", 47, "spring"),
        ("2025-08-31T12:00:00Z", 47, "summer"),
        ("2025-11-30", 47, "autumn"),
        ("2025-12-31", -33, "summer"),
        ("2025-05-01", -33, "autumn"),
        ("", 47, ""),
        ("yesterday", 47, ""),
    ],
)
def test_seasons_are_those_of_the_hemisphere(captured_at: str, lat: float, wanted: str) -> None:
    assert season(captured_at, lat) == wanted


def test_what_is_unknown_is_counted(tmp_path: Path) -> None:
    heading = [np.nan] * 3 + [10.0 * row for row in range(17)]
    north = ["magnetic"] * 5 + ["true"] * 15
    report = checked(
        tmp_path / "data", heading_deg=heading, heading_north=north, captured_at=[*TIMES[:19], ""]
    ).report
    assert report.num_without == {"heading_deg": 3, "hfov_deg": 20, "captured_at": 1}
    assert report.num_magnetic == 5
    text = report_text(report)
    assert "warning: photos without heading_deg: 3" in text
    assert "warning: headings from magnetic north: 5" in text
    assert report.is_sound


def test_a_table_without_splits_is_warned_of_and_sound(tmp_path: Path) -> None:
    report = checked(tmp_path / "data", split=[""] * 20).report
    assert report.is_sound
    assert (
        "warning: splits without photos: 2\n"
        "  no photo has split 'val': kappa is not chosen but 1, and the confidence of a pack is "
        "not calibrated\n"
        "  no photo has split 'test': evaluate has nothing to measure with\n"
    ) in report_text(report)


def test_bad_rows_and_photos_are_named_by_their_number_in_the_file(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=20, blur_boxes=["", "", "", "9,9,1,1", *[""] * 16])
    table.columns["lat"][0] = 95
    write_photo_table(table, tmp_path / "photos.csv")
    table.photo_path(1).unlink()
    table.photo_path(5).write_text("I am no picture")
    report = check_table(tmp_path / "photos.csv").report
    assert [row.partition(":")[0] for row in report.bad_rows] == [
        "row 1 (000.png)", "row 2 (001.png)", "row 4 (003.png)", "row 6 (005.png)",
    ]  # fmt: skip
    assert report.num_photos == 16
    assert not report.is_sound
    assert "warning: bad rows: 4\n  row 1 (000.png): lat 95" in report_text(report)


def test_doubles_are_grouped(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", num=20)
    (folder / "010.png").write_bytes((folder / "000.png").read_bytes())
    with Image.open(folder / "002.png") as picture:
        picture.resize((80, 60), Image.Resampling.BICUBIC).save(folder / "012.png")
    report = check_table(folder / "photos.parquet").report
    assert report.same_files == (("000.png", "010.png"),)
    assert report.same_pictures == (("000.png", "010.png"), ("002.png", "012.png"))
    assert report.is_sound  # all of them are training photos
    assert "warning: pictures there several times: 2\n  000.png, 010.png" in report_text(report)


def test_photos_at_one_place_with_one_heading_are_grouped(tmp_path: Path) -> None:
    headings = [0.2, 0.7, 90.0, np.nan, np.nan]
    table = make_table(tmp_path, num=5, lat=[47.0] * 5, lon=[8.0] * 5, heading_deg=headings)
    write_photo_table(table, tmp_path / "photos.csv")
    report = check_table(tmp_path / "photos.csv").report
    assert report.same_views == (("000.png", "001.png"), ("003.png", "004.png"))


def test_photos_outside_the_imagery_of_all_dates_are_named(tmp_path: Path) -> None:
    places = FRAME.latlon(np.array([(-100.0, 0.0), (100.0, 0.0), (100.0, 500.0)]))
    table = make_table(tmp_path, num=3, lat=places[:, 0], lon=places[:, 1])
    write_photo_table(table, tmp_path / "photos.csv")
    for date, west in (("2023", -200.0), ("2024", 0.0)):
        (tmp_path / "aerial" / date).mkdir(parents=True)
        write_geotiff(
            tmp_path / "aerial" / date / "ortho.tif", random_pixels(100, 100, seed=1),
            west=west, north=100.0, pixel=2.0, crs=FRAME.crs,
        )  # fmt: skip
    report = check_table(tmp_path / "photos.csv", aerial=tmp_path / "aerial").report
    assert report.imagery_dates == ("2023", "2024")
    assert report.outside_imagery == ("002.png",)
    assert report.is_sound


def test_leaks_are_no_secret(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", num=20, sequence_id=["a"] * 10 + ["b"] * 10)
    (folder / "009.png").write_bytes((folder / "000.png").read_bytes())
    report = check_table(folder / "photos.parquet").report
    assert [leak.kind for leak in report.leaks] == ["sequence", "sequence", "picture"]
    assert not report.is_sound
    text = report_text(report)
    assert "warning: sequences in several splits (a leak): 2\n  sequence a is in" in text
    assert "000.png (train), 009.png (test)" in text


def test_a_long_list_is_cut_in_the_text_and_whole_in_json(tmp_path: Path) -> None:
    report = checked(tmp_path / "data", captured_at=["2025-10-02T12:00:00Z"] * 20).report
    leaks = report.to_json()["leaks"]["seconds"]
    assert len(leaks) == 4
    table = make_table(tmp_path / "bad", num=20)
    for row in range(8):
        table.photo_path(row).unlink()
    write_photo_table(table, tmp_path / "bad" / "photos.csv")
    report = check_table(tmp_path / "bad" / "photos.csv").report
    assert report_text(report).count("no such photo") == 5
    assert "  and 3 more" in report_text(report)
    assert len(report.to_json()["bad_rows"]) == 8


def test_a_report_is_written_as_text_json_and_map(tmp_path: Path) -> None:
    made = checked(tmp_path / "data", aerial=True)
    write_report(made, tmp_path / "report")
    assert (tmp_path / "report" / "report.txt").read_text() == report_text(made.report) + "\n"
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content == json.loads(json.dumps(made.report.to_json()))
    assert content["is_sound"] is True
    with Image.open(tmp_path / "report" / "map.png") as picture:
        assert picture.size == (1000, 1034)


def test_a_table_without_a_good_row_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_text("path,lat,lon\nnone.png,47,8\n")
    with pytest.raises(TableError, match="every row is bad"):
        check_table(tmp_path / "photos.csv")


# The map


def draw(tmp_path: Path, **options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw three photos, one in each split, and return the picture (H, W, 3) without legend."""
    options.setdefault("table", PhotoTable.from_columns(PLACES))
    draw_table(tmp_path / "map.png", options.pop("table"), **options)
    with Image.open(tmp_path / "map.png") as picture:
        return np.asarray(picture.convert("RGB"))[:1000]


PLACES: dict[str, Any] = {
    "path": ["a", "b", "c"], "split": ["train", "val", "test"],
    "lat": [47.0, 47.01, 47.0], "lon": [8.0, 8.0, 8.01],
}  # fmt: skip


def middle_of(picture: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> tuple[float, float]:
    """Return where a colour is, as column and row."""
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    return float(columns.mean()), float(rows.mean())


def test_dots_have_the_colour_of_their_split_and_north_is_up(tmp_path: Path) -> None:
    picture = draw(tmp_path)
    train, val, test = (middle_of(picture, COLOURS[name]) for name in ("train", "val", "test"))
    assert val[1] < train[1] - 500  # north of it
    assert val[0] == pytest.approx(train[0], abs=2)
    assert test[0] > train[0] + 400  # east of it
    assert not (picture == LEAK).all(axis=2).any()


def test_places_beyond_the_antimeridian_stay_together(tmp_path: Path) -> None:
    lon = [179.999, 179.999, -179.991]
    table = PhotoTable.from_columns({**PLACES, "lat": [0.0, 0.01, 0.0], "lon": lon})
    picture = draw(tmp_path, table=table)
    train, test = (middle_of(picture, COLOURS[name]) for name in ("train", "test"))
    assert test[0] == pytest.approx(train[0] + 1000 / 1.12, abs=12)


def test_leaks_have_a_ring(tmp_path: Path) -> None:
    picture = draw(tmp_path, leaks=[1])
    assert middle_of(picture, LEAK) == pytest.approx(middle_of(picture, COLOURS["val"]), abs=1)


def test_imagery_lies_under_the_photos(tmp_path: Path) -> None:
    made = checked(tmp_path / "data", aerial=True)
    draw_table(tmp_path / "map.png", made.table, mosaics=made.mosaics)
    with Image.open(tmp_path / "map.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))[:1000].astype(int)
    tile = made.mosaics[0].tiles(np.zeros((1, 2)), side_m=300.0, num_pixels=4)[0]
    assert pixels.std(axis=(0, 1)).min() > 5  # the paper alone has one colour
    assert np.abs(pixels.mean(axis=(0, 1)) - (128 + tile.mean(axis=(0, 1)) / 2)).max() < 25


def test_one_photo_alone_can_be_drawn(tmp_path: Path) -> None:
    table = PhotoTable.from_columns({"path": ["a"], "lat": [47.0], "lon": [8.0]})
    assert middle_of(draw(tmp_path, table=table), COLOURS[""]) == pytest.approx((500, 500), abs=2)
