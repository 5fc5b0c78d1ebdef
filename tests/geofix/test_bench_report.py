import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import geofix.bench
from geofix.bench import LatencyReport, StageLatency, read_report, read_results
from geofix.bench.report import MAX_SAMPLES
from tests.geofix.latency_reports import make_report

SCHEMA = Path(__file__).parents[2] / "docs" / "latency_report.schema.json"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """Return the published schema."""
    content = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def as_json(report: LatencyReport) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(report.to_json()))
    return content


def test_percentiles_are_those_of_all_calls() -> None:
    found = StageLatency.of([float(ms) for ms in range(1, 102)])
    percentiles = (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.max_ms)
    assert percentiles == (51, 91, 96, 100, 101)
    assert found.num == len(found.samples_ms) == 101


def test_a_long_run_keeps_samples_that_are_spread_over_it() -> None:
    found = StageLatency.of(list(np.arange(50_000) / 1000))
    assert found.num == 50_000
    assert len(found.samples_ms) == MAX_SAMPLES
    assert found.samples_ms[0] == 0
    assert found.samples_ms[-1] == found.max_ms
    assert found.p50_ms == pytest.approx(float(np.median(found.samples_ms)), abs=0.05)


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report = make_report()
    report.write(tmp_path / "new" / "out.json")
    assert read_report(tmp_path / "new" / "out.json") == report
    assert read_results(tmp_path / "new" / "out.json") == report
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.json"]


def test_a_file_has_a_line_a_field_and_not_a_line_a_sample(tmp_path: Path) -> None:
    report = make_report(label="[ 1,\n 2 ]", notes=("[\n 1,\n 2\n]",))
    report.write(tmp_path / "out.json")
    assert read_report(tmp_path / "out.json") == report
    assert len((tmp_path / "out.json").read_text().splitlines()) < 150


def test_the_schema_takes_what_is_written(schema: Draft202012Validator) -> None:
    assert list(schema.iter_errors(as_json(make_report()))) == []
    bare = make_report(pack=None, photos=None, memory=None, open_ms=None, first_call_ms=None)
    assert list(schema.iter_errors(as_json(bare))) == []


@pytest.mark.parametrize("field", as_json(make_report()))
def test_a_missing_field_is_refused_by_reader_and_schema(
    schema: Draft202012Validator, field: str
) -> None:
    content = as_json(make_report())
    del content[field]
    assert not schema.is_valid(content)
    with pytest.raises(ValueError, match=field.replace("_", ".")):
        LatencyReport.from_json(content)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("label",), 5),
        (("open_ms",), "fast"),
        (("open_ms",), True),
        (("notes",), "a text"),
        (("machine",), []),
        (("machine", "cores"), 2.5),
        (("machine", "packages"), ["numpy"]),
        (("machine", "cpu_features"), [1]),
        (("stages",), {}),
        (("stages", "encode"), None),
        (("stages", "encode", "samples_ms"), []),
        (("stages", "encode", "p50_ms"), None),
        (("stages", "lunch"), as_json(make_report())["stages"]["encode"]),
        (("pack", "num_bytes"), "many"),
    ],
)
def test_a_value_of_another_type_is_refused_by_reader_and_schema(
    schema: Draft202012Validator, place: tuple[str, ...], value: Any
) -> None:
    content = as_json(make_report())
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    assert not schema.is_valid(content)
    with pytest.raises(ValueError, match=place[0]):
        LatencyReport.from_json(content)


def test_numbers_that_are_not_finite_are_refused() -> None:
    content = as_json(make_report())
    content["open_ms"] = float("nan")
    with pytest.raises(ValueError, match=r"report\.open_ms is nan, want float"):
        LatencyReport.from_json(content)


def test_a_report_of_another_schema_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps(as_json(make_report()) | {"schema_version": 2}))
    with pytest.raises(ValueError, match=r"later\.json: schema version 2 .* reads 1: measure"):
        read_report(path)


@pytest.mark.parametrize("length", [0, 1, 500])
def test_a_half_written_report_says_so(tmp_path: Path, length: int) -> None:
    whole = tmp_path / "whole.json"
    make_report().write(whole)
    half = tmp_path / "half.json"
    half.write_bytes(whole.read_bytes()[:length])
    for read in (read_report, read_results):
        with pytest.raises(ValueError, match=r"half\.json: half-written"):
            read(half)


@pytest.mark.parametrize("content", ["{}", "3", '"text"', '{"format": "geofix-region-pack"}'])
def test_other_json_is_no_report(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json: no latency report"):
        read_report(path)


def test_bytes_that_are_no_text_are_no_report(tmp_path: Path) -> None:
    path = tmp_path / "photo.json"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="half-written or no JSON"):
        read_report(path)


def test_a_stopped_run_is_not_complete() -> None:
    assert make_report().is_complete
    assert not replace(make_report(), stopped="interrupted").is_complete


def test_the_public_names_are_sorted_and_there() -> None:
    names = geofix.bench.__all__
    assert sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name)) == names
    assert all(hasattr(geofix.bench, name) for name in names)
