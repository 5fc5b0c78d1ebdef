"""The commands of `geofix-train` that make and check photo tables."""

import json
from pathlib import Path

import pytest

from geofix_train.photo_table import read_photo_table
from tests.command_line import Run
from tests.geofix_train.photo_files import camera_tags, gps_tags, write_exif_photo
from tests.geofix_train.tiny_data import write_data, write_photos


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Return a folder with three drives of four photos each."""
    for number in range(12):
        path = tmp_path / "drives" / f"{number // 4}" / f"{number}.jpg"
        write_exif_photo(path, gps=gps_tags(47.37 + number / 1e4, 8.54), seed=number)
    return tmp_path / "drives"


def test_import_writes_a_table_and_tells_the_splits(run: Run, drives: Path) -> None:
    out = drives.parent / "new" / "photos.csv"
    outcome = run("import", drives, "--split", "train=0.4,val=0.3,test=0.3", "-o", out)
    assert outcome == (0, f"{out}: 12 photos (4 train, 4 val, 4 test)\n", "")
    table, problems = read_photo_table(out)
    assert (len(table), problems) == (12, [])
    assert table.columns["path"][0] == "../drives/0/0.jpg"


def test_a_split_by_day_leaks_no_sequence(run: Run, tmp_path: Path) -> None:
    for number in range(12):
        day = 1 + number % 4  # two cars, each out on two days
        write_exif_photo(
            tmp_path / "drives" / f"car{number % 2}" / f"{number}.jpg",
            gps=gps_tags(47.37 + number / 1e3, 8.54),
            details=camera_tags(DateTimeOriginal=f"2024:05:{day:02d} 12:{number:02d}:00"),
            seed=number,
        )
    out = tmp_path / "photos.csv"
    shares = ("--split", "train=0.5,val=0.25,test=0.25", "--split-by", "day")
    assert run("import", tmp_path / "drives", *shares, "-o", out).status == 0
    assert run("check", out, "--strict").status == 0
    table = read_photo_table(out)[0]
    assert "car1 2024-05-04" in table.columns["sequence_id"]
    assert set(table.split) == {"train", "val", "test"}
    run("import", tmp_path / "drives", "-o", out)
    assert set(read_photo_table(out)[0].columns["sequence_id"]) == {"car0", "car1"}


def test_import_without_a_split_leaves_it_open(run: Run, drives: Path) -> None:
    out = drives.parent / "photos.parquet"
    assert run("import", drives, "-o", out) == (0, f"{out}: 12 photos\n", "")
    assert set(read_photo_table(out)[0].split) == {""}


def test_import_names_what_it_leaves_out(run: Run, drives: Path) -> None:
    bad = write_exif_photo(drives / "bad.jpg")
    out = drives.parent / "photos.csv"
    reason = f"{bad}: no GPS position in its EXIF\n"
    assert run("import", drives, "-o", out) == (1, "", f"geofix-train: {reason}")
    assert not out.exists()
    outcome = run("import", drives, "-o", out, "--on-error", "skip")
    assert outcome == (0, f"{out}: 12 photos\n", f"geofix-train: left out: {reason}")


def test_import_takes_names_of_columns(run: Run, tmp_path: Path) -> None:
    write_photos(tmp_path, ["a.png"])
    (tmp_path / "mine.csv").write_text("bild;nord;ost\na.png;47,5;8,5\n")
    names = ("--column", "path=bild", "--column", "lat=nord", "--column", "lon=ost")
    outcome = run("import", tmp_path / "mine.csv", *names, "-o", tmp_path / "photos.csv")
    assert outcome.status == 0
    assert read_photo_table(tmp_path / "photos.csv")[0].lat.tolist() == [47.5]


def test_import_names_the_columns_that_nothing_uses(run: Run, tmp_path: Path) -> None:
    write_photos(tmp_path, ["a.png", "b.png"])
    head = "path,lat,lon,altitude,slice_weather,rig,note"
    rows = [f"{name}.png,47.5,8.5,400,rain,{name},x" for name in "ab"]
    (tmp_path / "mine.csv").write_text("\n".join([head, *rows]) + "\n")
    out = tmp_path / "photos.csv"
    outcome = run("import", tmp_path / "mine.csv", "-o", out)
    kept = "kept without a use: altitude, rig, note; a column named slice_NAME has figures of its"
    assert outcome == (0, f"{out}: 2 photos\n{kept} own in evaluations\n", "")
    assert "altitude" in read_photo_table(out)[0].columns


@pytest.mark.parametrize(
    ("words", "status", "wanted"),
    [
        (["--column", "lat"], 2, "'lat', want NAME=VALUE"),
        (["--split", "train=most"], 2, "'train=most', want train=0.8,val=0.1,test=0.1"),
        (["--split", "train=0.5"], 1, "the shares sum to 0.5, want 1"),
        (["--split", "train=1", "--split-by", "camera"], 1, "12 photos have no camera"),
        (["--kind", "flickr"], 2, "invalid choice: 'flickr'"),
    ],
)
def test_import_refuses_what_it_does_not_understand(
    run: Run, drives: Path, words: list[str], status: int, wanted: str
) -> None:
    outcome = run("import", drives, "-o", drives.parent / "photos.csv", *words)
    assert (outcome.status, outcome.out) == (status, "")
    assert wanted in outcome.err


def test_import_says_which_endings_a_table_can_have(run: Run, drives: Path) -> None:
    outcome = run("import", drives, "-o", drives.parent / "photos.xlsx")
    assert outcome.status == 1
    assert outcome.err.endswith("photos.xlsx: ends in '.xlsx', want .csv or .parquet\n")


def test_check_prints_a_report_and_exits_well_in_spite_of_warnings(run: Run, data: Path) -> None:
    outcome = run("check", data / "photos.parquet", "--aerial", data / "aerial", "--strict")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{data / 'photos.parquet'}: 40 photos\n")
    assert "warning: photos without captured_at: 40" in outcome.out


def test_check_prints_json_where_asked(run: Run, data: Path) -> None:
    outcome = run("check", data / "photos.parquet", "--json")
    assert json.loads(outcome.out)["num_photos"] == 40
    assert outcome.out.count("\n") == 1


def test_check_writes_its_report(run: Run, data: Path, tmp_path: Path) -> None:
    outcome = run("check", data / "photos.parquet", "-o", tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "map.png", "report.json", "report.txt",
    ]  # fmt: skip
    assert (tmp_path / "report" / "report.txt").read_text() == outcome.out


def test_a_strict_check_fails_at_leaks_and_bad_rows(run: Run, tmp_path: Path) -> None:
    folder = write_data(tmp_path, sequence_id=["one"] * 40)
    table = folder / "photos.parquet"
    (folder / "003.png").unlink()
    assert run("check", table).status == 0
    outcome = run("check", table, "--strict")
    assert outcome.status == 1
    assert "warning: sequences in several splits (a leak): 1" in outcome.out
    assert outcome.err == f"geofix-train: {table}: bad rows: 1, leaks: 1\n"


def test_check_names_a_table_that_is_not_there(run: Run, tmp_path: Path) -> None:
    outcome = run("check", tmp_path / "none.csv")
    assert outcome == (1, "", f"geofix-train: {tmp_path / 'none.csv'}: no such file\n")
