"""Predictions from hand-made databases, and of a run."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import geofix_index.cells as s2
from geofix import RegionPack
from geofix.geo import LatLon, distance_m
from geofix_train.cell_codes import BY_HAND, CellCodes, CellCodesError, write_cell_codes
from geofix_train.codes import EncodedRun, areas, encode_run, make_codes
from geofix_train.config import FitConfig
from geofix_train.degrade import LOOKS
from geofix_train.evaluate import METHODS, Database, _best, evaluate_run, predict, predict_on_device
from geofix_train.photo_table import PhotoTable
from geofix_train.predictions import NUM_BEST, ORIGINAL, CodesFacts, errors_m, read_predictions
from geofix_train.prototypes import PrototypeGrid
from geofix_train.report import report
from tests.geofix_train.tiny_data import LAT, LON
from tests.tiny_pack import TinyRegion

pytestmark = pytest.mark.xdist_group("town")

EYE = np.eye(4, dtype=np.float32)


@pytest.fixture
def codes() -> CellCodes:
    """Return codes of four cells under one prototype: cell i is found by axis i of four.

    The first two have a prototype alone, the others an aerial part alone.
    """
    cells = np.sort(s2.descendants([int(s2.cell_from_latlon(LAT, LON, level=15))], level=16))
    prototypes, aerial = EYE.copy(), EYE.copy()
    prototypes[2:], aerial[:2] = 0.0, 0.0
    num = np.ones(4, np.int64)
    return CellCodes(cells, prototypes, aerial, num, num.astype(np.float32), kappa=2.0)


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
        image_statistics=np.zeros((num, 12), np.float32),
    )  # fmt: skip


def found_cells(codes: CellCodes, answers: npt.NDArray[np.float64]) -> list[int]:
    """Return which cells' centres answers are."""
    centres = s2.latlon_from_cell(codes.cells)
    gaps = np.abs(answers[:, None] - centres).sum(axis=2)
    assert gaps.min(axis=1).max() == 0
    return [int(row) for row in gaps.argmin(axis=1)]


def test_each_method_answers_the_best_cell_of_its_own_database(
    codes: CellCodes, town_config: FitConfig
) -> None:
    encoded = encoded_by_hand(codes, town_config, [(0.1, 0.3, 0.2, 0.5), (0.3, 0.2, 0.9, 0.4)])
    answers = predict(encoded, codes).answers
    assert list(answers) == list(METHODS)
    cells = {method: found_cells(codes, a.latlon) for method, a in answers.items()}
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
    assert found_cells(codes, answers["prototypes"].latlon) == [
        1
    ]  # though zeros would score higher
    assert found_cells(codes, answers["aerial"].latlon) == [2]


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
    assert predictions.slices["place"].tolist() == ["unseen"] * 3
    assert predictions.slices["camera"].tolist() == ["unknown"] * 3
    assert predictions.sequence.tolist() == [""] * 3
    assert predictions.look.tolist() == [ORIGINAL] * 3


def test_the_best_cells_come_in_order_and_the_rest_is_empty(
    codes: CellCodes, town_config: FitConfig
) -> None:
    hybrid = predict(encoded_by_hand(codes, town_config, [(0.1, 0.3, 0.2, 0.5)]), codes).answers[
        "hybrid"
    ]
    order = [1, 3, 0, 2]  # kappa is 2: 0.6, 0.5, then 0.2 twice: the first goes first
    assert hybrid.cells[0].tolist() == [*codes.cells[order].tolist(), *[0] * 6]
    np.testing.assert_allclose(hybrid.scores[0, :4], [0.6, 0.5, 0.2, 0.2], rtol=1e-6)
    assert np.isnan(hybrid.scores[0, 4:]).all()


def test_the_bytes_of_a_database_are_those_of_what_it_knows(
    codes: CellCodes, town_config: FitConfig
) -> None:
    answers = predict(encoded_by_hand(codes, town_config, [EYE[1]]), codes).answers
    vector = 4 * 4  # four numbers of float32
    assert {method: a.database_bytes // vector for method, a in answers.items()} == {
        "image_nn": 2,  # training photos
        "mean_prototypes": 4,
        "prototypes": 2,
        "aerial": 2,
        "hybrid_kappa_1": 4,
        "hybrid": 4,
    }


def test_many_photos_are_searched_in_parts_to_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    cells = s2.descendants([int(s2.cell_from_latlon(LAT, LON, level=13))], level=16)
    database = Database.of_cells(cells, rng.normal(size=(len(cells), 8)).astype(np.float32))
    photos = rng.normal(size=(10, 8)).astype(np.float32)
    whole = database.answer(photos)
    monkeypatch.setattr("geofix_train.evaluate._SEARCHED_AT_ONCE", 3)
    np.testing.assert_array_equal(database.answer(photos).cells, whole.cells)


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
    answers = predict_on_device(pack_path, table)
    for answer, truth in zip(answers.latlon, latlon, strict=True):
        assert distance_m(LatLon(*answer), LatLon(*truth)) < 50
    assert answers.cells[:, 0].tolist() == region.cells[rows].tolist()
    assert (np.diff(answers.scores, axis=1) <= 0).all()
    assert answers.cells.shape == answers.scores.shape == (3, NUM_BEST)
    manifest = RegionPack.open(pack_path).manifest
    assert answers.database_bytes == sum(
        entry.num_bytes for name, entry in manifest.entries.items() if name.startswith("shards/")
    )


def test_pictures_are_localized_in_place_of_the_files(
    region: TinyRegion, pack_path: Path, tmp_path: Path
) -> None:
    table = PhotoTable.from_columns({"path": ["gone.png"], "lat": [LAT], "lon": [LON]})
    answers = predict_on_device(pack_path, table, photos=region.pictures[[3]])
    assert answers.cells[0, 0] == region.cells[3]


def test_a_run_is_evaluated_with_its_stored_codes_and_keeps_its_predictions(
    encoded: EncodedRun, town_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    finer = encode_run(run, level=17)
    few = replace(finer, cells=finer.cells[::9], aerial=finer.aerial[::9])
    stored = make_codes(few)
    write_cell_codes(stored, run / "codes" / "codes.safetensors")
    predictions = evaluate_run(run).predictions
    assert set(predictions.answers) == set(METHODS)
    np.testing.assert_array_equal(
        predictions.path, encoded.table.columns["path"][encoded.table.split == "test"]
    )
    assert len(found_cells(stored, predictions.answers["hybrid"].latlon)) == len(predictions)
    kept = read_predictions(run / "predictions-test.parquet")
    for method, answers in predictions.answers.items():
        np.testing.assert_array_equal(kept.answers[method].latlon, answers.latlon)


def test_a_run_without_stored_codes_is_evaluated_too(
    encoded: EncodedRun, town_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    predictions = evaluate_run(run, split="val").predictions
    wanted = predict(encoded, make_codes(encoded), split="val")
    for method, answers in wanted.answers.items():
        np.testing.assert_allclose(predictions.answers[method].latlon, answers.latlon)
    assert [path.name for path in run.glob("*.parquet")] == ["predictions-val.parquet"]


def test_other_codes_of_a_run_are_evaluated_beside_its_own(town_run: Path, tmp_path: Path) -> None:
    run, fine = tmp_path / "run", tmp_path / "fine"
    shutil.copytree(town_run, run)
    codes = make_codes(encode_run(run, level=17), kappa=0.5)
    write_cell_codes(codes, fine / "codes.safetensors")
    evaluate_run(run)
    evaluate_run(run, codes=fine)
    plain, finer = (read_predictions(folder / "predictions-test.parquet") for folder in (run, fine))
    assert plain.codes is not None
    assert plain.codes.cell_level == 16
    assert finer.codes == CodesFacts(0.5, BY_HAND, 0.0, 17, len(codes.cells), 42)
    assert len(found_cells(codes, finer.answers["hybrid"].latlon)) == len(plain)
    evaluate_run(run, codes=fine, keep_in=tmp_path / "kept")
    assert (tmp_path / "kept" / "predictions-test.parquet").exists()


def test_codes_of_another_run_are_refused(
    encoded: EncodedRun, town_run: Path, tmp_path: Path
) -> None:
    codes = make_codes(encoded, kappa=1.0)
    write_cell_codes(replace(codes, prototypes=-codes.prototypes), tmp_path / "codes.safetensors")
    with pytest.raises(CellCodesError, match="codes of another run, whose prototypes are not"):
        evaluate_run(town_run, codes=tmp_path)
    with pytest.raises(CellCodesError, match="no such file"):
        evaluate_run(town_run, codes=tmp_path / "none")


def test_degraded_photos_are_localized_beside_the_originals(town_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    predictions = evaluate_run(run, looks=["gray", "jpeg", "gray"]).predictions
    num = len(predictions.originals)
    assert predictions.look.tolist() == [ORIGINAL] * num + ["gray"] * num + ["jpeg"] * num
    gray = predictions[predictions.look == "gray"]
    np.testing.assert_array_equal(gray.path, predictions.originals.path)
    scores = [part.answers["hybrid"].scores for part in (gray, predictions.originals)]
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_a_town_is_reported_by_every_slice(town_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    predictions = evaluate_run(run, looks=LOOKS).predictions
    slices = report(predictions, num_resamples=20)["slices"]
    wanted = ("place", "area", "camera", "season", "year", "heading", "hfov", "look")
    assert set(wanted) <= set(slices)
    for name in wanted:
        for figures in slices[name].values():
            assert 0 <= figures["recall_at_m"]["hybrid"]["100"] <= 1
    assert list(slices["look"]) == [ORIGINAL, *LOOKS]
    assert set(slices["season"]) <= {"winter", "spring", "summer", "autumn"}


def test_a_table_says_itself_which_areas_it_held_out(encoded: EncodedRun) -> None:
    is_test = encoded.table.split == "test"
    columns = {n: c for n, c in encoded.table.columns.items() if n != "slice_area"}
    without = replace(encoded.table, columns=columns)
    own = {**columns, "slice_area": np.array(["held-out"] * len(without))}
    codes = make_codes(encoded, kappa=1.0)
    said, computed = (
        predict(replace(encoded, table=table), codes).slices["area"]
        for table in (replace(without, columns=own), without)
    )
    assert said.tolist() == ["held-out"] * int(is_test.sum())
    np.testing.assert_array_equal(computed, areas(without, level=15)[is_test])


def test_an_unknown_look_is_an_error_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="look is 'sepia', want one of gray, lowres, jpeg, blur"):
        evaluate_run(tmp_path / "none", looks=["sepia"])


def test_the_layers_show_the_photo_of_median_error(town_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(town_run, run)
    evaluation = evaluate_run(run)
    layers, predictions = evaluation.layers, evaluation.predictions
    errors = errors_m(predictions, "hybrid")
    assert (errors < errors[layers.row]).sum() <= len(errors) // 2
    assert (errors > errors[layers.row]).sum() <= len(errors) // 2
    best = layers.cells[layers.scores.argmax()]
    assert best == predictions.answers["hybrid"].cells[layers.row, 0]
    assert layers.photo.shape == (24, 32, 3)
    assert len(layers.cells) == len(layers.prototypes) == len(layers.scores)


@pytest.mark.parametrize("num", [1, 10])
def test_the_best_come_first_and_among_equals_those_of_the_first_rows(num: int) -> None:
    similarity = np.random.default_rng(0).integers(0, 4, (50, 30)).astype(np.float32)
    wanted = [sorted(range(30), key=lambda column: (-row[column], column)) for row in similarity]
    np.testing.assert_array_equal(_best(similarity, num), np.array(wanted)[:, :num])
