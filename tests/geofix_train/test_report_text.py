"""A report in words: tables that show the figures, and the folder with all files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix_train import photo_slices
from geofix_train.against import Against
from geofix_train.degrade import LOOKS
from geofix_train.predictions import ORIGINAL, PredictionsError
from geofix_train.report import DISTANCES_M, report
from geofix_train.report_text import markdown, write_report
from geofix_train.report_words import VALUES
from geofix_train.town import drives
from tests.geofix_train.hand_made import FACTS, PLACES, answers_off, predictions_of, six_photos
from tests.geofix_train.tables import rows_of


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
    assert seen[:3] == ["seen", "3", "3 (few)"]
    assert seen[3].startswith("100.0 ")
    assert unseen[3].startswith("0.0 ")
    assert "By heading" not in text
    assert "All photos have: heading known.\n" in text
    assert "\nseen: a training photo stands within 25 m; unseen: no training photo" in text


def test_what_photos_all_have_is_explained_too() -> None:
    slices = {"place": np.array(["unseen"] * 6)}
    text = markdown(report(replace(six_photos(), slices=slices)), pictures={})
    assert "All photos have: place unseen: no training photo stands within 25 m.\n" in text


def test_few_sequences_are_marked_and_many_are_not() -> None:
    weather = ["rain"] * 4 + ["sun"] * 5
    predictions = predictions_of({"north": answers_off([60.0] * 9)}, slices={"weather": weather})
    text = markdown(report(predictions), pictures={})
    _, rain, sun = rows_of(text, "By weather")
    assert (rain[2], sun[2]) == ("4 (few)", "5")
    assert "\nfew: fewer than 5 sequences, whose intervals say little.\n" in text
    assert "9 photos of 9 sequences. In brackets" in text
    few = markdown(
        report(replace(predictions, sequence=np.array(["a", "b", "c"] * 3))), pictures={}
    )
    assert "9 photos of 3 sequences: so few that the intervals say little. In brackets" in few


@pytest.mark.parametrize(
    ("change", "top", "meaning"),
    [
        (
            {},
            "kappa 4.73 (chosen on validation photos), shrink N0 0 (off); 1,234 cells of level 17; "
            "4,900 training photos",
            "aerial + kappa x prototype, kappa 4.73 (chosen on validation photos)\n",
        ),
        (
            {"kappa": 0.25, "kappa_choice": "given by hand", "shrink_photos": 8.0},
            "kappa 0.25 (given by hand), shrink N0 8; 1,234 cells",
            "kappa 0.25 (given by hand), times n / (n + 8) where n photos made the prototype\n",
        ),
        (
            {"kappa": 1.0, "kappa_choice": "no validation photos"},
            "kappa 1 (no validation photos), shrink",
            "kappa 1 (no validation photos)\n",
        ),
        (
            {"kappa": float("inf"), "kappa_choice": "given by hand"},
            "kappa infinite (given by hand), shrink",
            "prototypes alone, since kappa is infinite\n",
        ),
    ],
)
def test_a_report_says_at_its_top_which_codes_it_is_of(
    change: dict[str, Any], top: str, meaning: str
) -> None:
    answers = {"hybrid": answers_off([10.0, 20.0])}
    predictions = replace(predictions_of(answers), codes=replace(FACTS, **change))
    text = markdown(report(predictions), pictures={})
    assert text.splitlines()[2].startswith(f"Cell codes: {top}")
    assert "* `hybrid`: " in text
    assert meaning in text


def test_codes_that_nothing_is_known_of_are_not_said_to_be_validated() -> None:
    text = markdown(report(predictions_of({"hybrid": answers_off([10.0])})), pictures={})
    assert "Cell codes: not told.\n" in text
    assert "`hybrid`: aerial + kappa x prototype\n" in text


def test_a_report_compares_with_other_predictions(tmp_path: Path) -> None:
    better = predictions_of({"north": answers_off([10.0] * 6)}, slices={"place": PLACES})
    other = Against("runs/other", replace(six_photos(), codes=FACTS))
    figures = write_report(better, tmp_path, against=other)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    text = (tmp_path / "report.md").read_text()
    assert "Cell codes there: kappa 4.73" in text
    head, north = rows_of(text, "Against runs/other")
    assert head == ["method", "100 m", "200 m"]
    assert north[0] == "`north`"
    assert north[1].startswith("+50.0 [")
    assert "Within 100 m, clear of zero: `north` (more photos); not told from zero: none." in text


def test_nothing_is_written_where_the_photos_differ(tmp_path: Path) -> None:
    other = Against("runs/other", six_photos()[np.arange(5)])
    with pytest.raises(PredictionsError, match="other photos"):
        write_report(six_photos(), tmp_path / "report", against=other)
    assert not (tmp_path / "report").exists()


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
    assert "\nseen: a training photo stands within 25 m; unseen: none does, but there" in text
    assert "held-out" not in text
    assert "No method here is told the field of view" not in text
    slices["area"] = ["driven street"] * 3 + ["district without photos"] * 3
    own = markdown(report(replace(six_photos(), slices=slices_of(slices))), pictures={})
    assert "\ndriven street: training photos were taken along this street" in own
    assert "district without photos: none was taken in this district" in own
    assert "held-out" not in own
    slices["area"] = ["old town"] * 3 + ["harbour"] * 3
    other = markdown(report(replace(six_photos(), slices=slices_of(slices))), pictures={})
    assert "\nAreas are those of the table's column slice_area.\n" in other


def test_every_name_that_we_give_ourselves_is_explained() -> None:
    assert set(VALUES["area"]) == {*photo_slices.AREAS, *drives.AREAS}
    assert set(VALUES["look"]) == {ORIGINAL, *LOOKS}


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
