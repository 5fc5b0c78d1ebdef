"""Figures of hand-made predictions, whose errors are known."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from geofix_train.predictions import Predictions, join_predictions
from geofix_train.report import DISTANCES_M, report, summarize
from tests.geofix_train.hand_made import FACTS, PLACES, answers_off, predictions_of, six_photos

NORTH = {"25": 0.1667, "50": 0.3333, "100": 0.5, "200": 0.6667, "500": 0.8333, "1000": 1.0}


def figures_of(predictions: Predictions) -> dict[str, Any]:
    return report(predictions, num_resamples=200)


def test_recall_is_the_share_of_photos_found_within_a_distance() -> None:
    figures = figures_of(six_photos())
    assert (figures["num_queries"], figures["num_sequences"]) == (6, 6)
    assert figures["recall_at_m"] == {
        "north": NORTH,
        "exact": dict.fromkeys(map(str, DISTANCES_M), 1.0),
    }
    assert figures["median_error_m"] == {"north": 105.0, "exact": 0.0}


def test_a_report_begins_with_the_codes() -> None:
    figures = figures_of(replace(six_photos(), codes=FACTS))
    assert list(figures)[:2] == ["format", "codes"]
    assert figures["codes"] == {
        "kappa": 4.7312,
        "kappa_choice": "chosen on validation photos",
        "shrink_photos": 0.0,
        "cell_level": 17,
        "num_cells": 1234,
        "num_training_photos": 4900,
    }
    endless = figures_of(replace(six_photos(), codes=replace(FACTS, kappa=math.inf)))
    assert endless["codes"]["kappa"] is None  # JSON has no infinity
    assert figures_of(six_photos())["codes"] is None


def test_a_distance_that_is_just_reached_counts() -> None:
    predictions = predictions_of({"north": answers_off([99.99, 100.01])})
    assert figures_of(predictions)["recall_at_m"]["north"]["100"] == 0.5


def test_recall_of_the_k_best_is_true_where_any_of_them_is_near() -> None:
    best_m = np.full((10, 4), 5000.0)
    best_m[0, 0] = best_m[1, 1] = best_m[4, 2] = best_m[5, 3] = 20.0  # ranks 1, 2, 5 and 6
    figures = figures_of(predictions_of({"north": answers_off(*best_m.tolist())}))
    found = [figures[f"recall{name}_at_m"]["north"]["25"] for name in ("", "_of_5", "_of_10")]
    assert found == [0.25, 0.75, 1.0]


def test_intervals_hold_their_figures() -> None:
    figures = figures_of(six_photos())
    low, high = figures["recall_at_m_interval95"]["north"]["100"]
    assert 0.0 <= low < 0.5 < high <= 1.0
    assert figures["recall_at_m_interval95"]["exact"]["25"] == [1.0, 1.0]
    low, high = figures["median_error_m_interval95"]["north"]
    assert 10 <= low < 105 < high <= 600
    assert set(figures["recall_of_5_at_m_interval95"]["north"]) == set(NORTH)


def test_one_sequence_has_no_interval() -> None:
    predictions = replace(six_photos(), sequence=np.array(["a"] * 6))
    figures = figures_of(predictions)
    assert figures["num_sequences"] == 1
    assert figures["recall_at_m_interval95"]["north"]["100"] is None
    assert figures["median_error_m_interval95"]["north"] is None


def test_photos_of_a_sequence_belong_together() -> None:
    errors = [10.0] * 10 + [300.0] * 10
    answers = {"north": answers_off(errors)}
    together = [str(row // 10) for row in range(20)]
    wide = figures_of(predictions_of(answers, sequence=together))
    narrow = figures_of(predictions_of(answers))
    assert wide["recall_at_m_interval95"]["north"]["100"] == [0.0, 1.0]
    low, high = narrow["recall_at_m_interval95"]["north"]["100"]
    assert 0.2 < low < high < 0.8


def test_each_slice_has_figures_of_its_own() -> None:
    weather = ["rain", "sun", "sun", "sun", "sun", "sun"]
    predictions = replace(
        six_photos(), slices={"place": np.array(PLACES), "weather": np.array(weather)}
    )
    slices = figures_of(predictions)["slices"]
    assert {name: list(by_value) for name, by_value in slices.items()} == {
        "place": ["seen", "unseen"],
        "weather": ["rain", "sun"],
    }
    seen, unseen = slices["place"]["seen"], slices["place"]["unseen"]
    assert list(seen["recall_at_m"]["north"].values()) == [0.3333, 0.6667, 1, 1, 1, 1]
    assert list(unseen["recall_at_m"]["north"].values()) == [0, 0, 0, 0.3333, 0.6667, 1]
    assert (seen["median_error_m"]["north"], unseen["median_error_m"]["north"]) == (30.0, 400.0)
    assert slices["weather"]["sun"]["num_queries"] == 5


def test_degraded_photos_are_a_slice_and_change_no_other_figure() -> None:
    gray = replace(
        six_photos(), look=np.array(["gray"] * 6), answers={
            "north": answers_off([400.0] * 6), "exact": answers_off([0.0] * 6)
        }
    )  # fmt: skip
    both = figures_of(join_predictions([six_photos(), gray]))
    alone = figures_of(six_photos())
    looks = both["slices"].pop("look")
    assert both == alone
    assert list(looks) == ["original", "gray"]
    assert looks["original"]["recall_at_m"] == alone["recall_at_m"]
    assert looks["gray"]["recall_at_m"]["north"]["200"] == 0.0
    assert looks["gray"]["median_error_m"]["north"] == 400.0


def test_the_bytes_of_each_database_are_told() -> None:
    assert figures_of(six_photos())["database_bytes"] == {"north": 1000, "exact": 50}


def test_a_report_is_json_and_comes_out_the_same_twice() -> None:
    figures = figures_of(six_photos())
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures_of(six_photos()) == figures


@pytest.mark.parametrize("name", ["recall_at_m", "median_error_m", "num_queries"])
def test_a_summary_holds_the_same_figures(name: str) -> None:
    assert summarize(six_photos())[name] == figures_of(six_photos())[name]


def test_a_summary_tells_seen_from_unseen() -> None:
    summary = summarize(six_photos())
    assert summary["num_queries_by_slice"] == {"seen": 3, "unseen": 3}
    assert summary["recall_by_slice"]["unseen"]["north"]["500"] == 0.6667
