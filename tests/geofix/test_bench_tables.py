"""Tables, plots and pages of reports."""

import csv
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from geofix.bench import Drift, LatencyReport, Power, Recall, Throughput
from geofix.bench.html import html_page
from geofix.bench.plots import card, distribution, latency_against_recall, stage_bars
from geofix.bench.svg import ticks
from geofix.bench.table import csv_text, headline, markdown, run_text
from tests.geofix.latency_reports import MEDIANS_MS, make_report

HOSTILE = 'a | b <script>alert("1")</script> & "c"'
FULL = make_report(
    label="Orin Nano 15 W",
    throughput=Throughput(4, 900, 301.5),
    drift=Drift(8.0, 8.4),
    power=Power("INA3221", "VDD_IN", 6.0, 7.5, 4.0, 0.0199),
    recall=Recall(80, 0.83, 42.0),
)


def encoder_alone() -> LatencyReport:
    report = make_report(label="Phone", pack=None, photos=None, memory=None, open_ms=None)
    return replace(report, stages={"encode": report.stages["encode"]}, notes=("no copies",))


def test_the_device_table_has_a_row_for_each_report() -> None:
    lines = markdown([FULL, make_report(), encoder_alone()]).splitlines()
    titles = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert [len(row) for row in rows] == [len(titles)] * 3
    orin = dict(zip(titles, rows[0], strict=True))
    assert orin["device"] == "Orin Nano 15 W"
    assert float(orin["fix p50 ms"]) == pytest.approx(MEDIANS_MS["total_array"], rel=0.05)
    assert (orin["fixes/s"], orin["threads"], orin["within 100 m"]) == ("301.5", "4", "0.83")
    assert (orin["peak MB"], orin["W"], orin["mJ/fix"]) == ("90", "6.00", "19.90")
    phone = dict(zip(titles, rows[2], strict=True))
    assert (phone["fix p50 ms"], phone["pack MB"]) == ("", "")
    assert float(phone["encoder p50 ms"]) == pytest.approx(MEDIANS_MS["encode"], rel=0.05)


def test_columns_that_no_report_fills_are_left_out() -> None:
    titles = markdown([make_report()]).splitlines()[0]
    assert "mJ/fix" not in titles
    assert "within 100 m" not in titles
    assert "fix p50 ms" in titles


def test_below_the_table_stands_what_was_measured() -> None:
    text = markdown([FULL, encoder_alone()])
    said = "1920 x 1080 pixels; pack town version 3, 614 cells; geofix 0.1.0; 2026-01-31."
    assert f"Orin Nano 15 W: {said}" in text
    assert "no copies." in text


def test_a_partial_run_is_marked_everywhere() -> None:
    partial = make_report(stopped="interrupted")
    for text in (
        markdown([partial]), csv_text([partial]), html_page([partial]), card([partial]),
        headline(partial),
    ):  # fmt: skip
        assert "partial: interrupted" in text


def test_csv_has_all_percentiles_of_all_stages() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([FULL, encoder_alone()]))))
    assert [row["stage"] for row in rows] == [*FULL.stages, "encode"]
    for row, stage in zip(rows, FULL.stages.values(), strict=False):
        assert float(row["p99_ms"]) == stage.p99_ms
        assert int(row["num"]) == stage.num


def test_a_run_answers_how_fast_in_its_first_line() -> None:
    lines = list(run_text(FULL))
    total = FULL.stages["total_array"]
    assert lines[0] == (
        f"Orin Nano 15 W: A fix takes {total.p50_ms:.1f} ms from an array of 1920 x 1080 pixels "
        f"(95 % within {total.p95_ms:.1f} ms)."
    )
    text = "\n".join(lines)
    for said in (
        "open          62 ms, first fix 9.2 ms",
        "90 MB at its peak, 80 MB steady",
        "301.5 fixes/s by 4 threads",
        "8.00 ms in the first quarter, 8.40 in the last",
        "6.00 W (VDD_IN, idle 4.00 W), 19.9 mJ a fix",
        "83 % within 100 m, median 42 m, 80 photos",
        "pack          town version 3, 614 cells, 1.50 MB, encoder 0.70 MB",
    ):
        assert said in text
    assert "The encoder takes" in headline(encoder_alone())
    assert "note          no copies" in "\n".join(run_text(encoder_alone()))


def test_words_of_a_label_stay_words() -> None:
    reports = [make_report(label=HOSTILE, recall=Recall(1, 1.0, 1.0))]
    assert r"a \| b" in markdown(reports)
    for text in (html_page(reports), card(reports)):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_the_page_stands_alone() -> None:
    page = html_page([FULL, encoder_alone()])
    assert re.findall(r"(?:src|href)=|url\(|@import", page) == []
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\s\"<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert page.count("<svg") == 3
    assert page.count("<h2>") == 2


def test_the_page_says_why_there_is_no_recall() -> None:
    page = html_page([make_report()])
    assert page.count("<svg") == 2
    assert "No photo said where it was taken" in page


def test_plots_are_well_formed() -> None:
    root = ElementTree.fromstring(card([FULL, make_report(), encoder_alone()]))
    assert root.tag.endswith("svg")
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for shape in root.iter():
        for name, limit in (("x", width), ("y", height), ("width", width), ("height", height)):
            assert 0 <= float(shape.attrib.get(name, 0)) <= limit


def test_bars_are_as_long_as_medians() -> None:
    shapes = stage_bars([make_report()]).shapes
    found = {
        part: float(width)
        for width, part in re.findall(r'width="([\d.]+)" height="18.0".*<title>(\w+):', "".join(
            f"{shape}\n" for shape in shapes[:-8]
        ))
    }  # fmt: skip
    ratio = found["encode"] / found["preprocess"]
    assert ratio == pytest.approx(MEDIANS_MS["encode"] / MEDIANS_MS["preprocess"], rel=0.05)


def test_each_device_has_a_curve_and_a_name() -> None:
    shapes = "\n".join(distribution([FULL, make_report(), encoder_alone()]).shapes)
    assert shapes.count('stroke-width="2"') == 3
    for name in ("Orin Nano 15 W", "Abacus 3000", "Phone"):
        assert f">{name}</text>" in shapes


def test_recall_is_drawn_where_it_is_known() -> None:
    drawing = latency_against_recall([FULL, make_report(), encoder_alone()])
    assert drawing is not None
    assert "\n".join(drawing.shapes).count("<circle") == 1
    assert latency_against_recall([make_report()]) is None


@pytest.mark.parametrize("top", [1e-3, 0.07, 1.0, 4.2, 5.0, 27.3, 999.0, 12345.0])
def test_marks_are_round_and_reach_the_top(top: float) -> None:
    marks = ticks(top)
    assert marks[0] == 0
    assert top <= marks[-1] * (1 + 1e-9)
    assert 3 <= len(marks) <= 7
    leading = f"{marks[1]:e}"[0]
    assert leading in "125"
