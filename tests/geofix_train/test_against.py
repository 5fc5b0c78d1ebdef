"""Two evaluations of the same photos, made by hand: what is paired, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geofix_train.against import Against, compare, read_against
from geofix_train.bootstrap import Bootstrap
from geofix_train.order import differences
from geofix_train.predictions import (
    Predictions,
    PredictionsError,
    join_predictions,
    write_predictions,
)
from tests.geofix_train.hand_made import FACTS, answers_off, predictions_of, six_photos

FOUND_M, MISSED_M = 20.0, 300.0


def predictions_with(errors_m: list[float], *, method: str = "hybrid") -> Predictions:
    return predictions_of({method: answers_off(errors_m)})


def test_a_difference_is_that_of_the_recalls() -> None:
    ours = predictions_with([FOUND_M, FOUND_M, FOUND_M, MISSED_M])
    theirs = predictions_with([FOUND_M, MISSED_M, MISSED_M, MISSED_M])
    compared = compare(ours, Against("b", replace(theirs, codes=FACTS)))
    assert compared["name"] == "b"
    assert compared["codes"]["cell_level"] == 17
    (hybrid,) = compared["differences"]
    assert (hybrid["look"], hybrid["method"]) == ("original", "hybrid")
    assert hybrid["recall_difference_at_m"] == {"100": 0.5, "200": 0.5}
    low, high = hybrid["recall_difference_at_m_interval95"]["100"]
    assert 0 <= low < 0.5 < high <= 1


def test_intervals_are_paired_as_those_between_two_methods() -> None:
    rng = np.random.default_rng(0)
    errors = [rng.choice([FOUND_M, MISSED_M], 40).tolist() for _ in range(2)]
    sequence = [str(row // 4) for row in range(40)]
    both = predictions_of(
        {"hybrid": answers_off(errors[0]), "aerial": answers_off(errors[1])}, sequence=sequence
    )
    draws = Bootstrap.of_sequences(both.sequence)
    wanted = next(d for d in differences(both, draws) if d["other"] == "aerial")
    ours, theirs = (predictions_of({"hybrid": answers_off(e)}, sequence=sequence) for e in errors)
    (found,) = compare(ours, Against("b", theirs))["differences"]
    for name in ("recall_difference_at_m", "recall_difference_at_m_interval95"):
        assert found[name] == wanted[name]


def test_what_makes_photos_hard_for_both_cancels() -> None:
    ours = predictions_with([FOUND_M, MISSED_M] * 10)
    (same,) = compare(ours, Against("b", ours))["differences"]
    assert same["recall_difference_at_m_interval95"]["100"] == [0.0, 0.0]


def test_photos_may_stand_in_any_order() -> None:
    ours = six_photos()
    turned = ours[np.array([3, 0, 5, 1, 4, 2])]
    for one, other in ((ours, turned), (turned, ours)):
        found = compare(one, Against("b", other))["differences"]
        assert [d["method"] for d in found] == ["north", "exact"]
        for d in found:
            assert d["recall_difference_at_m_interval95"]["100"] == [0.0, 0.0]


def test_methods_that_one_lacks_are_left_out() -> None:
    ours = six_photos().with_answers("on_device", answers_off([0.0] * 6))
    theirs = six_photos().with_answers("aerial", answers_off([0.0] * 6))
    found = compare(ours, Against("b", theirs))["differences"]
    assert [d["method"] for d in found] == ["north", "exact"]


def test_each_look_is_compared_with_itself() -> None:
    gray = replace(six_photos(), look=np.array(["gray"] * 6))
    found_gray = replace(gray, answers={"north": answers_off([0.0] * 6)})
    ours = join_predictions([six_photos(), gray])
    theirs = join_predictions([replace(six_photos(), answers={"north": answers_off([0.0] * 6)}),
                               found_gray])  # fmt: skip
    found = compare(ours, Against("b", theirs))["differences"]
    assert [(d["look"], d["method"]) for d in found] == [("original", "north"), ("gray", "north")]
    assert all(d["recall_difference_at_m"]["100"] == -0.5 for d in found)
    alone = compare(ours, Against("b", six_photos()))["differences"]
    assert {d["look"] for d in alone} == {"original"}


def test_other_photos_are_an_error_that_names_one() -> None:
    with pytest.raises(PredictionsError, match=r"b: other photos: 6 here, of which 1 .*\(5.png\)"):
        compare(six_photos(), Against("b", six_photos()[np.arange(5)]))
    with pytest.raises(PredictionsError, match=r"6 there, of which 2 are not here \(4.png\)"):
        compare(six_photos()[np.arange(4)], Against("b", six_photos()))
    one, other = six_photos()[np.array([0, 1, 1])], six_photos()[np.array([0, 0, 1])]
    with pytest.raises(PredictionsError, match="a photo is listed twice"):
        compare(one, Against("b", other))


def test_photos_that_moved_are_an_error() -> None:
    moved = six_photos()
    latlon = moved.latlon.copy()
    latlon[2, 0] += 0.001
    with pytest.raises(PredictionsError, match=r"b: 2\.png stands 111\.\d m from where it stands"):
        compare(six_photos(), Against("b", replace(moved, latlon=latlon)))


def test_predictions_are_read_from_a_file_or_an_evaluated_folder(tmp_path: Path) -> None:
    file = tmp_path / "predictions-test.parquet"
    with pytest.raises(PredictionsError, match="evaluate that run first, with the same --split"):
        read_against(tmp_path, file.name)
    with pytest.raises(PredictionsError, match="no such file"):
        read_against(file, file.name)
    write_predictions(six_photos(), file)
    for path in (tmp_path, file):
        against = read_against(path, file.name)
        assert against.name == str(path)
        assert len(against.predictions) == 6
