from pathlib import Path

import numpy as np
import pytest

from geofix_train.import_photos import KINDS, import_photos, recognize
from geofix_train.photo_table import TableError, read_photo_table, write_photo_table
from tests.geofix_train.photo_files import (
    gps_tags,
    mapillary_image,
    stac_item,
    write_exif_photo,
    write_json,
)
from tests.geofix_train.tiny_data import write_photos


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Return a source of each kind; each has one photo."""
    write_exif_photo(tmp_path / "exif" / "a.jpg", gps=gps_tags(47.37, 8.54))
    for kind, content in (("stac", stac_item("s1")), ("mapillary", mapillary_image("17"))):
        write_photos(tmp_path / kind, [f"{content['id']}.png"])
        write_json(tmp_path / kind / "photos.json", content)
    write_photos(tmp_path / "csv", ["c.png"])
    (tmp_path / "csv" / "mine.csv").write_text("photo,latitude,lon,floor\nc.png,47.37,8.54,3\n")
    return {
        "exif": tmp_path / "exif",
        "stac": tmp_path / "stac",
        "mapillary": tmp_path / "mapillary" / "photos.json",
        "csv": tmp_path / "csv" / "mine.csv",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_recognized(sources: dict[str, Path], kind: str) -> None:
    assert recognize(sources[kind]) == kind


def test_a_photo_alone_is_recognized(sources: dict[str, Path]) -> None:
    assert recognize(sources["exif"] / "a.jpg") == "exif"


def test_other_json_beside_photos_does_not_hide_them(sources: dict[str, Path]) -> None:
    write_json(sources["exif"] / "a.jpg.json", {"title": "a.jpg"})
    (sources["exif"] / "broken.json").write_text("{")
    assert recognize(sources["exif"]) == "exif"


@pytest.mark.parametrize("name", ["none", "notes.doc", "other.json"])
def test_what_is_not_recognized_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.doc").write_text("notes")
    write_json(tmp_path / "other.json", {"type": "Topology"})
    with pytest.raises(TableError, match=rf"{name}: (no such file|not recognized; .*--kind exif)"):
        recognize(tmp_path / name)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_sources_of_all_kinds_become_one_table(
    tmp_path: Path, sources: dict[str, Path], ending: str
) -> None:
    out = tmp_path / "tables" / f"photos.{ending}"
    out.parent.mkdir()
    table, problems = import_photos(list(sources.values()), root=out.parent)
    write_photo_table(table, out)
    read, bad_rows = read_photo_table(out)
    assert problems == bad_rows == []
    assert read.columns["path"].tolist() == [
        "../exif/a.jpg", "../stac/s1.png", "../mapillary/17.png", "../csv/c.png",
    ]  # fmt: skip
    assert read.lat == pytest.approx([47.37] * 4)
    assert np.isnan(read.heading_deg).tolist() == [True, False, False, True]
    assert read.columns["sequence_id"].tolist() == ["", "drive-1", "abc", ""]
    assert [str(value) for value in read.columns["floor"]][3] in ("3", "3.0")


def test_a_forced_kind_is_believed(tmp_path: Path, sources: dict[str, Path]) -> None:
    with pytest.raises(TableError, match="no GPS position in its EXIF"):
        import_photos([sources["stac"]], root=tmp_path, kind="exif")
    with pytest.raises(ValueError, match="kind is 'flickr', want one of exif, stac"):
        import_photos([sources["stac"]], root=tmp_path, kind="flickr")


def test_photos_may_lie_in_another_folder(tmp_path: Path, sources: dict[str, Path]) -> None:
    (sources["stac"] / "s1.png").rename(tmp_path / "s1.png")
    table, _ = import_photos([sources["stac"]], root=tmp_path, photos=tmp_path)
    assert table.columns["path"].tolist() == ["s1.png"]


def test_a_bad_photo_stops_and_is_named(tmp_path: Path, sources: dict[str, Path]) -> None:
    path = write_exif_photo(sources["exif"] / "b.jpg")
    with pytest.raises(TableError) as caught:
        import_photos([sources["exif"]], root=tmp_path)
    assert str(caught.value) == f"{path}: no GPS position in its EXIF"


def test_bad_photos_are_left_out_and_named_where_asked(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    bad = write_exif_photo(sources["exif"] / "b.jpg")
    swapped = write_exif_photo(sources["exif"] / "c.jpg", gps=gps_tags(8.54, 47.37))
    gone = sources["csv"].parent / "c.png"
    gone.unlink()
    table, problems = import_photos(list(sources.values()), root=tmp_path, on_error="skip")
    assert table.columns["path"].tolist() == ["exif/a.jpg", "stac/s1.png", "mapillary/17.png"]
    assert problems[0] == f"{bad}: no GPS position in its EXIF"
    assert problems[1].startswith(f"row 2 ({swapped.relative_to(tmp_path)}): lat 8.54")
    assert problems[2] == f"row 5 ({gone.relative_to(tmp_path)}): no such photo"


def test_a_photo_that_two_sources_name_is_a_row_once(
    tmp_path: Path, sources: dict[str, Path]
) -> None:
    twice = [sources["exif"], sources["exif"] / "a.jpg"]
    with pytest.raises(TableError, match=r"a\.jpg came from .*a\.jpg already"):
        import_photos(twice, root=tmp_path)
    table, problems = import_photos(twice, root=tmp_path, on_error="skip")
    assert (len(table), len(problems)) == (1, 1)


def test_nothing_to_import_is_an_error(tmp_path: Path, sources: dict[str, Path]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"no photo in .*empty$"):
        import_photos([tmp_path / "empty"], root=tmp_path)
    write_exif_photo(tmp_path / "empty" / "b.jpg")
    with pytest.raises(TableError, match=r"no photo in .*empty; the first: .*b\.jpg: no GPS"):
        import_photos([tmp_path / "empty"], root=tmp_path, on_error="skip")
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        import_photos([sources["exif"]], root=tmp_path, on_error="ignore")
