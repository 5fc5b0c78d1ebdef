"""Paired differences of recall, beside plain loops over draws, and the words made of them."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from geofix_train.order import CLAIMS, database_shares
from geofix_train.predictions import Answers, Predictions
from geofix_train.report import report
from geofix_train.report_text import markdown
from tests.geofix_train.hand_made import answers_off, predictions_of, six_photos, truth
from tests.geofix_train.tables import rows_of

METHODS = ("hybrid", "hybrid_kappa_1", "aerial", "prototypes", "mean_prototypes", "image_nn")
NUM, NUM_RESAMPLES, SEED = 120, 400, 3


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """Return 120 photos of 24 sequences; each method is off by its own distances.

    The better methods share most hits with the worse; hybrid and hybrid_kappa_1 are alike.
    """
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, NUM)  # how hard each photo is, to all methods alike
    reach = dict(zip(METHODS, (0.64, 0.64, 0.4, 0.5, 0.45, 0.3), strict=True))
    answers: dict[str, Answers] = {}
    for method, share in reach.items():
        noise = rng.normal(0, 0.05, NUM) * (method != "hybrid_kappa_1")
        off_m = np.where(hard + noise < share, 60.0, np.where(hard < 0.8, 150.0, 400.0))
        answers[method] = answers_off(off_m.tolist(), num_bytes=1000 * (7 - len(answers)))
    return predictions_of(answers, sequence=[str(row // 5) for row in range(NUM)])


def distance_m(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Return the distance by the haversine formula."""
    (lat, lon), (other_lat, other_lon) = np.radians(one), np.radians(other)
    h = math.sin((other_lat - lat) / 2) ** 2
    h += math.cos(lat) * math.cos(other_lat) * math.sin((other_lon - lon) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(h))


def share_found(predictions: Predictions, method: str, rows: list[int], within_m: float) -> float:
    answers = predictions.answers[method].latlon
    found = [distance_m(answers[row], predictions.latlon[row]) <= within_m for row in rows]
    return sum(found) / len(found)


@pytest.mark.parametrize("claim", CLAIMS, ids=" - ".join)
def test_differences_and_intervals_are_those_of_loops_over_draws(
    predictions: Predictions, claim: tuple[str, str]
) -> None:
    figures = report(predictions, num_resamples=NUM_RESAMPLES, seed=SEED)
    (got,) = [d for d in figures["differences"] if (d["method"], d["other"]) == claim]
    names = sorted(set(predictions.sequence.tolist()))
    rows_by_name = {n: np.flatnonzero(predictions.sequence == n).tolist() for n in names}
    rng = np.random.default_rng(SEED)
    times = rng.multinomial(len(names), [1 / len(names)] * len(names), size=NUM_RESAMPLES)
    for within_m in (100, 200):
        hit = {
            method: [share_found(predictions, method, [row], within_m) for row in range(NUM)]
            for method in claim
        }
        measured = []
        for drawn in times:
            rows = [
                row
                for name, count in zip(names, drawn, strict=True)
                for row in rows_by_name[name] * int(count)
            ]
            shares = [sum(hit[method][row] for row in rows) / len(rows) for method in claim]
            measured.append(shares[0] - shares[1])
        whole = [sum(hit[method]) / NUM for method in claim]
        shown = got["recall_difference_at_m"][str(within_m)]
        assert shown == pytest.approx(whole[0] - whole[1], abs=1e-4)
        ends = got["recall_difference_at_m_interval95"][str(within_m)]
        assert ends == pytest.approx(np.quantile(measured, [0.025, 0.975]).tolist(), abs=1e-4)


def test_a_paired_interval_is_narrower_than_those_of_the_two_suggest(
    predictions: Predictions,
) -> None:
    figures = report(predictions)
    (of_difference,) = [
        d["recall_difference_at_m_interval95"]["100"]
        for d in figures["differences"]
        if d["other"] == "prototypes"
    ]
    ends = [figures["recall_at_m_interval95"][m]["100"] for m in ("hybrid", "prototypes")]
    widths = [high - low for low, high in ends]
    assert of_difference[1] - of_difference[0] < 0.8 * math.hypot(*widths)
    assert ends[0][0] < ends[1][1]  # the two intervals overlap
    assert of_difference[0] > 0  # and yet the difference is clear


def test_claims_of_methods_that_are_not_there_are_left_out(predictions: Predictions) -> None:
    some = {m: predictions.answers[m] for m in ("hybrid", "prototypes")}
    figures = report(replace(predictions, answers=some), num_resamples=10)
    assert [(d["method"], d["other"]) for d in figures["differences"]] == [("hybrid", "prototypes")]
    assert figures["database_share_of_image_nn"] == {}
    assert report(six_photos(), num_resamples=10)["differences"] == []
    assert "The order of the methods" not in markdown(report(six_photos()), pictures={})


def test_one_sequence_has_differences_without_intervals(predictions: Predictions) -> None:
    alone = replace(predictions, sequence=np.array(["a"] * NUM))
    figures = report(alone, num_resamples=10)
    for difference in figures["differences"]:
        assert difference["recall_difference_at_m_interval95"] == {"100": None, "200": None}
    assert "clear of zero: none; not told from zero: `hybrid`" in markdown(figures, pictures={})


def test_databases_are_measured_by_that_of_the_nearest_photo(predictions: Predictions) -> None:
    shares = database_shares(predictions)
    assert shares["image_nn"] == 1.0
    assert shares["hybrid"] == 3.5  # 7000 bytes over 2000


def test_markdown_shows_the_order_and_says_which_differences_are_clear(
    predictions: Predictions,
) -> None:
    off_m = np.where(np.arange(NUM) % 3 == 0, 50.0, 500.0)
    on_device = answers_off(off_m.tolist(), num_bytes=500, latlon=truth(NUM))
    figures = report(predictions.with_answers("on_device", on_device))
    text = markdown(figures, pictures={})
    head, *rows = rows_of(text, "The order of the methods")
    assert head == ["method", "100 m, %", "200 m, %", "database", "of `image_nn`'s"]
    order = [*METHODS, "on_device"]
    assert [row[0] for row in rows[:7]] == [f"`{method}`" for method in order]
    for row, method in zip(rows, order, strict=False):
        share = 100 * figures["recall_at_m"][method]["200"]
        assert row[2].startswith(f"{share:.1f} [")
    assert [row[4] for row in rows[:7]] == ["3.5", "3", "2.5", "2", "1.5", "1", "0.25"]
    assert "`on_device` is what ships" in text
    assert rows[7][0] == "difference"
    assert [row[0] for row in rows[9:]] == [f"`{one}` - `{other}`" for one, other in CLAIMS]
    first = figures["differences"][1]
    low, high = (100 * end for end in first["recall_difference_at_m_interval95"]["200"])
    share = 100 * first["recall_difference_at_m"]["200"]
    assert rows[10][2] == f"{share:+.1f} [{low:+.1f}, {high:+.1f}]"
    (words,) = [line for line in text.splitlines() if line.startswith("* Within 100 m")]
    clear, _, open_ = words.partition("; not told from zero: ")
    assert "`hybrid` - `aerial` (more photos)" in clear
    assert "`hybrid` - `image_nn` (more photos)" in clear
    assert "`hybrid` - `hybrid_kappa_1`" in open_


def test_a_method_that_finds_fewer_photos_is_said_to(predictions: Predictions) -> None:
    swapped = {
        **predictions.answers,
        "hybrid": predictions.answers["image_nn"],
        "image_nn": predictions.answers["hybrid"],
    }
    text = markdown(report(replace(predictions, answers=swapped)), pictures={})
    assert "`hybrid` - `image_nn` (fewer photos)" in text
