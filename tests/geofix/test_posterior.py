import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix import calibration_fit
from geofix.calibration_fit import fit_calibration
from geofix.geo import LatLon, distance_m
from geofix.image_statistics import fit_statistics
from geofix.posterior import ELSEWHERE_SHARE, Calibration, Posterior, posterior
from geofix_index import Matches
from geofix_index import cells as s2

LEVEL = 16
EDGE_M = s2.mean_edge_m(LEVEL)
PLACES = [
    LatLon(47.37, 8.54),
    LatLon(-16.8, 180),
    LatLon(-16.8, -179.9999),
    LatLon(89.9999, 12),
    LatLon(-90, 0),
]
Cells = npt.NDArray[np.uint64]


def block(place: LatLon) -> Cells:
    """Return the cell of a place and those around it; at the cube's corners one is missing."""
    own = s2.cell_from_latlon(place.lat, place.lon, level=LEVEL)
    around = s2.neighbours(own)
    return np.append(own, around[around != 0])


def patch(num: int) -> Cells:
    """Return the cells of a level-10 cell, first ones on the curve."""
    return s2.descendants(s2.cell_from_latlon(47.37, 8.54, level=10), level=LEVEL)[:num]


def matches(cells: Cells, scores: npt.ArrayLike) -> Matches:
    """Return cells as a search would, best first."""
    values = np.asarray(scores, np.float32)
    order = np.argsort(-values, kind="stable")
    return Matches(cells[order], values[order])


def probable(found: Posterior) -> npt.NDArray[np.float64]:
    """Return the probabilities of a calibrated posterior."""
    assert found.probabilities is not None
    return found.probabilities


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40),
    st.floats(1e-3, 10),
    st.floats(-2, 2),
)
def test_probabilities_and_elsewhere_sum_to_one(
    scores: list[float], temperature: float, elsewhere: float
) -> None:
    found = matches(patch(len(scores)), scores)
    probabilities = probable(posterior(found, Calibration(temperature, elsewhere)))
    logits = np.append(found.scores.astype(float), elsewhere) / temperature
    wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(probabilities, wanted[:-1], atol=1e-12)
    assert probabilities.sum() + wanted[-1] == pytest.approx(1)


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40),
    st.sampled_from([0.003, 0.05, 1.0]),
    st.floats(-1, 1),
)
def test_a_larger_share_has_a_larger_radius(
    scores: list[float], temperature: float, elsewhere: float
) -> None:
    found = posterior(matches(patch(len(scores)), scores), Calibration(temperature, elsewhere))
    mass = probable(found).sum()
    assert (found.accuracy_m is None) == (mass < 0.68)
    assert (found.radius95_m is None) == (mass < 0.95)
    if found.radius95_m is not None:
        assert found.accuracy_m is not None
        assert 0 < found.accuracy_m <= found.radius95_m
    assert found.confidence is not None
    assert 0 <= found.confidence <= mass + 1e-9


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_covariance_is_symmetric_and_no_smaller_than_a_cells(scores: list[float]) -> None:
    found = posterior(matches(patch(len(scores)), scores), Calibration(0.1, 0))
    covariance = np.array(found.covariance_m2)
    assert (covariance == covariance.T).all()
    assert np.linalg.eigvalsh(covariance).min() >= EDGE_M**2 / 12 * (1 - 1e-9)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_one_dominating_cell_is_a_fix_of_about_half_a_cell(place: LatLon) -> None:
    cells = block(place)
    found = posterior(matches(cells, [1.0] + [0.0] * (len(cells) - 1)), Calibration(0.02, 0.3))
    assert found.status == "fixed"
    assert found.confidence == pytest.approx(1, abs=1e-6)
    assert distance_m(found.latlon, LatLon(*s2.latlon_from_cell(cells[0]).tolist())) < 0.1
    # A square of edge a holds 68 % within 0.465 a of its centre, and 95 % within 0.59 a.
    assert found.accuracy_m == pytest.approx(0.465 * EDGE_M, rel=0.2)
    assert found.radius95_m == pytest.approx(0.59 * EDGE_M, rel=0.2)
    assert np.array(found.covariance_m2) == pytest.approx(np.eye(2) * EDGE_M**2 / 12, abs=1)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_equal_neighbours_are_one_mode_around_their_middle(place: LatLon) -> None:
    cells = block(place)
    found = posterior(matches(cells, np.ones(len(cells))), Calibration(0.1, -1))
    assert found.status == "fixed"
    assert found.confidence == pytest.approx(1, abs=1e-3)
    assert distance_m(found.latlon, LatLon(*s2.latlon_from_cell(cells[0]).tolist())) < EDGE_M / 4
    # Nine cells: a square three times as wide, cells of a level differ in size.
    assert found.accuracy_m == pytest.approx(3 * 0.465 * EDGE_M, rel=0.35)
    assert np.diag(np.array(found.covariance_m2)) == pytest.approx(9 * EDGE_M**2 / 12, rel=0.5)


def test_the_fix_leans_towards_the_better_neighbour() -> None:
    cells = block(PLACES[0])[:2]
    found = posterior(matches(cells, [1.0, 0.9]), Calibration(0.1, -5))
    best, second = (LatLon(*centre) for centre in s2.latlon_from_cell(cells).tolist())
    share = 1 / (1 + math.e)
    assert distance_m(found.latlon, best) == pytest.approx(share * distance_m(best, second), 1e-3)


def test_two_far_places_are_ambiguous() -> None:
    cells = np.append(patch(1), s2.cell_from_latlon(47.5, 8.54, level=LEVEL))
    found = posterior(matches(np.repeat(cells, 1), [0.5, 0.5]), Calibration(0.01, 0))
    assert found.confidence == pytest.approx(0.5)
    assert found.accuracy_m is not None
    assert found.accuracy_m > 10_000
    more = np.append(cells, s2.cell_from_latlon(47.6, 8.54, level=LEVEL))
    assert posterior(matches(more, [0.5, 0.5, 0.5]), Calibration(0.01, 0)).status == "ambiguous"


def test_elsewhere_wins_where_nothing_matches() -> None:
    found = posterior(matches(patch(50), np.full(50, 0.1)), Calibration(0.03, 0.6))
    assert found.status == "unknown"
    assert found.accuracy_m is None
    assert found.radius95_m is None
    assert found.confidence is not None
    assert found.confidence < 0.01


def test_elsewhere_may_take_all_the_mass() -> None:
    found = posterior(matches(patch(3), [0, 0, 0]), Calibration(1e-6, 1))
    assert found.status == "unknown"
    assert found.confidence == 0
    assert np.isfinite(np.array(found.covariance_m2)).all()


def test_without_calibration_nothing_is_claimed() -> None:
    cells = patch(3)
    found = posterior(matches(cells, [0.1, 0.9, 0.5]), None)
    assert found.status == "ambiguous"
    assert found.latlon == LatLon(*s2.latlon_from_cell(cells[1]).tolist())
    nothing: list[Any] = [found.accuracy_m, found.radius95_m, found.covariance_m2]
    assert [*nothing, found.confidence, found.probabilities] == [None] * 5


@pytest.mark.parametrize(
    ("temperature", "elsewhere"), [(0, 0), (-1, 0), (math.inf, 0), (math.nan, 0), (1, math.nan)]
)
def test_a_calibration_that_is_none_is_an_error(temperature: float, elsewhere: float) -> None:
    with pytest.raises(ValueError, match="positive temperature"):
        Calibration(temperature, elsewhere)


def even_queries(num: int, *, seed: int) -> tuple[list[Matches], npt.NDArray[np.float64]]:
    """Draw scores whose posterior at temperature 0.05 the truth follows, anywhere in its cell."""
    found, truth = sampled_queries(0.05, num=num, seed=seed)
    rng = np.random.default_rng(seed)
    side = EDGE_M / 111_195 * 0.4  # degrees of latitude
    return found, truth + rng.uniform(-side, side, truth.shape)


def coverage(
    found: list[Matches], truth: npt.NDArray[np.float64], calibration: Calibration
) -> list[float]:
    """Return the shares of truths inside accuracy_m and radius95_m."""
    answers = [posterior(m, calibration) for m in found]
    errors_m = np.array(
        [distance_m(a.latlon, LatLon(*t)) for a, t in zip(answers, truth.tolist(), strict=True)]
    )
    radii_m = np.array([(a.accuracy_m, a.radius95_m) for a in answers], float)
    return [float(share) for share in (errors_m[:, None] <= radii_m).mean(axis=0)]


@pytest.mark.parametrize("temperature", [0.015, 0.025])
def test_radii_hold_their_share_though_the_temperature_is_off(temperature: float) -> None:
    off = Calibration(temperature, -9.0, levels=(0.68, 0.95))
    levels = calibration_fit._levels(*even_queries(600, seed=5), off)
    queries = even_queries(600, seed=6)
    assert coverage(*queries, replace(off, levels=levels)) == pytest.approx([0.68, 0.95], abs=0.05)
    assert coverage(*queries, off) != pytest.approx([0.68, 0.95], abs=0.08)


def test_few_queries_move_the_levels_little() -> None:
    found, truth = even_queries(2, seed=0)
    exact = Calibration(0.05, -9.0)
    assert calibration_fit._levels(found, truth, exact) == pytest.approx((0.68, 0.95), abs=0.07)


def test_a_photo_that_is_unknown_has_no_radius() -> None:
    told = Calibration(0.03, 0.6, levels=(0.68, 0.95))
    found = posterior(matches(patch(50), np.full(50, 0.1)), told)
    assert (found.status, found.accuracy_m, found.radius95_m) == ("unknown", None, None)
    doubtful = posterior(matches(patch(50), np.full(50, 0.5)), replace(told, elsewhere=0.5))
    assert doubtful.status != "unknown"
    assert doubtful.accuracy_m is not None


def test_a_query_beside_the_cells_counts_for_the_nearest_one() -> None:
    cells = patch(4096)[::64]  # a kilometre apart: no cell holds these places
    truth = s2.latlon_from_cell(cells) + np.array([0.0, 0.0013])  # 98 m east of them
    own = s2.cell_from_latlon(*truth.T, level=LEVEL)
    beside = np.flatnonzero(own != cells)[:40]
    scores = np.random.default_rng(0).normal(0, 0.1, (len(beside), len(cells)))
    scores[np.arange(len(beside)), beside] = 1.0
    fitted = fit_calibration([matches(cells, row) for row in scores], truth[beside])
    assert posterior(matches(cells, scores[0]), fitted).status == "fixed"


def test_strange_pictures_of_the_fit_count_for_what_they_are() -> None:
    found, truth = sampled_queries(0.05, num=100, seed=0)
    statistics = np.random.default_rng(0).normal(0, 1, (100, 12)).astype(np.float32)
    fitted = fit_calibration(found, truth, image_statistics=statistics)
    assert fitted.image_statistics is not None
    assert fit_calibration(found[:9], truth[:9], image_statistics=statistics[:9]) == replace(
        fit_calibration(found[:9], truth[:9])
    )


@pytest.mark.parametrize(
    "levels", [(0.0, 0.9), (0.9, 0.5), (0.5, 1.5), (math.nan, 0.9), (0.5, math.nan)]
)
def test_levels_that_are_none_are_an_error(levels: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="levels are"):
        Calibration(0.1, 0.0, levels=levels)


def test_a_calibration_of_the_first_version_keeps_its_meaning() -> None:
    first = Calibration.from_json({"temperature": 0.1, "elsewhere": 0.0, "conflict": "what?"})
    assert first == Calibration(0.1, 0.0)
    assert "version" not in first.to_json()


@pytest.mark.parametrize("version", [0, 3, "2", None, 2.0])
def test_a_calibration_of_a_later_version_asks_for_a_newer_geofix(version: object) -> None:
    content = {"temperature": 0.1, "elsewhere": 0.0, "levels": [0.6, 0.9], "version": version}
    with pytest.raises(ValueError, match=r"version .*reads up to 2"):
        Calibration.from_json(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": None}, "levels"),
        ({"levels": [0.5]}, "levels"),
        ({"levels": [0.5, "1"]}, "levels"),
        ({"conflict": "1"}, "conflict"),
        ({"image_statistics": []}, "image_statistics"),
    ],
)
def test_a_second_version_with_something_wrong_is_an_error(
    change: dict[str, Any], message: str
) -> None:
    content = Calibration(0.1, 0.0, levels=(0.6, 0.9), conflict=1.0).to_json()
    with pytest.raises(ValueError, match=message):
        Calibration.from_json(content | change)


def test_a_full_calibration_comes_back_from_json() -> None:
    statistics = np.random.default_rng(0).normal(0, 1, (100, 12))
    calibration = Calibration(
        0.07, -1.5, levels=(0.61, 0.93), conflict=2.5, image_statistics=fit_statistics(statistics)
    )
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_a_calibration_comes_back_from_json() -> None:
    calibration = Calibration(0.07, -1.5)
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"temperature": 1},
        {"temperature": "1", "elsewhere": 0},
        {"temperature": 1, "elsewhere": None},
        {"temperature": True, "elsewhere": 0},
    ],
)
def test_json_that_is_no_calibration_is_an_error(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="want numbers"):
        Calibration.from_json(content)


def sampled_queries(
    temperature: float, *, num: int, seed: int, offset: float = 0.0
) -> tuple[list[Matches], npt.NDArray[np.float64]]:
    """Draw scores, and the true cell of each query from the posterior of these scores."""
    rng = np.random.default_rng(seed)
    # Far from each other: each cell is a mode of its own, and the map without it lacks 500 m.
    cells = patch(4096)[::64]
    found, truth = [], []
    for _ in range(num):
        scores = (rng.normal(0, 1.5, len(cells)) * temperature + offset).astype(np.float32)
        weights = np.exp(scores.astype(float) / temperature)
        own = rng.choice(len(cells), p=weights / weights.sum())
        found.append(matches(cells, scores))
        truth.append(s2.latlon_from_cell(cells[own]))
    return found, np.array(truth)


@pytest.mark.parametrize(
    ("temperature", "offset"), [(0.01, 0.5), (0.05, 0.0), (0.2, 0.3), (2.0, 20.0)]
)
def test_the_fitted_temperature_is_the_one_that_the_truth_was_drawn_with(
    temperature: float, offset: float
) -> None:
    fitted = fit_calibration(*sampled_queries(temperature, num=300, seed=0, offset=offset))
    assert fitted.temperature == pytest.approx(temperature, rel=0.25)


def test_the_fit_follows_the_scale_of_the_scores() -> None:
    found, truth = sampled_queries(0.05, num=100, seed=1)
    fitted = fit_calibration(found, truth)
    larger = fit_calibration([Matches(m.cells, m.scores * 100) for m in found], truth)
    assert larger.temperature == pytest.approx(100 * fitted.temperature, rel=0.02)
    assert larger.elsewhere == pytest.approx(100 * fitted.elsewhere, rel=0.02)


def test_confidence_is_how_often_the_fix_is_right() -> None:
    fitted = fit_calibration(*sampled_queries(0.05, num=300, seed=2))
    found, truth = sampled_queries(0.05, num=1000, seed=3)
    own = s2.cell_from_latlon(*truth.T, level=LEVEL)
    for row in range(round(ELSEWHERE_SHARE * len(found))):  # these on a map that lacks their place
        kept = found[row].cells != own[row]
        found[row] = Matches(found[row].cells[kept], found[row].scores[kept])
    is_right = np.array([m.cells[0] for m in found]) == own
    confidence = np.array([posterior(m, fitted).confidence for m in found])
    for low, high in ((0, 0.2), (0.2, 0.3), (0.3, 1)):
        in_bin = (confidence >= low) & (confidence < high)
        assert in_bin.sum() > 100
        assert is_right[in_bin].mean() == pytest.approx(confidence[in_bin].mean(), abs=0.03)


def test_a_query_that_the_map_lacks_is_mostly_elsewhere_after_the_fit() -> None:
    rng = np.random.default_rng(4)
    cells = patch(4096)[::64]

    def answers(own_score: float) -> tuple[list[Matches], npt.NDArray[np.float64]]:
        scores = rng.normal(0.2, 0.1, (200, len(cells)))
        own = rng.integers(len(cells), size=200)
        scores[np.arange(200), own] = own_score
        return [matches(cells, row) for row in scores], s2.latlon_from_cell(cells[own])

    fitted = fit_calibration(*answers(0.9))
    here = [posterior(found, fitted).status for found in answers(0.9)[0]]
    lacking = [posterior(found, fitted).status for found in answers(0.2)[0]]
    assert here.count("fixed") > 190
    assert lacking.count("unknown") > 190


@pytest.mark.parametrize("num_truths", [0, 2])
def test_a_fit_needs_a_place_for_each_answer(num_truths: int) -> None:
    found = [matches(patch(2), [0.1, 0.2])] * min(num_truths, 1)
    with pytest.raises(ValueError, match="want as many and some"):
        fit_calibration(found, np.zeros((num_truths, 2)))
