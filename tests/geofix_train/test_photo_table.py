from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from geofix_train.photo_table import (
    NUMBERS,
    TEXTS,
    PhotoTable,
    TableError,
    read_columns,
    read_photo_table,
    write_photo_table,
)
from tests.geofix_train.tiny_data import make_table, write_photos

HEAD = "path,lat,lon,heading_deg,hfov_deg,split,note"
GOOD = "a.png,47.37,8.54,90,66,train,first"
Write = Callable[..., Path]


@pytest.fixture
def write_csv(tmp_path: Path) -> Write:
    """Return a function that writes photos a.png to e.png and a CSV table of lines."""
    write_photos(tmp_path, ["a.png", "b.png", "c.png", "d.png", "e.png"])

    def write(*lines: str, head: str = HEAD) -> Path:
        path = tmp_path / "photos.csv"
        path.write_text("\n".join([head, *lines]) + "\n")
        return path

    return write


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_written_table_reads_back(tmp_path: Path, ending: str) -> None:
    table = make_table(
        tmp_path,
        num=12,
        heading_deg=[np.nan, *range(11)],
        hfov_deg=[66.5] * 12,
        captured_at=["2025-10-02T15:36:20+00:00"] * 12,
        sequence_id=[f"{row:04d}" for row in range(12)],  # digits, and yet text
        floor=[3] * 12,
    )
    write_photo_table(table, tmp_path / f"photos.{ending}")
    read, problems = read_photo_table(tmp_path / f"photos.{ending}")
    assert problems == []
    assert set(read.columns) == set(table.columns)
    for name, column in table.columns.items():
        np.testing.assert_array_equal(read.columns[name], column)
    assert read.photo_path(3) == tmp_path / "003.png"


@pytest.mark.parametrize("head", ["photo,latitude,longitude", "image,lat,longitude"])
def test_other_names_of_columns_are_understood(write_csv: Write, head: str) -> None:
    table, _ = read_photo_table(write_csv("a.png,47.37,8.54", head=head))
    assert table.photo_path(0).name == "a.png"
    assert (table.lat[0], table.lon[0]) == (47.37, 8.54)


def test_an_alias_beside_the_real_name_is_a_column_of_its_own(write_csv: Write) -> None:
    path = write_csv("a.png,47.37,8.54,other.png", head="path,lat,lon,photo")
    table, _ = read_photo_table(path)
    assert table.columns["path"].tolist() == ["a.png"]
    assert table.columns["photo"].tolist() == ["other.png"]


@pytest.mark.parametrize("head", ["path,lat,lon", "photo,lat,lon"])
def test_a_photo_whose_name_is_a_number_keeps_its_zeros(write_csv: Write, head: str) -> None:
    path = write_csv("0007,47.37,8.54", head=head)
    (path.parent / "0007").write_bytes((path.parent / "a.png").read_bytes())
    table, _ = read_photo_table(path)
    assert table.photo_path(0).name == "0007"


def test_what_a_table_does_not_say_is_nan_or_empty(write_csv: Write) -> None:
    table, _ = read_photo_table(write_csv("a.png,47.37,8.54", head="path,lat,lon"))
    assert np.isnan([table.heading_deg[0], table.hfov_deg[0]]).all()
    for name in set(TEXTS) - {"path"}:
        assert table.columns[name].tolist() == [""]
    for name in NUMBERS:
        assert table.columns[name].dtype == np.float64


def test_an_empty_cell_is_unknown(write_csv: Write) -> None:
    table, _ = read_photo_table(write_csv(GOOD, "b.png,47.37,8.55,,,,"))
    assert table.heading_deg[0] == 90
    assert np.isnan(table.heading_deg[1])
    assert np.isnan(table.hfov_deg[1])
    assert table.split.tolist() == ["train", ""]
    assert table.columns["note"].tolist() == ["first", ""]


def test_a_split_is_selected(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=20)
    assert len(table.of_split("val")) == 2
    assert table.of_split("val").columns["path"].tolist() == ["008.png", "018.png"]
    assert len(table[np.array([3, 5])]) == 2


def test_a_row_keeps_its_number_in_the_file_when_others_are_left_out(tmp_path: Path) -> None:
    table = make_table(tmp_path, num=20)
    picked = table.of_split("val")
    assert [picked.row_name(row) for row in (0, 1)] == ["row 9 (008.png)", "row 19 (018.png)"]
    assert picked[np.array([1])].row_name(0) == "row 19 (018.png)"


BAD_ROWS = [
    ("b.png,91,8.54,,,,", "lat 91.0, lon 8.54 are out of range"),
    ("b.png,47.37,-180.5,,,,", "out of range"),
    ("b.png,120.5,-33.9,,,,", "out of range (90, 180); they look swapped"),
    ("b.png,8.54,47.37,,,,", "near them if swapped"),
    ("b.png,,8.54,,,,", "position is nan, 8.54, want two numbers"),
    ("b.png,47.37,inf,,,,", "position is 47.37, inf"),
    ("b.png,47.37,8.54,,,training,", "split is 'training', want train, val, test"),
    ("b.png,47.37,8.54,,180,,", "hfov_deg is 180.0, want 1 to 180"),
    ("b.png,47.37,8.54,,-60,,", "hfov_deg is -60.0"),
    ("b.png,fifty,8.54,,,,", "lat is 'fifty', want a number"),
    ("b.png,47.37,8.54,north,,,", "heading_deg is 'north', want a number"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS)
def test_a_bad_row_is_named_with_its_number_its_photo_and_the_reason(
    write_csv: Write, line: str, reason: str
) -> None:
    path = write_csv(GOOD, line, "c.png,47.38,8.54,,,,")
    with pytest.raises(TableError) as caught:
        read_photo_table(path)
    assert str(caught.value).startswith(f"{path}: row 2 (b.png): ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS)
def test_a_bad_row_is_left_out_and_reported_where_asked(
    write_csv: Write, line: str, reason: str
) -> None:
    path = write_csv(GOOD, line, "c.png,47.38,8.54,,,,")
    table, problems = read_photo_table(path, on_error="skip")
    assert table.columns["path"].tolist() == ["a.png", "c.png"]
    assert table.lat.tolist() == [47.37, 47.38]
    assert len(problems) == 1
    assert problems[0].startswith("row 2 (b.png): ")
    assert reason in problems[0]


def test_a_missing_photo_is_named(write_csv: Write) -> None:
    with pytest.raises(TableError, match=r"row 2 \(z\.png\): no such photo"):
        read_photo_table(write_csv(GOOD, "z.png,47.37,8.54,,,,"))


@pytest.mark.parametrize(
    "lines",
    [
        # Both orders are plausible where lat and lon are near each other, or all photos agree.
        ("a.png,47.37,8.54,,,,", "b.png,48.85,2.35,,,,"),
        ("a.png,8.54,47.37,,,,", "b.png,8.55,47.37,,,,"),
        ("a.png,-33.9,151.2,,,,", "b.png,-33.8,151.1,,,,"),
    ],
    ids=["two towns", "all alike", "beyond 90 degrees east"],
)
def test_a_place_is_not_called_swapped_without_evidence(
    write_csv: Write, lines: tuple[str, ...]
) -> None:
    table, problems = read_photo_table(write_csv(*lines))
    assert (len(table), problems) == (2, [])


def test_a_table_of_bad_rows_alone_is_an_error_even_when_skipping(write_csv: Write) -> None:
    path = write_csv("b.png,95,8.54,,,,", "z.png,47.37,8.54,,,,")
    with pytest.raises(TableError, match=r"every row is bad; the first: row 1 \(b\.png\): lat 95"):
        read_photo_table(path, on_error="skip")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.csv", None, "no such file"),
        ("photos.txt", "path,lat,lon\n", "ends in '.txt', want .csv or .parquet"),
        ("photos.csv", "path,lat,lon\n", "no rows"),
        ("photos.csv", "", "unreadable"),
        ("photos.csv", "path,lat,lon\na.png,1\n", "unreadable"),
        ("photos.csv", "path,lat\na.png,1\n", "no column 'lon'; it has path, lat"),
        ("photos.csv", "path;lat;lon\na.png;1;2\n", "columns are separated by ';', want commas"),
        ("photos.csv", "path\tlat\na.png\t1,5\n", r"columns are separated by '\t', want commas"),
        ("photos.parquet", "path,lat,lon\n", "unreadable"),
    ],
)
def test_a_file_that_is_no_table_is_named(
    tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(TableError) as caught:
        read_photo_table(path)
    assert str(caught.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_of_another_name_comes_with_what_to_do(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photos.{ending}"
    data = pa.table({"name": ["a.png"], "lat": [1.0], "lon": [2.0]})
    if ending == "csv":
        csv.write_csv(data, path)
        remedy = f"geofix-train import {path} --column path=NAME -o TABLE makes a photo table of it"
    else:
        parquet.write_table(data, path)
        remedy = "call one of them 'path'"
    with pytest.raises(TableError) as caught:
        read_photo_table(path)
    assert str(caught.value) == f"{path}: no column 'path'; it has name, lat, lon: {remedy}"


def test_an_unknown_way_to_treat_errors_is_refused(write_csv: Write) -> None:
    with pytest.raises(ValueError, match="on_error is 'ignore', want 'stop' or 'skip'"):
        read_photo_table(write_csv(GOOD), on_error="ignore")


def test_columns_without_a_row_count_of_their_own_are_filled() -> None:
    table = PhotoTable.from_columns({"lat": [1, 2], "lon": [3, 4]})
    assert table.columns["path"].tolist() == ["", ""]
    assert np.isnan(table.hfov_deg).all()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_keep_whole_numbers_and_texts(tmp_path: Path, ending: str) -> None:
    columns: dict[str, list[Any]] = {"lat": [1.5, 2.5], "lon": [3.0, 4.0], "floor": [7, 8]}
    path = tmp_path / f"photos.{ending}"
    write_photo_table(PhotoTable.from_columns(columns), path)
    read = read_columns(path)
    assert read["floor"] == [7, 8]
    assert read["lat"] == [1.5, 2.5]
    assert read["path"] == ["", ""]


def test_a_table_is_told_from_others_by_a_hash_of_paths_and_places() -> None:
    columns: dict[str, list[Any]] = {
        "path": ["a.jpg", "b.jpg"], "lat": [47.0, 48.0], "lon": [8.0, 9.0]
    }  # fmt: skip
    table = PhotoTable.from_columns(columns)
    assert table.sha256() == PhotoTable.from_columns({**columns, "camera": ["x", "y"]}).sha256()
    moved: list[dict[str, list[Any]]] = [
        {"path": ["a.jpg", "c.jpg"]}, {"lat": [47.0, 48.1]}, {"lon": [9.0, 8.0]}
    ]  # fmt: skip
    hashes = {PhotoTable.from_columns({**columns, **change}).sha256() for change in moved}
    assert len(hashes | {table.sha256()}) == 4
