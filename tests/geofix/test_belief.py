"""The grid of a tracker moves exactly, spreads as far as it is told, and loses no weight."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.geo import LatLon, distance_m, east_north_m
from geofix.tracking import belief as beliefs
from geofix.tracking.belief import Belief
from geofix_index import cells as s2
from tests.tiny_pack import TAVEUNI, ZURICH

LEVEL = 16
SPACING_M = s2.mean_edge_m(LEVEL) / beliefs.NODES_PER_EDGE
NO_COVARIANCE = np.zeros((2, 2))


def at(place: LatLon, *, lost: float = 0.1) -> Belief:
    """Return the belief of a camera that was found in the cell of a place."""
    cells = np.array([s2.cell_from_latlon(place.lat, place.lon, level=LEVEL)], np.uint64)
    return beliefs.updated(
        beliefs.nowhere(LEVEL), np.zeros(0), lost=lost, found=cells, shares=np.array([1 - lost])
    )


def covariance_m2(belief: Belief) -> np.ndarray:
    """Return the covariance of the nodes, with what waits."""
    weights = belief.weights / belief.weights.sum()
    apart = belief.offsets_m - weights @ belief.offsets_m
    return np.asarray((apart * weights[:, None]).T @ apart + belief.waiting_m2)


def total(belief: Belief) -> float:
    return float(belief.weights.sum()) + belief.lost


def test_what_is_found_fills_its_cell() -> None:
    belief = at(ZURICH)
    assert len(belief.nodes) == 16
    assert total(belief) == pytest.approx(1)
    assert belief.lost == pytest.approx(0.1)
    edge_m = s2.mean_edge_m(LEVEL)
    assert np.allclose(covariance_m2(belief), np.eye(2) * edge_m**2 * 15 / 16 / 12, rtol=1e-6)


@pytest.mark.parametrize("place", [ZURICH, TAVEUNI, LatLon(-80, 10)])
def test_every_node_moves_as_far_as_the_camera(place: LatLon) -> None:
    before = at(place)
    after = beliefs.moved(before, (300.0, -40.0), NO_COVARIANCE)
    assert np.array_equal(after.nodes, before.nodes)
    for old, new in zip(before.latlon.tolist(), after.latlon.tolist(), strict=True):
        assert distance_m(LatLon(*old), LatLon(*new)) == pytest.approx(302.65, rel=0.01)


@given(
    east=st.floats(0.1, 12),
    north=st.floats(0.1, 12),
    correlation=st.floats(-0.9, 0.9),
)
def test_the_variance_grows_by_that_of_the_motion(
    east: float, north: float, correlation: float
) -> None:
    both = correlation * east * north
    added = np.array([[east**2, both], [both, north**2]]) * SPACING_M**2
    before = at(ZURICH)
    after = beliefs.moved(before, (0.0, 0.0), added)
    grown = covariance_m2(after) - covariance_m2(before)
    # Steps along a slanted axis are shared out between nodes, and three sigma are cut off.
    assert np.allclose(grown, added, rtol=0.04, atol=0.4 * SPACING_M**2)
    assert total(after) == pytest.approx(1)


def test_small_errors_wait_until_they_are_worth_a_step() -> None:
    before = belief = at(ZURICH)
    step = np.diag([0.25, 0.09])
    belief = beliefs.moved(belief, (10.0, 0.0), step)
    assert len(belief.nodes) == len(before.nodes)
    for _ in range(999):
        belief = beliefs.moved(belief, (10.0, 0.0), step)
    grown = covariance_m2(belief) - covariance_m2(before)
    assert np.allclose(grown, 1000 * step, rtol=0.02, atol=1.0)
    assert len(belief.nodes) > len(before.nodes)


def test_a_camera_that_can_be_too_far_away_is_lost() -> None:
    belief = at(ZURICH)
    wide = np.eye(2) * (17 * SPACING_M) ** 2
    assert beliefs.moved(belief, (0, 0), wide * 0.8).lost < 0.2
    gone = beliefs.moved(belief, (0, 0), wide)
    assert (len(gone.nodes), gone.lost) == (0, 1)


def test_nodes_beyond_the_limit_are_lost() -> None:
    belief = at(ZURICH)
    for _ in range(3):
        belief = beliefs.moved(belief, (0, 0), np.eye(2) * (12 * SPACING_M) ** 2)
    assert len(belief.nodes) == beliefs.MAX_NODES
    assert 0.1 < belief.lost < 0.6
    assert total(belief) == pytest.approx(1)


def test_leaked_weight_is_lost() -> None:
    belief = beliefs.leaked(at(ZURICH), 0.5)
    assert belief.lost == pytest.approx(0.55)
    assert total(belief) == pytest.approx(1)


def test_evidence_multiplies_nodes_and_adds_what_is_found() -> None:
    belief = at(ZURICH, lost=0.2)
    other = np.array([s2.cell_from_latlon(47.38, 8.55, level=LEVEL)], np.uint64)
    after = beliefs.updated(belief, np.full(16, 0.5), lost=0.1, found=other, shares=np.array([0.3]))
    assert total(after) == pytest.approx(1)
    assert after.lost == pytest.approx(0.1 / 0.8)
    cells = s2.cell_from_latlon(*after.latlon.T, level=LEVEL)
    assert after.weights[np.isin(cells, [*other, *s2.neighbours(other)[0]])].sum() == pytest.approx(
        0.3 / 0.8
    )


def test_the_origin_follows_a_camera_that_is_found_far_away() -> None:
    far = LatLon(47.37, 8.9)
    cell = np.array([s2.cell_from_latlon(far.lat, far.lon, level=LEVEL)], np.uint64)
    after = beliefs.updated(
        at(ZURICH), np.full(16, 0.01), lost=0.0, found=cell, shares=np.array([0.9])
    )
    assert distance_m(after.origin, far) < 200
    for place, weight in ((far, 0.99), (ZURICH, 0.01)):
        apart = np.hypot(*east_north_m(*after.latlon.T, origin=place).T)
        assert after.weights[apart < 300].sum() == pytest.approx(weight, abs=0.005)
    assert total(after) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(-2000, 2000), st.integers(-2000, 2000)), min_size=1))
def test_each_node_stands_once(steps: list[tuple[int, int]]) -> None:
    nodes, weights = beliefs._merged(np.array(steps, np.int64), np.ones(len(steps)))
    assert sorted(map(tuple, nodes.tolist())) == sorted(set(steps))
    assert weights.sum() == len(steps)


def test_a_belief_with_no_node_moves_too() -> None:
    belief = replace(beliefs.nowhere(LEVEL), origin=ZURICH)
    assert beliefs.moved(belief, (1000.0, 0.0), np.eye(2)).lost == 1
