"""`geofix-train codes` from the words of its command line to its files and its lines."""

import json
from pathlib import Path

import numpy as np
import pytest

import geofix_index.cells as s2
from geofix.input_spec import InputSpec
from geofix_train.artifact import read_artifact
from geofix_train.cell_codes import read_cell_codes, read_queries
from tests.command_line import Outcome, Run, failure
from tests.geofix_train.tiny_data import (
    make_table,
    tiny_config,
    write_data,
    write_toml,
)
from tests.tiny_pack import HEIGHT, WIDTH, make_onnx, projection

NUM = 40
SPEC = InputSpec(width=WIDTH, height=HEIGHT, layout="nchw", dtype="float32", scale=(60.0,) * 3)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `model.onnx` and `spec.json`."""
    folder = tmp_path_factory.mktemp("encoder")
    weights = projection(np.random.default_rng(0), dim=16)
    (folder / "model.onnx").write_bytes(make_onnx(weights, spec=SPEC))
    (folder / "spec.json").write_text(json.dumps(SPEC.to_json()))
    return folder


def write_csv(folder: Path, *rows: str) -> Path:
    """Write photos of the tiny data set and a table of three of them, or of `rows`; return it."""
    table = make_table(folder, num=3)
    lines = [f"{row:03d}.png,{table.lat[row]},{table.lon[row]}" for row in range(3)]
    (folder / "photos.csv").write_text("\n".join(["path,lat,lon", *(rows or lines)]) + "\n")
    return folder / "photos.csv"


def test_codes_of_a_run_name_a_photo_that_is_gone(run: Run, tmp_path: Path, data: Path) -> None:
    folder = write_data(tmp_path)
    toml = write_toml(tiny_config(folder / "photos.parquet", epochs=1), tmp_path / "my.toml")
    run("fit", toml, "-o", tmp_path / "run")
    (folder / "003.png").unlink()
    missing = "row 4 (003.png): no such photo"
    for words in (("codes", tmp_path / "run"), ("evaluate", tmp_path / "run")):
        assert failure(run(*words)) == f"{folder / 'photos.parquet'}: {missing}"
    outcome = run("codes", tmp_path / "run", "--on-error", "skip")
    assert (outcome.status, outcome.err) == (0, f"geofix-train: left out: {missing}\n")
    outcome = run("evaluate", tmp_path / "run", "--on-error", "skip")
    assert (outcome.status, outcome.err) == (0, f"geofix-train: left out: {missing}\n")


def test_codes_and_queries_of_a_run_lie_in_its_folder(run: Run, fitted: Path) -> None:
    outcome = run("codes", fitted)
    codes = read_cell_codes(fitted / "codes" / "codes.safetensors")
    said = f"{fitted / 'codes'}: {len(codes.cells)} cells, kappa {codes.kappa:.3g}"
    assert (outcome.status, outcome.out.splitlines()[0]) == (0, said)
    queries = read_queries(fitted / "codes" / "queries.safetensors")
    assert len(queries.latlon) == len(queries.slices) == NUM // 10
    assert codes.num_photos.sum() == NUM * 8 // 10


def test_codes_take_level_and_kappa(run: Run, fitted: Path, tmp_path: Path) -> None:
    outcome = run("codes", fitted, "--level", "17", "--kappa", "0.25", "-o", tmp_path / "fine")
    codes = read_cell_codes(tmp_path / "fine" / "codes.safetensors")
    said, area = outcome.out.splitlines()
    assert said == f"{tmp_path / 'fine'}: {len(codes.cells)} cells, kappa 0.25"
    centres = s2.latlon_from_cell(codes.cells)
    low, high = centres.min(axis=0), centres.max(axis=0)
    assert area == f"from {low[0]:.4f}, {low[1]:.4f} to {high[0]:.4f}, {high[1]:.4f}"
    assert codes.kappa == 0.25
    assert set(s2.level_of(codes.cells).tolist()) == {17}


def test_codes_are_mixed_again_without_encoding(
    run: Run, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("codes", fitted, "-o", tmp_path / "mine")
    first = read_cell_codes(tmp_path / "mine" / "codes.safetensors")
    run("codes", fitted, "-o", tmp_path / "whole", "--kappa", "0.3", "--shrink", "4")
    monkeypatch.setattr(
        "geofix_train.codes.encode_run", lambda *given, **more: pytest.fail("encoded")
    )
    again = ("codes", fitted, "--codes", tmp_path / "mine", "--remix")
    outcome = run(*again, "--kappa", "0.3", "--shrink", "4")
    said = f"{tmp_path / 'mine'}: {len(first.cells)} cells, kappa 0.3 x n / (n + 4) for n photos\n"
    assert (outcome.status, outcome.out) == (0, said)
    assert outcome.err.startswith(f"geofix-train: replaces {tmp_path / 'mine'}: {len(first.cells)}")
    assert "chosen on validation photos; reports so far are of those" in outcome.err
    mixed, whole = (
        read_cell_codes(tmp_path / name / "codes.safetensors") for name in ("mine", "whole")
    )
    np.testing.assert_array_equal(mixed.cell_codes, whole.cell_codes)
    assert mixed.mixing == {"kappa": 0.3, "shrink_photos": 4.0}
    run(*again)  # what validation chooses, as at first
    back = read_cell_codes(tmp_path / "mine" / "codes.safetensors")
    assert back.mixing == first.mixing
    np.testing.assert_array_equal(back.cell_codes, first.cell_codes)


def test_codes_of_a_run_are_mixed_again_into_another_folder(
    run: Run, fitted: Path, tmp_path: Path
) -> None:
    run("codes", fitted)
    kept = (fitted / "codes" / "codes.safetensors").read_bytes()
    outcome = run("codes", fitted, "--remix", "--kappa", "0.7", "-o", tmp_path / "loud")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.endswith("kappa 0.7\n")
    assert read_cell_codes(tmp_path / "loud" / "codes.safetensors").kappa == 0.7
    for name in ("codes", "loud"):  # what is mixed can be packed, too
        folder = (fitted if name == "codes" else tmp_path) / name
        assert len(read_queries(folder / "queries.safetensors").latlon) == NUM // 10
    assert (fitted / "codes" / "codes.safetensors").read_bytes() == kept


def test_there_must_be_codes_to_mix_again(run: Run, fitted: Path, tmp_path: Path) -> None:
    said = failure(run("codes", fitted, "--codes", tmp_path, "--remix"))
    assert said == f"{tmp_path / 'codes.safetensors'}: no such file: make it by geofix-train codes"
    assert failure(run("codes", fitted, "--shrink", "-1")).endswith("want 0 photos or more")


def test_codes_of_a_folder_that_holds_no_run_are_an_error(run: Run, tmp_path: Path) -> None:
    assert failure(run("codes", tmp_path)).startswith(f"{tmp_path}: no config.json, want a run")


def test_codes_without_training_are_made_from_photos_and_an_encoder(
    run: Run, encoder: Path, data: Path, tmp_path: Path
) -> None:
    outcome = run(
        *("codes", "--encoder", encoder / "model.onnx", "--input-spec", encoder / "spec.json"),
        *("--photos", data / "photos.parquet", "-o", tmp_path / "mine"),
    )
    codes = read_cell_codes(tmp_path / "mine" / "codes.safetensors")
    assert outcome.out.startswith(
        f"{tmp_path / 'mine'}: {len(codes.cells)} cells of level 16 from {NUM * 8 // 10} photos, "
        f"16 dimensions; {NUM // 10} photos kept aside"
    )
    assert outcome.status == 0
    assert len(read_queries(tmp_path / "mine" / "queries.safetensors").latlon) == NUM // 10
    assert read_artifact(tmp_path / "mine" / "encoder").dim == codes.cell_codes.shape[1] == 16


@pytest.fixture
def codes_of(run: Run, encoder: Path, tmp_path: Path) -> Run:
    """Return a function that makes codes from a table by the encoder."""

    def make(table: Path, *words: object) -> Outcome:
        named = ("--encoder", encoder / "model.onnx", "--input-spec", encoder / "spec.json")
        return run("codes", *named, "--photos", table, "-o", tmp_path / "mine", *words)

    return make


def test_a_missing_photo_stops_and_is_named(codes_of: Run, tmp_path: Path) -> None:
    table = write_csv(tmp_path)
    (tmp_path / "001.png").unlink()
    assert failure(codes_of(table)) == f"{table}: row 2 (001.png): no such photo"


def test_a_missing_photo_is_left_out_and_named_where_asked(codes_of: Run, tmp_path: Path) -> None:
    table = write_csv(tmp_path)
    (tmp_path / "001.png").unlink()
    outcome = codes_of(table, "--on-error", "skip")
    assert outcome.status == 0
    assert outcome.err == "geofix-train: left out: row 2 (001.png): no such photo\n"
    codes = read_cell_codes(tmp_path / "mine" / "codes.safetensors")
    assert codes.num_photos.sum() == 2


def test_swapped_coordinates_name_the_row(codes_of: Run, tmp_path: Path) -> None:
    rows = ("000.png,47.37,8.54", "001.png,47.37,8.54", "002.png,8.54,47.37")
    said = failure(codes_of(write_csv(tmp_path, *rows)))
    wanted = "row 3 (002.png): lat 8.54, lon 47.37 lie far from all other photos and near them if"
    assert said == f"{tmp_path / 'photos.csv'}: {wanted} swapped"


def test_a_spec_of_another_model_is_an_error_of_one_line(
    run: Run, encoder: Path, tmp_path: Path
) -> None:
    table, spec = write_csv(tmp_path), tmp_path / "spec.json"
    words = ("--encoder", encoder / "model.onnx", "--photos", table, "-o", tmp_path / "mine")
    for change in ({"input_name": "pixels"}, {"width": 48}, {"layout": "nhwc"}, {"widht": 32}):
        spec.write_text(json.dumps({**SPEC.to_json(), **change}))
        assert len(failure(run("codes", *words, "--input-spec", spec))) > 30
    spec.write_text(json.dumps({**SPEC.to_json(), "mean": [0.5] * 3, "scale": [0.5] * 3}))
    assert "pixels up to 510: mean and" in failure(run("codes", *words, "--input-spec", spec))
    spec.write_text("{")
    assert failure(run("codes", *words, "--input-spec", spec)).startswith(f"{spec}: not readable")
    assert "give --input-spec FILE" in failure(run("codes", *words))
    assert not (tmp_path / "mine").exists()
