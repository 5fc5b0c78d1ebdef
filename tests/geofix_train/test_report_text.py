"""A report in words: tables that show the figures, and the folder with all files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geofix_train.report import DISTANCES_M, report
from geofix_train.report_text import markdown, table_text, write_report
from tests.geofix_train.hand_made import PLACES, answers_off, predictions_of, six_photos
from tests.geofix_train.tables import rows_of


def test_the_table_shows_the_figures_in_columns() -> None:
    head, north, exact = table_text(six_photos()).splitlines()
    assert head.split("  ")[0] == "method"
    assert all(f"{distance} m" in head for distance in DISTANCES_M)
    shares = ("16.7%", "33.3%", "50.0%", "66.7%", "83.3%", "100.0%")
    assert north.split() == ["north", *shares, "105", "m", "100.0%", "0.0%"]
    assert exact.split()[1:7] == ["100.0%"] * 6
    assert len(head) == len(north) == len(exact)


def test_the_table_has_a_dash_for_a_slice_without_photos() -> None:
    seen = replace(six_photos(), slices={"place": np.array(["seen"] * 6)})
    assert table_text(seen).splitlines()[1].split()[-2:] == ["50.0%", "-"]


def test_markdown_shows_figures_with_their_intervals() -> None:
    figures = report(six_photos())
    head, north, exact = rows_of(markdown(figures, pictures={}), "Photos found within")
    assert head == ["method", "database", *(f"{d} m" for d in DISTANCES_M), "median error, m"]
    low, high = figures["recall_at_m_interval95"]["north"]["100"]
    assert north[:2] == ["`north`", "1 kB"]
    assert north[4] == f"50.0 [{100 * low:.0f}, {100 * high:.0f}]"
    assert exact[1:3] == ["50 bytes", "100.0 [100, 100]"]
    assert exact[-1] == "0 [0, 0]"


def test_markdown_shows_the_k_best() -> None:
    answers = {"north": answers_off([300.0, 300.0], [300.0, 10.0])}
    figures = report(predictions_of(answers, sequence=["a", "a"]))
    head, north = rows_of(markdown(figures, pictures={}), "Photos found among")
    assert head[1:4] == ["k = 1, 100 m", "k = 5, 100 m", "k = 10, 100 m"]
    assert north[1:4] == ["0.0", "50.0", "50.0"]  # one sequence: no interval


def test_markdown_has_a_table_for_each_slice_that_parts_the_photos() -> None:
    slices = {"place": np.array(PLACES), "heading": np.array(["known"] * 6)}
    text = markdown(report(replace(six_photos(), slices=slices)), pictures={})
    head, seen, unseen = rows_of(text, "By place")
    assert head == ["place", "photos", "sequences", "`north`", "`exact`"]
    assert seen[:3] == ["seen", "3", "3"]
    assert seen[3].startswith("100.0 ")
    assert unseen[3].startswith("0.0 ")
    assert "By heading" not in text
    assert "All photos have: heading known.\n" in text


def test_slices_are_measured_by_what_hybrid_finds_of_seen_photos() -> None:
    answers = {"hybrid": answers_off([60.0, 60.0, 60.0, 300.0, 60.0, 300.0])}
    weather = ["rain", "sun", "sun", "sun", "fog", "fog"]
    predictions = predictions_of(
        answers, slices={"place": ["seen"] * 4 + ["unseen"] * 2, "weather": weather}
    )
    text = markdown(report(predictions), pictures={})
    head, seen, unseen = rows_of(text, "By place")
    assert head[-1] == "`hybrid`, of seen"
    assert (seen[-1], unseen[-1]) == ("1.00", "0.67")  # 3 of 4, 1 of 2
    _, fog, rain, sun = rows_of(text, "By weather")
    assert (fog[-1], rain[-1], sun[-1]) == ("0.67", "1.33", "0.89")


@pytest.mark.parametrize("found_m", [[900.0, 900.0, 60.0], [60.0, 900.0]])
def test_without_seen_photos_that_are_found_nothing_is_measured_by_them(
    found_m: list[float],
) -> None:
    place = ["seen", "seen", "unseen"] if len(found_m) == 3 else ["unseen", "held-out"]
    predictions = predictions_of({"hybrid": answers_off(found_m)}, slices={"place": place})
    head, *_ = rows_of(markdown(report(predictions), pictures={}), "By place")
    assert head == ["place", "photos", "sequences", "`hybrid`"]


def test_what_a_slice_does_not_tell_is_said_below_it() -> None:
    slices = {"heading": ["known"] * 3 + ["unknown"] * 3, "area": list(PLACES)}
    text = markdown(report(replace(six_photos(), slices=slices_of(slices))), pictures={})
    assert "No method is told the heading of the photo" in text
    assert "held-out: there are none" in text
    assert "No method here is told the field of view" not in text
    slices["area"] = ["driven street"] * 3 + ["district without photos"] * 3
    own = markdown(report(replace(six_photos(), slices=slices_of(slices))), pictures={})
    assert "By area" in own
    assert "held-out" not in own


def slices_of(slices: dict[str, list[str]]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in slices.items()}


def test_a_bar_in_a_value_does_not_end_its_column() -> None:
    slices = {"camera": np.array(["a|b"] * 3 + ["c"] * 3)}
    text = markdown(report(replace(six_photos(), slices=slices)), pictures={})
    assert "| a\\|b " in text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(999, "999 bytes"), (77_824, "77.8 kB"), (2_508_800, "2.51 MB"), (22_400_000_000, "22.4 GB")],
)
def test_bytes_are_told_in_units_that_fit(num_bytes: int, text: str) -> None:
    answers = {"north": answers_off([0.0], num_bytes=num_bytes)}
    rows = rows_of(markdown(report(predictions_of(answers)), pictures={}), "Photos found within")
    assert rows[1][1] == text


def test_a_report_from_predictions_alone_is_a_folder_of_files(tmp_path: Path) -> None:
    figures = write_report(six_photos(), tmp_path / "a" / "report")
    files = sorted(path.name for path in (tmp_path / "a" / "report").iterdir())
    assert files == ["errors.png", "recall.png", "report.json", "report.md"]
    assert json.loads((tmp_path / "a" / "report" / "report.json").read_text()) == figures
    assert figures == report(six_photos())
    text = (tmp_path / "a" / "report" / "report.md").read_text()
    assert all(f"]({name})" in text for name in files if name.endswith(".png"))


def test_figures_are_made_without_torch_and_matplotlib() -> None:
    code = (
        "import sys, geofix_train.report_text; print(*({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
