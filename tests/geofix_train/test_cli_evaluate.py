"""`geofix-train evaluate` from the words of its command line to its files and its lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

from geofix_train.cli import main
from geofix_train.evaluate import METHODS
from geofix_train.predictions import read_predictions
from tests.command_line import Run, failure

NUM = 40  # photos of `data`
PICTURES = ("recall.png", "errors.png", "prototypes.png", "scores.png")


def test_evaluate_prints_a_table_of_all_methods_and_writes_a_report(run: Run, fitted: Path) -> None:
    outcome = run("evaluate", fitted)
    assert outcome.status == 0
    codes, (_, *table), (_, *parts), (folder,) = map(str.splitlines, outcome.out.split("\n\n"))
    assert codes[0].startswith("cell codes: kappa ")
    assert codes[0].endswith(" of level 16; 32 training photos")
    told = [f"{method}:" for method in METHODS]  # what each of them is
    assert [line.split()[0] for line in table] == ["method", *METHODS, *told]
    assert "hybrid" in [line.split()[0] for line in parts]
    assert folder == str(fitted / "report-test")
    assert set(read_predictions(fitted / "predictions-test.parquet").answers) == set(METHODS)
    files = {path.name for path in Path(folder).iterdir()}
    assert files == {"report.json", "report.md", *PICTURES}


def test_evaluate_prints_json_of_another_split_and_through_a_pack(
    run: Run, fitted: Path, pack_path: Path
) -> None:
    outcome = run("evaluate", fitted, "--split", "val", "--json", "--pack", pack_path)
    assert outcome.status == 0
    report = json.loads(outcome.out)
    assert report["num_queries"] == NUM // 10
    assert list(report["recall_at_m"]) == [*METHODS, "on_device"]
    assert outcome.out.count("\n") == 1
    assert (fitted / "predictions-val.parquet").exists()
    assert json.loads((fitted / "report-val" / "report.json").read_text()) == report


def test_a_report_is_made_again_from_saved_predictions_alone(
    run: Run, fitted: Path, pack_path: Path, tmp_path: Path
) -> None:
    looks = ("--degrade", "gray", "--degrade", "jpeg")
    first = run("evaluate", fitted, *looks, "--pack", pack_path, "--json", "-o", tmp_path / "a")
    kept = tmp_path / "a" / "predictions-test-gray-jpeg.parquet"
    again = run("evaluate", "--predictions", kept, "-o", tmp_path / "b", "--json")
    left_out = "prototypes.png and scores.png, the maps of all cells, which need the run folder"
    assert again == (0, first.out, f"geofix-train: left out: {left_out}\n")
    assert list(json.loads(again.out)["slices"]["look"]) == ["original", "gray", "jpeg"]
    assert not (tmp_path / "b" / "scores.png").exists()
    assert (tmp_path / "b" / "recall.png").exists()


def test_each_way_to_evaluate_keeps_predictions_of_its_own(
    run: Run, fitted: Path, tmp_path: Path
) -> None:
    run("codes", fitted)
    run("codes", fitted, "--remix", "--kappa", "0", "-o", tmp_path / "other")
    run("evaluate", fitted)
    plain = (fitted / "predictions-test.parquet").read_bytes()
    gray = run("evaluate", fitted, "--degrade", "gray", "--degrade", "gray")
    assert gray.out.splitlines()[-1] == str(fitted / "report-test-gray")
    assert "gray: the same photos without colour (4 photos" in gray.out
    assert (fitted / "predictions-test-gray.parquet").exists()
    other = run("evaluate", fitted, "--codes", tmp_path / "other")
    assert other.out.splitlines()[-1] == str(tmp_path / "other" / "report-test")
    assert other.out.startswith("cell codes: kappa 0 (given by hand), shrink N0 0 (off); ")
    run("evaluate", fitted, "--codes", tmp_path / "other", "-o", tmp_path / "report")
    for folder in ("other", "report"):
        kept = read_predictions(tmp_path / folder / "predictions-test.parquet")
        assert kept.codes is not None
        assert kept.codes.kappa == 0
    assert (fitted / "predictions-test.parquet").read_bytes() == plain


def test_evaluate_compares_with_what_was_evaluated_before(
    run: Run, fitted: Path, tmp_path: Path
) -> None:
    said = failure(run("evaluate", fitted, "--against", tmp_path))
    assert said.startswith(f"{tmp_path / 'predictions-test.parquet'}: no such file: evaluate that")
    run("codes", fitted)
    run("evaluate", fitted, "-o", tmp_path / "first")
    run("codes", fitted, "--remix", "--kappa", "0", "-o", tmp_path / "other")
    against = ("--against", tmp_path / "first")
    outcome = run("evaluate", fitted, "--codes", tmp_path / "other", *against)
    title, _, _, *rows = outcome.out.split("\n\n")[-2].splitlines()
    assert title.startswith(f"found more than in {tmp_path / 'first'}, in points")
    assert [row.split()[0] for row in rows] == list(METHODS)
    kept = ("--predictions", tmp_path / "other" / "predictions-test.parquet")
    again = run("evaluate", *kept, *against, "-o", tmp_path / "again", "--json")
    written = tmp_path / "other" / "report-test" / "report.json"
    assert json.loads(again.out) == json.loads(written.read_text())
    by_method = {d["method"]: d for d in json.loads(again.out)["against"]["differences"]}
    assert by_method["aerial"]["recall_difference_at_m"] == {"100": 0.0, "200": 0.0}


def test_other_photos_are_not_compared(run: Run, fitted: Path, tmp_path: Path) -> None:
    run("evaluate", fitted, "--split", "val", "-o", tmp_path)
    said = failure(run("evaluate", fitted, "--against", tmp_path / "predictions-val.parquet"))
    assert "other photos: 4 here, of which 4 are not there" in said


def test_a_reader_that_has_had_enough_is_no_error(fitted: Path, tmp_path: Path) -> None:
    main(["evaluate", str(fitted), "-o", str(tmp_path)])
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from geofix_train.cli import main; sys.exit(main())"
    words = ["evaluate", "--predictions", tmp_path / "predictions-test.parquet", "-o", tmp_path]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert done.returncode == 141
    assert b"ipe" not in done.stderr


def test_evaluate_names_a_file_that_holds_no_predictions(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text("path,lat,lon\n")
    said = failure(run("evaluate", "--predictions", table, "-o", tmp_path / "report"))
    assert said.startswith(f"{table}: unreadable")


def test_evaluate_names_a_split_without_photos(run: Run, fitted: Path) -> None:
    said = failure(run("evaluate", fitted, "--split", "none"))
    assert said.endswith("no photo has split 'none'; photos by split: 4 test, 32 train, 4 val")


def test_evaluate_names_a_pack_that_is_not_there(run: Run, fitted: Path) -> None:
    missing = fitted / "none.geofix"
    assert str(missing) in failure(run("evaluate", fitted, "--pack", missing))
