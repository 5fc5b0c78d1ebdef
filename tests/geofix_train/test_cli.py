"""`geofix-train` from the words of its command line to its files, its lines and its exit status."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geofix
import geofix_train.fit
import geofix_train.progress
import geofix_train.town
from geofix_train.model import best_device, device_name
from geofix_train.photo_table import PhotoTable
from tests.command_line import Run, failure
from tests.geofix_train.tiny_data import (
    FRAME,
    HALF_M,
    make_table,
    tiny_config,
    write_data,
    write_toml,
)

COMMANDS = ("town", "import", "check", "fit", "codes", "evaluate")
README = Path(__file__).parents[2] / "README.md"
NUM = 40


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
        r"geofix-train: fit: step 4 of 4 \(100%\), loss=\d+\.\d{3}, about 0 s left", lines[-2]
    )
    assert re.fullmatch(r"geofix-train: trained: 4 steps, loss=\d+\.\d{3}", lines[-1])


def test_fit_says_at_once_what_a_table_without_splits_lacks(run: Run, tmp_path: Path) -> None:
    folder = write_data(tmp_path, split=[""] * NUM)
    toml = write_toml(tiny_config(folder / "photos.parquet", epochs=1), tmp_path / "my.toml")
    outcome = run("fit", toml, "-o", tmp_path / "run")
    val, test, start, _ = outcome.err.splitlines()
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


def test_fit_names_the_row_whose_coordinates_are_swapped(run: Run, tmp_path: Path) -> None:
    latlon = FRAME.latlon(np.random.default_rng(0).uniform(-HALF_M, HALF_M, (NUM, 2)))
    latlon[5] = latlon[5, ::-1]
    folder = write_data(tmp_path, lat=latlon[:, 0], lon=latlon[:, 1])
    toml = write_toml(tiny_config(folder / "photos.parquet"), tmp_path / "my.toml")
    said = failure(run("fit", toml, "-o", tmp_path / "run"))
    assert "row 6 (005.png): lat 8.5" in said
    assert said.endswith("near them if swapped")


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
