import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.radii import mass_within, radii_m, square_m

Floats = npt.NDArray[np.float64]


def points_of(offsets_m: Floats, weights: Floats, spread_m: Floats) -> tuple[Floats, Floats]:
    """Return all points by their distance from the origin, and the weight up to each."""
    points = (offsets_m[:, None] + spread_m).reshape(-1, 2)
    distance = np.hypot(*points.T)
    order = np.argsort(distance)
    return distance[order], np.cumsum(np.repeat(weights / len(spread_m), len(spread_m))[order])


@st.composite
def clouds(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    """Offsets whose weights sum to 1, some of them 0, and what each is spread over."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num = draw(st.integers(1, 60))
    weights = rng.gamma(draw(st.sampled_from([0.05, 1.0, 50.0])), size=num)
    weights[rng.random(num) < 0.2] = 0
    weights[rng.integers(num)] += 1
    spread_m = square_m(draw(st.sampled_from([0.0, 1.0, 70.0, 5000.0])))
    return rng.normal(scale=300, size=(num, 2)), weights / weights.sum(), spread_m


@given(clouds(), st.floats(1e-3, 1 - 2e-5))
def test_a_radius_is_the_distance_of_the_point_that_completes_the_share(
    cloud: tuple[Floats, Floats, Floats], share: float
) -> None:
    distance, mass = points_of(*cloud)
    (radius,) = radii_m(*cloud, shares=(share,))
    assert radius is not None
    # Sums in another order may differ in their last bits.
    least, most = np.searchsorted(mass[:-1], [share - 1e-12, share + 1e-12])
    assert distance[least] - 1e-9 <= radius <= distance[most] + 1e-9


@given(clouds(), st.floats(0, 2000))
def test_weight_within_a_radius_is_that_of_the_points_within(
    cloud: tuple[Floats, Floats, Floats], radius_m: float
) -> None:
    distance, mass = points_of(*cloud)
    num = int(np.searchsorted(distance, radius_m))
    wanted = 0.0 if num == 0 else mass[num - 1]
    assert mass_within(*cloud, radius_m) == pytest.approx(wanted, abs=1e-9)


def test_all_of_it_is_held_though_sums_are_rounded_and_more_is_not() -> None:
    offsets_m = np.array([[3.0, 4.0], [0.0, 30.0], [0.0, 7.0]])
    weights = np.array([0.1, 0.2, 0.4])
    at_once = np.zeros((1, 2))
    assert radii_m(offsets_m, weights, at_once, shares=(0.7 + 1e-9, 0.7001)) == (30.0, None)
    assert radii_m(offsets_m, weights, at_once, shares=(0.1 - 1e-9, 0.3)) == (5.0, 7.0)


def test_a_radius_does_not_reach_out_for_the_last_dust() -> None:
    offsets_m = np.array([[3.0, 4.0], [0.0, 5000.0]])
    assert radii_m(offsets_m, np.array([1 - 1e-9, 1e-9]), np.zeros((1, 2)), shares=(1.0,)) == (5.0,)
    assert radii_m(offsets_m, np.array([0.999, 1e-3]), np.zeros((1, 2)), shares=(1.0,)) == (5000.0,)


def test_nothing_has_no_radius() -> None:
    assert radii_m(np.zeros((0, 2)), np.zeros(0), square_m(70.0), shares=(0.68, 0.95)) == (
        None,
        None,
    )


def test_what_lies_on_a_radius_is_not_within_it() -> None:
    assert mass_within(np.array([[3.0, 4.0]]), np.ones(1), np.zeros((1, 2)), 5.0) == 0
