"""What is known of predictions, and the file that keeps them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from geofix_train.predictions import (
    NUM_BEST,
    ORIGINAL,
    Predictions,
    PredictionsError,
    errors_m,
    errors_of_best_m,
    join_predictions,
    predictions_path,
    read_predictions,
    write_predictions,
)
from tests.geofix_train.hand_made import (
    ERRORS_M,
    FACTS,
    answers_off,
    predictions_of,
    six_photos,
)


def assert_same(a: Predictions, b: Predictions) -> None:
    for name in ("path", "latlon", "sequence", "look"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.codes == b.codes
    assert list(a.slices) == list(b.slices)
    for name, values in a.slices.items():
        np.testing.assert_array_equal(values, b.slices[name])
    assert list(a.answers) == list(b.answers)
    for method, answers in a.answers.items():
        other = b.answers[method]
        for name in ("latlon", "cells", "scores", "database_bytes"):
            np.testing.assert_array_equal(getattr(answers, name), getattr(other, name))


def test_errors_are_distances_on_the_globe() -> None:
    np.testing.assert_allclose(errors_m(six_photos(), "north"), ERRORS_M, rtol=1e-6)
    assert errors_m(six_photos(), "exact").tolist() == [0.0] * 6


def test_among_the_best_cells_the_nearest_so_far_counts() -> None:
    answers = answers_off([300.0, 20.0], [90.0, 500.0], [200.0, 10.0])
    best = errors_of_best_m(predictions_of({"north": answers}), "north")
    assert best.shape == (2, NUM_BEST)
    wanted = [[300, 90, 90] + [90] * 7, [20, 20, 10] + [10] * 7]
    np.testing.assert_allclose(best, wanted, atol=0.02)  # of a leaf cell


def test_the_answer_counts_and_not_the_centre_of_its_cell() -> None:
    answers = answers_off([300.0])
    refined = replace(answers, latlon=answers_off([40.0]).latlon)
    best = errors_of_best_m(predictions_of({"on_device": refined}), "on_device")
    np.testing.assert_allclose(best, [[40.0] * NUM_BEST], rtol=1e-6)


def test_a_method_is_added_to_the_others() -> None:
    predictions = six_photos()
    more = predictions.with_answers("south", answers_off([-5.0] * 6))
    assert list(more.answers) == ["north", "exact", "south"]
    assert list(predictions.answers) == ["north", "exact"]


def test_photos_are_selected_with_all_that_is_known_of_them() -> None:
    picked = six_photos()[np.array([4, 1])]
    assert picked.path.tolist() == ["4.png", "1.png"]
    assert picked.slices["place"].tolist() == ["unseen", "seen"]
    np.testing.assert_allclose(errors_m(picked, "north"), [400.0, 30.0], rtol=1e-6)
    assert picked.answers["exact"].database_bytes == 50


def test_joined_parts_are_told_apart_by_their_look() -> None:
    gray = replace(six_photos(), look=np.array(["gray"] * 6))
    joined = join_predictions([six_photos(), gray])
    assert joined.look.tolist() == [ORIGINAL] * 6 + ["gray"] * 6
    assert_same(joined.originals, six_photos())
    assert_same(joined[joined.look == "gray"], gray)


def test_written_predictions_read_back(tmp_path: Path) -> None:
    answers = {"north": answers_off([1.0, 2.0], [3.0, 4.0]), "exact": answers_off([0.0, 0.0])}
    slices = {"place": ["seen", "unseen"], "weather": ["rain", "unknown"]}
    predictions = predictions_of(answers, sequence=["a", ""], slices=slices)
    write_predictions(predictions, tmp_path / "new" / "predictions.parquet")
    assert_same(read_predictions(tmp_path / "new" / "predictions.parquet"), predictions)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["predictions.parquet"]


@pytest.mark.parametrize("kappa", [FACTS.kappa, math.inf])
def test_what_is_told_of_the_codes_is_kept_with_the_photos(tmp_path: Path, kappa: float) -> None:
    facts = replace(FACTS, kappa=kappa)
    predictions = replace(six_photos(), codes=facts)
    write_predictions(predictions, tmp_path / "predictions.parquet")
    read = read_predictions(tmp_path / "predictions.parquet")
    assert read.codes == facts
    assert join_predictions([read.originals, read[np.array([0])]]).codes == facts


def test_each_split_and_look_has_a_file_of_its_own(tmp_path: Path) -> None:
    assert predictions_path(tmp_path, "val") == tmp_path / "predictions-val.parquet"
    gray = predictions_path(tmp_path, "test", ["gray", "jpeg"])
    assert gray == tmp_path / "predictions-test-gray-jpeg.parquet"


def test_a_row_of_the_file_is_a_photo_and_a_method(tmp_path: Path) -> None:
    write_predictions(six_photos(), tmp_path / "predictions.parquet")
    data = parquet.read_table(tmp_path / "predictions.parquet")
    assert len(data) == 12
    row = data.to_pylist()[7]
    assert (row["path"], row["method"], row["slice_place"]) == ("1.png", "exact", "seen")
    assert (row["answer_lat"], row["answer_lon"]) == (row["lat"], row["lon"])
    assert len(row["cells"]) == len(row["scores"]) == NUM_BEST
    assert row["cells"][1:] == [0] * 9


def test_what_is_no_file_of_predictions_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(PredictionsError, match="no such file"):
        read_predictions(path)
    path.write_text("path,lat,lon\n")
    with pytest.raises(PredictionsError, match="unreadable"):
        read_predictions(path)
    parquet.write_table(pa.table({"path": ["0.png"], "slice": ["seen"]}), path)
    with pytest.raises(PredictionsError, match="format None, want 3: evaluate again"):
        read_predictions(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(six_photos(), path)
    parquet.write_table(parquet.read_table(path).drop_columns(["look"]), path)
    with pytest.raises(PredictionsError, match="no column 'look'"):
        read_predictions(path)
