"""`geofix bench` from the words of its command line to what it prints and its exit status."""

import json
from pathlib import Path

import pytest

import geofix.bench
from geofix.bench import MovingPrior, read_report
from geofix.cli import main
from tests.command_line import Run, runner
from tests.geofix.latency_reports import make_report

TIMES = Path(__file__).parents[1] / "golden" / "trtexec" / "tensorrt10.json"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line and catches what it prints."""
    return runner(main, capsys)


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """Return files of two runs, the second slower by a fifth."""
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    make_report(label="before").write(paths[0])
    make_report(label="after", slower=1.2, seed=9).write(paths[1])
    return paths


def test_run_prints_a_table_and_writes_a_report(run: Run, pack_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = ["--duration", "0.2", "--threads", "2", "--label", "my box", "-o", out]
    outcome = run("bench", "run", pack_path, *words)
    assert outcome.status == 0
    assert outcome.err.count("\n") == 1
    report = read_report(out)
    assert report.is_complete
    assert report.label == "my box"
    lines = outcome.out.splitlines()
    assert lines[0].startswith("my box: A fix takes ")
    assert sum(line.startswith(("total from", "search with", "posterior")) for line in lines) == 5


def test_the_options_of_run_are_handed_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, object] = {}

    def measure(pack: Path, **options: object) -> geofix.bench.LatencyReport:
        seen.update(options, pack=pack)
        return make_report()

    monkeypatch.setattr(geofix.bench, "measure", measure)
    words = ["--images", tmp_path, "--backend", "onnx", "--encoder", "e.onnx", "--threads", "3"]
    outcome = run("bench", "run", "p", *words, "--prior", "-33.9,18.4,250", "--duration", "5")
    assert outcome.status == 0
    assert seen == {
        "pack": Path("p"), "images": tmp_path, "backend": "onnx", "encoder": Path("e.onnx"),
        "prior": MovingPrior(-33.9, 18.4, 250.0), "duration_s": 5.0, "num_threads": 3,
        "encoder_threads": 0, "label": "",
    }  # fmt: skip
    assert run("bench", "run", "p").status == 0
    assert (seen["duration_s"], seen["num_threads"], seen["images"]) == (20.0, 1, None)


@pytest.mark.parametrize(("stopped", "status"), [("interrupted", 130), ("RuntimeError", 1)])
def test_a_run_that_stopped_is_written_and_marked(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stopped: str, status: int
) -> None:
    monkeypatch.setattr(geofix.bench, "measure", lambda *_, **__: make_report(stopped=stopped))
    outcome = run("bench", "run", "p", "-o", tmp_path / "out.json")
    assert outcome.status == status
    assert read_report(tmp_path / "out.json").stopped == stopped
    assert f"(partial: {stopped})" in outcome.out.splitlines()[0]
    assert f"geofix: the run is partial: {stopped}" in outcome.err


def test_ctrl_c_before_anything_was_measured_leaves_no_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(geofix.bench, "measure", interrupted)
    outcome = run("bench", "run", "p", "-o", tmp_path / "out.json")
    assert (outcome.status, outcome.out) == (130, "")
    assert "interrupted before anything was measured" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--duration", "1e6"], "duration_s is 1000000"),
        (["--threads", "0"], "num_threads is 0"),
        (["--images", "absent"], "absent: no folder of images"),
        (["--prior", "0,0,500"], "admits no cell"),
        (["--backend", "coreml"], "no encoder for 'coreml'"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_in_a_line(
    run: Run, pack_path: Path, words: list[str], said: str
) -> None:
    outcome = run("bench", "run", pack_path, *words)
    assert (outcome.status, outcome.out) == (1, "")
    assert said in outcome.err.splitlines()[-1]


def test_a_prior_that_is_none_is_wrong_usage(run: Run, pack_path: Path) -> None:
    assert run("bench", "run", pack_path, "--prior", "north").status == 2
    assert run("bench", "run", pack_path, "--duration", "-3").status == 2
    assert run("bench", "run", pack_path, "--images", "x", "--synthetic").status == 2


@pytest.mark.parametrize(
    ("form", "start"),
    [([], "| device |"), (["--md"], "| device |"), (["--csv"], "device,"), (["--svg"], "<svg "),
     (["--html"], "<!DOCTYPE html>")],
)  # fmt: skip
def test_a_report_takes_runs_and_times_of_trtexec(
    run: Run, results: list[Path], tmp_path: Path, form: list[str], start: str
) -> None:
    outcome = run("bench", "report", *results, TIMES, *form)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(start)
    assert all(name in outcome.out for name in ("before", "after", "tensorrt10"))
    assert run("bench", "report", *results, TIMES, *form, "-o", tmp_path / "o") == (0, "", "")
    assert (tmp_path / "o").read_text() == outcome.out


def test_a_half_written_report_is_said_in_a_line(run: Run, results: list[Path]) -> None:
    results[1].write_text(results[1].read_text()[:100])
    for words in (["report"], ["compare"]):
        outcome = run("bench", *words, *results)
        assert (outcome.status, outcome.out) == (1, "")
        assert outcome.err.startswith(f"geofix: {results[1]}: half-written")
        assert outcome.err.count("\n") == 1


def test_compare_tells_ratios_and_fails_above_a_limit(run: Run, results: list[Path]) -> None:
    outcome = run("bench", "compare", *results)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("before: before\nafter:  after\n")
    assert run("bench", "compare", *results, "--fail-above", "1.5").status == 0
    failed = run("bench", "compare", *results, "--fail-above", "1.1")
    assert failed.status == 1
    assert failed.out == outcome.out
    assert "geofix: encode takes 1.1" in failed.err
    assert run("bench", "compare", *results[::-1], "--fail-above", "1.1").status == 0


def test_a_comparison_says_which_run_was_disturbed(run: Run, results: list[Path]) -> None:
    content = json.loads(results[1].read_text())
    results[1].write_text(json.dumps(content | {"notes": ["the machine was busy"]}))
    assert run("bench", "compare", *results).err == "geofix: after: the machine was busy\n"


def test_other_packs_and_versions_are_refused(run: Run, results: list[Path]) -> None:
    content = json.loads(results[1].read_text())
    content["pack"]["manifest_sha256"] = "0" * 64
    results[1].write_text(json.dumps(content))
    outcome = run("bench", "compare", *results)
    assert outcome.status == 1
    assert "different packs" in outcome.err
    results[1].write_text(json.dumps(content | {"schema_version": 99}))
    outcome = run("bench", "compare", *results)
    assert outcome.status == 1
    assert "schema version 99" in outcome.err


def test_imported_times_are_results(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "orin.json"
    words = ["--label", "Orin", "--runtime", "TensorRT 10.3", "--precision", "fp16", "-o", out]
    outcome = run("bench", "import", TIMES, *words)
    assert outcome.status == 0
    assert outcome.out.startswith("Orin: The encoder takes 1.3 ms")
    report = read_report(out)
    assert (report.label, report.runtime, report.precision) == ("Orin", "TensorRT 10.3", "fp16")
