from pathlib import Path

import numpy as np
import pytest

from geofix.images import prepare_image
from geofix.input_spec import InputSpec
from geofix_train.photo_table import PhotoTable, TableError
from geofix_train.photos import read_photos
from tests.geofix_train.tiny_data import make_table

SPEC = InputSpec(width=32, height=24)


@pytest.fixture
def table(tmp_path: Path) -> PhotoTable:
    """Return ten photos, of which the second is no picture and the sixth is cut off."""
    table = make_table(tmp_path, num=10)
    table.photo_path(1).write_text("I am no picture")
    whole = table.photo_path(5).read_bytes()
    table.photo_path(5).write_bytes(whole[: len(whole) // 2])
    return table


@pytest.mark.parametrize(
    "spec",
    [SPEC, InputSpec(width=24, height=24, resize="crop")],
    ids=["stretched", "cropped"],
)
def test_pixels_are_those_that_the_device_prepares(tmp_path: Path, spec: InputSpec) -> None:
    table = make_table(tmp_path, num=10)
    photos, is_read, problems = read_photos(table, spec, num_threads=3)
    assert photos.shape == (10, spec.height, spec.width, 3)
    assert is_read.all()
    assert problems == []
    for row in range(len(table)):
        np.testing.assert_array_equal(photos[row], prepare_image(table.photo_path(row), spec))


def test_an_unreadable_photo_stops_and_is_named(table: PhotoTable) -> None:
    with pytest.raises(TableError, match=r"^row 2 \(001\.png\): .*001\.png"):
        read_photos(table, SPEC)


def test_unreadable_photos_are_left_black_and_reported_where_asked(table: PhotoTable) -> None:
    photos, is_read, problems = read_photos(table, SPEC, on_error="skip")
    assert np.flatnonzero(~is_read).tolist() == [1, 5]
    assert not photos[~is_read].any()
    assert photos[is_read].any(axis=(1, 2, 3)).all()
    assert [problem.split(":")[0] for problem in problems] == ["row 2 (001.png)", "row 6 (005.png)"]


def test_a_photo_that_is_not_there_is_reported_too(table: PhotoTable) -> None:
    table.photo_path(3).unlink()
    _, is_read, problems = read_photos(table, SPEC, on_error="skip")
    assert not is_read[3]
    assert problems[1].startswith("row 4 (003.png): ")


def test_photos_are_cut_to_the_field_of_view_of_the_spec_where_the_table_knows_theirs(
    tmp_path: Path,
) -> None:
    spec = InputSpec(width=32, height=24, hfov_deg=40)
    table = make_table(tmp_path, num=3)
    table.hfov_deg[:] = [90, 30, np.nan]
    photos, _, _ = read_photos(table, spec)
    for row, hfov_deg in enumerate([90, None, None]):
        wanted = prepare_image(table.photo_path(row), spec, hfov_deg=hfov_deg)
        np.testing.assert_array_equal(photos[row], wanted)
    assert (photos[0] != prepare_image(table.photo_path(0), spec)).any()
