"""`geofix-train` from the words of its command line to its files, its lines and its exit status."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geofix
import geofix_index.cells as s2
import geofix_train.fit
import geofix_train.progress
import geofix_train.town
from geofix.input_spec import InputSpec
from geofix_train.artifact import read_artifact
from geofix_train.cell_codes import read_cell_codes, read_queries
from geofix_train.cli import main
from geofix_train.model import best_device, device_name
from geofix_train.photo_table import PhotoTable
from tests.command_line import Outcome, Run, runner
from tests.geofix_train.tiny_data import (
    FRAME,
    HALF_M,
    make_table,
    tiny_config,
    write_data,
    write_toml,
)
from tests.tiny_pack import HEIGHT, WIDTH, make_onnx, projection

COMMANDS = ("town", "import", "check", "fit", "codes", "evaluate")
README = Path(__file__).parents[2] / "README.md"
NUM = 40
SPEC = InputSpec(width=WIDTH, height=HEIGHT, layout="nchw", dtype="float32", scale=(60.0,) * 3)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line and catches what it prints."""
    return runner(main, capsys)


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


def failure(outcome: Outcome) -> str:
    """Check that a command failed as commands do; return what it said."""
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("geofix-train: ")
    return outcome.err.removeprefix("geofix-train: ").rstrip("\n")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_each_command_has_help(run: Run, command: str) -> None:
    for flag in ("-h", "--help"):
        outcome = run(*command.split(), flag)
        assert outcome.status == 0
        assert outcome.out.startswith(f"usage: geofix-train {command}".rstrip())
        assert len(outcome.out.splitlines()) > 3
        assert outcome.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_stands_in_the_readme(command: str) -> None:
    assert f"| `geofix-train {command} " in README.read_text()


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == (0, f"geofix {geofix.__version__}\n", "")


def test_town_draws_what_was_asked_for_and_tells_the_splits(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Path, dict[str, Any]]] = []

    def make_town(out: Path, **arguments: Any) -> PhotoTable:
        drawn.append((out, arguments))
        return make_table(tmp_path / "photos", num=NUM)

    monkeypatch.setattr(geofix_train.town, "make_town", make_town)
    out = tmp_path / "town"
    outcome = run(
        "town", out, "--size-km", "0.9", "--photos", "77", "--seed", "5", "--photographed", "0.5"
    )
    assert outcome == (0, f"{out}: 40 photos (32 train, 4 val, 4 test)\n", "")
    run("town", out)
    assert drawn == [
        (out, {"size_km": 0.9, "num_photos": 77, "seed": 5, "photographed": 0.5}),
        (out, {"size_km": 1.5, "num_photos": 4000, "seed": 1, "photographed": 1.0}),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size-km", "0.5"], "--size-km is 0.5, want 0.8 to 20"),
        (["--photos", "10"], "--photos is 10, want at least 50"),
        (["--seed", "-3"], "--seed is -3, want 0 or more"),
    ],
)
def test_town_names_a_number_out_of_range(
    run: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    assert failure(run("town", tmp_path / "town", *words)) == message


def test_town_leaves_a_folder_alone_that_holds_something(run: Run, data: Path) -> None:
    said = failure(run("town", data))
    assert said == f"{data} is not empty: choose another folder or remove it"


def test_fit_prints_the_run_folder_and_goes_on_with_a_run(run: Run, fitted: Path) -> None:
    outcome = run("fit", fitted.parent / "my.toml", "-o", fitted)
    said = "geofix-train: finished already: 4 of 4 steps\n"
    assert outcome == (0, f"{fitted}\n", said)
    assert len((fitted / "log.jsonl").read_text().splitlines()) == 4


def test_a_run_is_named_after_its_settings_where_nothing_is_said(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(data / "photos.parquet", epochs=1)
    outcome = run("fit", write_toml(config, tmp_path / "ours.toml"))
    assert (outcome.status, outcome.out) == (0, f"{Path('runs') / 'ours'}\n")
    assert (tmp_path / "runs" / "ours" / "checkpoint.safetensors").exists()


def test_fit_says_how_to_go_on_after_ctrl_c(
    run: Run, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(geofix_train.fit, "take_step", stop)
    outcome = run("fit", fitted.parent / "my.toml", "-o", tmp_path / "run")
    assert (outcome.status, outcome.out) == (130, "")
    start, stopped = outcome.err.splitlines()
    assert start == f"geofix-train: training on the {device_name(best_device())}, 4 steps"
    assert stopped == "geofix-train: stopped; the same command goes on from here"


def test_fit_refuses_settings_that_it_does_not_know(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[data]\nphotos = "photos.csv"\n[run]\nepoch = 3\n')
    said = failure(run("fit", tmp_path / "my.toml"))
    assert said.startswith(f"{tmp_path / 'my.toml'}: unknown key in [run]: 'epoch'; did you mean")


def test_fit_names_a_missing_table(run: Run, tmp_path: Path) -> None:
    toml = write_toml(tiny_config(tmp_path / "none.csv"), tmp_path / "my.toml")
    said = failure(run("fit", toml, "-o", tmp_path / "run"))
    assert said == f"{tmp_path / 'none.csv'}: no such file"


def test_fit_names_a_missing_photo_and_trains_without_it_where_asked(
    run: Run, tmp_path: Path
) -> None:
    folder = write_data(tmp_path)
    (folder / "003.png").unlink()
    toml = write_toml(tiny_config(folder / "photos.parquet", epochs=1), tmp_path / "my.toml")
    said = failure(run("fit", toml, "-o", tmp_path / "run"))
    assert said == f"{folder / 'photos.parquet'}: row 4 (003.png): no such photo"
    outcome = run("fit", toml, "-o", tmp_path / "run", "--on-error", "skip")
    assert (outcome.status, outcome.out) == (0, f"{tmp_path / 'run'}\n")
    last = outcome.err.splitlines()[-1]
    assert last == "geofix-train: left out: row 4 (003.png): no such photo"


def test_fit_says_how_far_it_is_where_there_is_no_terminal(
    run: Run, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geofix_train.progress, "LINE_SECONDS", 0.0)
    outcome = run("fit", fitted.parent / "my.toml", "-o", tmp_path / "run")
    assert outcome.out == f"{tmp_path / 'run'}\n"
    lines = outcome.err.splitlines()
    assert re.fullmatch(r"geofix-train: photos: photo 1 of 32 \(3%\), about \d+ s left", lines[0])
    assert re.fullmatch(
        r"geofix-train: fit: step 4 of 4 \(100%\), loss=\d+\.\d{3}, about 0 s left", lines[-1]
    )


def test_fit_says_at_once_what_a_table_without_splits_lacks(run: Run, tmp_path: Path) -> None:
    folder = write_data(tmp_path, split=[""] * NUM)
    toml = write_toml(tiny_config(folder / "photos.parquet", epochs=1), tmp_path / "my.toml")
    outcome = run("fit", toml, "-o", tmp_path / "run")
    val, test, start = outcome.err.splitlines()
    assert outcome.status == 0
    table = folder / "photos.parquet"
    assert val.startswith(f"geofix-train: {table}: no photo has split 'val': kappa is not chosen")
    assert test == (
        f"geofix-train: {table}: no photo has split 'test': evaluate has nothing to measure with"
    )
    assert start.startswith("geofix-train: training on the ")


def test_fit_writes_no_run_among_other_files(run: Run, fitted: Path, data: Path) -> None:
    before = sorted(data.iterdir())
    said = failure(run("fit", fitted.parent / "my.toml", "-o", data))
    assert said == f"{data} holds files and no run: choose another folder, or remove it"
    assert sorted(data.iterdir()) == before
    said = failure(run("fit", fitted.parent / "my.toml", "-o", data / "photos.parquet"))
    assert said == f"{data / 'photos.parquet'}: is a file, want a folder for the run"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "3000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
    ids=["nothing", "a count", "a policy"],
)
def test_openmp_threads_do_not_wait_awake_for_long_unless_the_user_says_so(
    given: dict[str, str], wanted: str
) -> None:
    code = (
        "import os, sys; from geofix_train.cli import main; main(['check', 'none.csv']); "
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    others = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**others, **given},
    )  # fmt: skip
    assert done.stdout == f"{wanted} False\n"


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


def test_fit_names_the_row_whose_coordinates_are_swapped(run: Run, tmp_path: Path) -> None:
    latlon = FRAME.latlon(np.random.default_rng(0).uniform(-HALF_M, HALF_M, (NUM, 2)))
    latlon[5] = latlon[5, ::-1]
    folder = write_data(tmp_path, lat=latlon[:, 0], lon=latlon[:, 1])
    toml = write_toml(tiny_config(folder / "photos.parquet"), tmp_path / "my.toml")
    said = failure(run("fit", toml, "-o", tmp_path / "run"))
    assert "row 6 (005.png): lat 8.5" in said
    assert said.endswith("near them if swapped")


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
    assert outcome == (0, said, "")
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


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["paint"],
        ["town"],
        ["town", "out", "--photos", "many"],
        ["fit"],
        ["fit", "my.toml", "--on-error", "ignore"],
        ["codes"],
        ["codes", "run", "--encoder", "model.onnx"],
        ["codes", "--encoder", "model.onnx"],
        ["codes", "--encoder", "model.onnx", "--photos", "photos.csv"],
        ["codes", "run", "--level", "sixteen"],
        ["codes", "run", "--shrink", "some"],
        ["codes", "run", "--remix", "--level", "17"],
        ["codes", "run", "--codes", "other"],
        ["codes", "--encoder", "m.onnx", "--photos", "p.csv", "-o", "out", "--remix"],
        ["codes", "--encoder", "m.onnx", "--photos", "p.csv", "-o", "out", "--shrink", "3"],
        ["evaluate"],
        ["evaluate", "run", "--recall"],
        ["evaluate", "run", "--degrade", "sepia"],
        ["evaluate", "run", "--predictions", "file.parquet", "-o", "out"],
        ["evaluate", "--predictions", "file.parquet"],
        ["evaluate", "--predictions", "file.parquet", "-o", "out", "--pack", "town.geofix"],
        ["evaluate", "--predictions", "file.parquet", "-o", "out", "--degrade", "gray"],
        ["evaluate", "--predictions", "file.parquet", "-o", "out", "--codes", "other"],
    ],
    ids=" ".join,
)
def test_wrong_usage_has_exit_status_2(run: Run, words: list[str]) -> None:
    outcome = run(*words)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1].startswith("geofix-train")
