import json
import math
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import RESULTS
from benchmarks.report import DOCUMENT, render

RECORDS = sorted(RESULTS.glob("*.json"))
RECORD: dict[str, Any] = {
    "title": "Speed of light",
    "meaning": "In vacuum; slower in *glass*.",
    "command": "python -m benchmarks.light --vacuum",
    "values": [
        {"what": "speed", "value": 299792.458, "unit": "km/s"},
        {"what": "slower in glass", "value": 0.5, "unit": ""},
    ],
    "machine": {
        "cpu": "Abacus 3000", "cores": 7, "memory_gib": 5, "system": "Linux x86_64",
        "python": "3.12.1", "packages": {"numpy": "2.0.0"},
    },
    "date": "2026-01-31",
    "commit": "1234abc+",
}  # fmt: skip
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a record, with some fields changed."""

    def write_record(name: str, **changes: Any) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(RECORD | changes))
        return path

    return write_record


def read(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def test_a_section_shows_title_meaning_command_machine_date_and_commit(write: Write) -> None:
    text = render([write("light")])
    assert "\n## Speed of light\n" in text
    assert "\nIn vacuum; slower in *glass*.\n" in text
    wanted = "`python -m benchmarks.light --vacuum` on Abacus 3000, 7 cores, Python 3.12.1, "
    assert f"{wanted}2026-01-31, commit 1234abc+." in " ".join(text.split())


def test_values_are_a_table_with_their_units(write: Write) -> None:
    lines = render([write("light")]).splitlines()
    start = lines.index("| what | value |")
    assert [line.rstrip() for line in lines[start - 1 : start + 5]] == [
        "",
        "| what | value |",
        "|---|---|",
        "| speed | 299,792.458 km/s |",
        "| slower in glass | 0.5  |",
        "",
    ]


def test_values_of_rows_and_columns_are_a_table_of_both(write: Write) -> None:
    names = ("glass, thick: speed", "glass, thick: colour", "water: speed", "water: colour")
    values = [{"what": what, "value": at, "unit": "u"} for at, what in enumerate(names)]
    lines = render([write("light", values=values)]).splitlines()
    start = lines.index("| | speed | colour |")
    assert lines[start + 1 : start + 5] == [
        "|---|---|---|",
        "| glass, thick | 0 u | 1 u |",
        "| water | 2 u | 3 u |",
        "",
    ]
    for fewer in (values[:3], values[:2], values[::2], [*values, RECORD["values"][0]]):
        assert "| what | value |" in render([write("light", values=fewer)])


def test_records_follow_each_other_as_they_are_given(write: Write) -> None:
    text = render([write("b", title="Second"), write("a", title="First")])
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Second", "First"]
    assert text.startswith("# Results\n")
    assert text.endswith("\n")


@pytest.mark.parametrize("field", RECORD)
def test_a_record_that_lacks_a_field_is_an_error(tmp_path: Path, field: str) -> None:
    path = tmp_path / "light.json"
    path.write_text(json.dumps({name: value for name, value in RECORD.items() if name != field}))
    with pytest.raises(KeyError, match=field):
        render([path])


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_stored_record_has_all_that_the_report_shows(path: Path) -> None:
    record = read(path)
    assert set(RECORD) <= set(record)
    assert set(RECORD["machine"]) <= set(record["machine"])
    assert all(record[name].strip() for name in ("title", "meaning", "command"))
    assert date.fromisoformat(record["date"]).year >= 2026
    assert record["values"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_stored_record_says_what_was_measured_by_which_code(path: Path) -> None:
    record = read(path)
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", record["commit"])
    root = RESULTS.parents[1]
    programs = re.findall(r"python (?:-m ([\w.]+)|(\S+\.py))", record["command"])
    targets = re.findall(r"\bmake (\w+)", record["command"])
    assert programs or targets
    for module, program in programs:
        assert (root / (program or module.replace(".", "/") + ".py")).is_file()
    for target in targets:
        assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_stored_values_are_numbers_of_different_names_that_a_table_can_hold(path: Path) -> None:
    values = read(path)["values"]
    assert len({value["what"] for value in values}) == len(values)
    for value in values:
        assert math.isfinite(value["value"])
        assert "|" not in value["what"] + value["unit"]


def test_records_have_different_titles() -> None:
    titles = [read(path)["title"] for path in RECORDS]
    assert len(set(titles)) == len(titles) > 0


@pytest.mark.skipif(not DOCUMENT.exists(), reason="`make results` has not been run")
def test_the_document_is_what_the_records_give() -> None:
    assert DOCUMENT.read_text() == render(RECORDS), "run `make results`"
