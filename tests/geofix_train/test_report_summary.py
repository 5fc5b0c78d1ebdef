"""What a terminal shows of a report: each figure has a name, the main ones an interval."""

from dataclasses import replace

import numpy as np

from geofix_train.against import Against, compare
from geofix_train.predictions import Predictions, join_predictions
from geofix_train.report import DISTANCES_M, report
from geofix_train.report_summary import summary_text
from tests.geofix_train.hand_made import FACTS, answers_off, predictions_of, six_photos


def blocks_of(predictions: Predictions) -> list[list[str]]:
    """Return the blocks of a summary, each as lines."""
    return [block.splitlines() for block in summary_text(report(predictions)).split("\n\n")]


def gray_photos() -> Predictions:
    """Return six photos of hand_made in gray, all found and all missed."""
    answers = {"north": answers_off([400.0] * 6), "exact": answers_off([0.0] * 6)}
    return replace(six_photos(), look=np.array(["gray"] * 6), answers=answers)


def test_it_begins_with_the_codes() -> None:
    first, *_ = blocks_of(replace(six_photos(), codes=FACTS))
    assert first == [
        "cell codes: kappa 4.73 (chosen on validation photos), shrink N0 0 (off); 1,234 cells of "
        "level 17; 4,900 training photos"
    ]
    assert blocks_of(six_photos())[0] == ["cell codes: not told"]


def test_the_main_figures_have_intervals() -> None:
    figures = report(six_photos())
    _, (title, head, north, exact), _ = blocks_of(six_photos())
    assert title == "6 photos of 6 sequences; found within, % [95 % interval]"
    assert head.split("  ")[0] == "method"
    assert all(f" {d} m" in head for d in DISTANCES_M)
    low, high = figures["recall_at_m_interval95"]["north"]["100"]
    shown = " ".join(north.split())
    assert shown.startswith(f"north 16.7 33.3 50.0 [{100 * low:.0f}, {100 * high:.0f}] 66.7 [")
    low, high = figures["median_error_m_interval95"]["north"]
    assert north.endswith(f"  105 [{low:.0f}, {high:.0f}]")
    assert exact.split()[:4] == ["exact", "100.0", "100.0", "100.0"]
    assert len(head) == len(north) == len(exact)


def test_seen_and_unseen_are_named_and_few_sequences_marked() -> None:
    *_, (title, head, north, _, seen, unseen) = blocks_of(six_photos())
    assert title == "of these, within 100 m, %"
    assert head.split() == ["method", "seen", "(few)", "unseen", "(few)"]
    assert north.split()[:2] == ["north", "100.0"]
    assert seen == (
        "seen: a training photo stands within 25 m (3 photos of 3 sequences: so few that the "
        "intervals say little)"
    )
    assert unseen.startswith("unseen: no training photo stands within 25 m (3 photos")


def test_many_sequences_are_not_marked() -> None:
    answers = {"north": answers_off([60.0] * 5)}
    *_, (_, head, _, seen) = blocks_of(predictions_of(answers, slices={"place": ["seen"] * 5}))
    assert head.split() == ["method", "seen"]
    assert seen.endswith("(5 photos of 5 sequences)")


def test_degraded_photos_have_a_column() -> None:
    *_, (_, head, north, exact, *told) = blocks_of(join_predictions([six_photos(), gray_photos()]))
    assert head.split() == ["method", "seen", "(few)", "unseen", "(few)", "gray"]
    assert north.endswith("  0.0 [0, 0]")
    assert exact.endswith("  100.0 [100, 100]")
    assert told[-1] == "gray: the same photos without colour (6 photos of 6 sequences)"


def test_methods_are_explained() -> None:
    answers = {"hybrid": answers_off([60.0] * 5), "north": answers_off([60.0] * 5)}
    _, (*_, north, told) = blocks_of(predictions_of(answers))
    assert north.startswith("north  ")
    assert told == "hybrid: aerial + kappa x prototype"


def test_photos_without_slices_have_one_table() -> None:
    assert len(blocks_of(predictions_of({"north": answers_off([10.0, 20.0])}))) == 2


def test_differences_from_another_evaluation_are_named() -> None:
    both = join_predictions([six_photos(), gray_photos()])
    other = replace(both, codes=FACTS)
    figures = {**report(both), "against": compare(both, Against("runs/b", other))}
    title, there, head, *rows = summary_text(figures).split("\n\n")[-1].splitlines()
    assert title == (
        "found more than in runs/b, in points of a hundred photos [paired 95 % interval]"
    )
    assert there.startswith("cell codes there: kappa 4.73")
    assert head.split() == ["method", "100", "m", "200", "m"]
    names = [row.split("  ")[0] for row in rows]
    assert names == ["north", "exact", "north, gray", "exact, gray"]
    assert all(row.endswith("+0.0 [+0.0, +0.0]") for row in rows)
