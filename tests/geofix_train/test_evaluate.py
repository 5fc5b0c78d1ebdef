"""Figures from hand-made predictions, and predictions from hand-made databases."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import geofix_index.cells as s2
from geofix.geo import LatLon, distance_m
from geofix_index.sphere import EARTH_RADIUS_M
from geofix_train.cell_codes import CellCodes, write_cell_codes
from geofix_train.codes import EncodedRun, encode_run, make_codes
from geofix_train.config import FitConfig
from geofix_train.evaluate import (
    DISTANCES_M,
    METHODS,
    Predictions,
    errors_m,
    evaluate_run,
    predict,
    predict_on_device,
    read_predictions,
    summarize,
    table_text,
    write_predictions,
)
from geofix_train.photo_table import PhotoTable
from geofix_train.prototypes import PrototypeGrid
from tests.geofix_train.tiny_data import LAT, LON
from tests.tiny_pack import TinyRegion

ERRORS_M = (10.0, 30.0, 60.0, 150.0, 400.0, 600.0)
pytestmark = pytest.mark.xdist_group("town")

SLICES = ("seen", "seen", "seen", "unseen", "unseen", "unseen")
EYE = np.eye(4, dtype=np.float32)


@pytest.fixture
def predictions() -> Predictions:
    """Return six photos; "north" misses each by its own distance, "exact" by none."""
    truth = np.column_stack([np.full(6, LAT), LON + 0.01 * np.arange(6)])
    off = truth + np.column_stack([np.degrees(np.array(ERRORS_M) / EARTH_RADIUS_M), np.zeros(6)])
    paths = np.array([f"{number}.png" for number in range(6)])
    return Predictions(paths, truth, np.array(SLICES), {"north": off, "exact": truth})


@pytest.fixture
def codes() -> CellCodes:
    """Return codes of four cells under one prototype: cell i is found by axis i of four.

    The first two have a prototype alone, the others an aerial part alone.
    """
    cells = np.sort(s2.descendants([int(s2.cell_from_latlon(LAT, LON, level=15))], level=16))
    prototypes, aerial = EYE.copy(), EYE.copy()
    prototypes[2:], aerial[:2] = 0.0, 0.0
    return CellCodes(cells, prototypes, aerial, np.ones(4, np.int64), kappa=2.0)


def encoded_by_hand(codes: CellCodes, config: FitConfig, tests: npt.ArrayLike) -> EncodedRun:
    """Return two training photos in the first and the last cell, and test photos in the second."""
    embeddings = np.array([EYE[0], EYE[3], *np.asarray(tests, np.float32)])
    num = len(embeddings)
    latlon = s2.latlon_from_cell(codes.cells)[[0, 3] + [1] * (num - 2)]
    content = {
        "path": [f"{row}.png" for row in range(num)],
        "split": ["train"] * 2 + ["test"] * (num - 2),
        "lat": latlon[:, 0].tolist(),
        "lon": latlon[:, 1].tolist(),
    }
    grid = PrototypeGrid(s2.parent(codes.cells[:1], level=15), level=15, code_level=16)
    return EncodedRun(
        config, PhotoTable.from_columns(content), embeddings, grid, prototypes=EYE[:1],
        mean_prototypes=EYE[2:3], cells=codes.cells, aerial=codes.aerial,
    )  # fmt: skip


def found_cells(codes: CellCodes, answers: npt.NDArray[np.float64]) -> list[int]:
    """Return which cells' centres answers are."""
    centres = s2.latlon_from_cell(codes.cells)
    gaps = np.abs(answers[:, None] - centres).sum(axis=2)
    assert gaps.min(axis=1).max() == 0
    return [int(row) for row in gaps.argmin(axis=1)]


def test_errors_are_distances_on_the_globe(predictions: Predictions) -> None:
    np.testing.assert_allclose(errors_m(predictions, "north"), ERRORS_M, rtol=1e-6)
    assert errors_m(predictions, "exact").tolist() == [0.0] * 6


def test_recall_is_the_share_of_photos_found_within_a_distance(predictions: Predictions) -> None:
    summary: Any = summarize(predictions)
    assert summary["num_queries"] == 6
    assert summary["recall_at_m"] == {
        "north": {"25": 0.1667, "50": 0.3333, "100": 0.5, "200": 0.6667, "500": 0.8333},
        "exact": dict.fromkeys(("25", "50", "100", "200", "500"), 1.0),
    }
    assert summary["median_error_m"] == {"north": 105.0, "exact": 0.0}


def test_each_slice_has_its_own_recall(predictions: Predictions) -> None:
    summary: Any = summarize(predictions)
    assert summary["num_queries_by_slice"] == {"seen": 3, "unseen": 3}
    by_slice = {name: recall["north"] for name, recall in summary["recall_by_slice"].items()}
    assert by_slice == {
        "seen": {"25": 0.3333, "50": 0.6667, "100": 1.0, "200": 1.0, "500": 1.0},
        "unseen": {"25": 0.0, "50": 0.0, "100": 0.0, "200": 0.3333, "500": 0.6667},
    }


def test_a_summary_can_be_written_as_json(predictions: Predictions) -> None:
    summary = summarize(predictions)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_table_shows_the_same_figures_in_columns(predictions: Predictions) -> None:
    head, north, exact = table_text(predictions).splitlines()
    assert head.split("  ")[0] == "method"
    assert all(f"{distance} m" in head for distance in DISTANCES_M)
    assert north.split() == [
        *("north", "16.7%", "33.3%", "50.0%", "66.7%", "83.3%", "105", "m", "100.0%", "0.0%")
    ]
    assert exact.split()[1:6] == ["100.0%"] * 5
    assert len(head) == len(north) == len(exact)


def test_the_table_has_a_dash_for_a_slice_without_photos(predictions: Predictions) -> None:
    seen = replace(predictions, slices=np.array(["seen"] * 6))
    assert table_text(seen).splitlines()[1].split()[-2:] == ["50.0%", "-"]


def test_a_method_is_added_to_the_others(predictions: Predictions) -> None:
    more = predictions.with_answers("south", predictions.latlon - 0.01)
    assert list(more.answers) == ["north", "exact", "south"]
    assert list(predictions.answers) == ["north", "exact"]


def test_written_predictions_read_back(predictions: Predictions, tmp_path: Path) -> None:
    write_predictions(predictions, tmp_path / "predictions.parquet")
    read = read_predictions(tmp_path / "predictions.parquet")
    for name in ("path", "latlon", "slices"):
        np.testing.assert_array_equal(getattr(read, name), getattr(predictions, name))
    assert list(read.answers) == ["north", "exact"]
    for method, answers in predictions.answers.items():
        np.testing.assert_array_equal(read.answers[method], answers)
    assert summarize(read) == summarize(predictions)


def test_each_method_answers_the_best_cell_of_its_own_database(
    codes: CellCodes, town_config: FitConfig
) -> None:
    encoded = encoded_by_hand(codes, town_config, [(0.1, 0.3, 0.2, 0.5), (0.3, 0.2, 0.9, 0.4)])
    answers = predict(encoded, codes).answers
    assert list(answers) == list(METHODS)
    cells = {method: found_cells(codes, latlon) for method, latlon in answers.items()}
    assert cells == {
        "image_nn": [3, 3],  # the training photo in the last cell
        "mean_prototypes": [0, 0],  # one prototype, so that all cells are alike: the first wins
        "prototypes": [1, 0],
        "aerial": [3, 2],
        "hybrid_kappa_1": [3, 2],
        "hybrid": [1, 2],  # kappa is 2: 2 x 0.3 beats 0.5, 2 x 0.3 does not beat 0.9
    }


def test_a_cell_that_a_method_knows_nothing_of_is_never_its_answer(
    codes: CellCodes, town_config: FitConfig
) -> None:
    encoded = encoded_by_hand(codes, town_config, [(-0.9, -0.5, -0.5, -0.9)])
    answers = predict(encoded, codes).answers
    assert found_cells(codes, answers["prototypes"]) == [1]  # though zeros would score higher
    assert found_cells(codes, answers["aerial"]) == [2]


def test_a_method_without_any_knowledge_is_left_out(
    codes: CellCodes, town_config: FitConfig
) -> None:
    without = replace(codes, aerial=np.zeros_like(codes.aerial))
    encoded = encoded_by_hand(without, town_config, [EYE[1]])
    assert "aerial" not in predict(encoded, without).answers


def test_predictions_hold_truth_and_slices_of_the_split(
    codes: CellCodes, town_config: FitConfig
) -> None:
    predictions = predict(encoded_by_hand(codes, town_config, EYE[:3]), codes)
    assert predictions.path.tolist() == ["2.png", "3.png", "4.png"]
    assert found_cells(codes, predictions.latlon) == [1, 1, 1]
    assert predictions.slices.tolist() == ["unseen"] * 3


def test_a_split_without_photos_is_an_error(codes: CellCodes, town_config: FitConfig) -> None:
    encoded = encoded_by_hand(codes, town_config, [EYE[1]])
    with pytest.raises(ValueError, match="no photo has split 'val'"):
        predict(encoded, codes, split="val")


def test_a_pack_localizes_photos_as_a_device_does(
    region: TinyRegion, pack_path: Path, tmp_path: Path
) -> None:
    rows = [3, 100, 7]
    for row in rows:
        Image.fromarray(region.pictures[row]).save(tmp_path / f"{row}.png")
    latlon = s2.latlon_from_cell(region.cells[rows])
    columns: dict[str, Any] = {"path": [f"{row}.png" for row in rows]}
    columns["lat"], columns["lon"] = latlon.T
    table = PhotoTable.from_columns(columns, root=tmp_path)
    for answer, truth in zip(predict_on_device(pack_path, table), latlon, strict=True):
        assert distance_m(LatLon(*answer), LatLon(*truth)) < 50


def test_a_run_is_evaluated_with_its_stored_codes_and_keeps_its_predictions(
    encoded: EncodedRun, town_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    finer = encode_run(run, level=17)
    few = replace(finer, cells=finer.cells[::9], aerial=finer.aerial[::9])
    stored = make_codes(few)
    write_cell_codes(stored, run / "codes" / "codes.safetensors")
    predictions = evaluate_run(run)
    assert set(predictions.answers) == set(METHODS)
    np.testing.assert_array_equal(
        predictions.path, encoded.table.columns["path"][encoded.table.split == "test"]
    )
    assert len(found_cells(stored, predictions.answers["hybrid"])) == len(predictions.path)
    kept = read_predictions(run / "predictions-test.parquet")
    assert summarize(kept) == summarize(predictions)


def test_a_run_without_stored_codes_is_evaluated_too(
    encoded: EncodedRun, town_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    predictions = evaluate_run(run, split="val")
    wanted = predict(encoded, make_codes(encoded), split="val")
    for method, answers in wanted.answers.items():
        np.testing.assert_allclose(predictions.answers[method], answers)
    assert [path.name for path in run.glob("*.parquet")] == ["predictions-val.parquet"]
