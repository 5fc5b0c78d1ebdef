"""Kappa and its shrinkage, chosen on queries whose places are known."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from geofix_index import cells as s2
from geofix_train.cell_codes import (
    BY_HAND,
    NO_IMAGERY,
    NO_VALIDATION,
    VALIDATED,
    CellCodes,
    Queries,
    mix,
)
from geofix_train.mixing import KAPPA_STEPS, SHRINK_STEPS, choose_mixing, fisher_kappa

Floats = npt.NDArray[np.float32]
LAT, LON, DIM = 47.37, 8.54, 12
CELLS = np.sort(s2.descendants([int(s2.cell_from_latlon(LAT, LON, level=13))], level=16))


def unit_rows(num: int, *, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((num, DIM))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def codes_of(prototypes: Floats, aerial: Floats, photos: npt.ArrayLike = 10.0) -> CellCodes:
    """Return codes of 64 cells with so many photos behind their prototypes."""
    behind = np.broadcast_to(np.asarray(photos, np.float32), 64).copy()
    return CellCodes(CELLS, prototypes, aerial, np.ones(64, np.int64), behind, kappa=1.0)


@pytest.fixture
def queries() -> Queries:
    """Return a query at the centre of each cell."""
    return Queries(unit_rows(64, seed=2), s2.latlon_from_cell(CELLS))


@pytest.fixture
def few_and_many(queries: Queries) -> CellCodes:
    """Return codes whose prototypes tell the truth with many photos and lie, loudly, with one.

    The aerial part is the truth in noise that the true prototypes help against.
    """
    is_many = np.arange(64) % 2 == 0
    lie = 3 * np.roll(queries.embeddings, 32, axis=0)
    prototypes = np.where(is_many[:, None], queries.embeddings, lie)
    aerial = queries.embeddings + 1.2 * unit_rows(64, seed=7)
    return codes_of(prototypes, aerial, np.where(is_many, 200.0, 1.0))


def points_by_loop(codes: CellCodes, queries: Queries, kappa: float, shrink: float) -> Floats:
    """Return what each query counts, by plain loops and the law of cosines."""
    centres = np.radians(s2.latlon_from_cell(codes.cells))
    points = []
    for z, place in zip(queries.embeddings, np.radians(queries.latlon), strict=True):
        scores = []
        for p, a, n in zip(codes.prototypes, codes.aerial, codes.prototype_photos, strict=True):
            trust = 1.0 if shrink == 0 else float(n) / (float(n) + shrink)
            scores.append(float(z @ (a + kappa * trust * p)))
        lat, lon = centres[scores.index(max(scores))]
        cosine = math.sin(lat) * math.sin(place[0]) + math.cos(lat) * math.cos(place[0]) * math.cos(
            lon - place[1]
        )
        away_m = 6_371_008.8 * math.acos(min(1.0, cosine))
        points.append((away_m <= 100) + (away_m <= 200))
    return np.array(points, np.float32)


def choice_by_loop(codes: CellCodes, queries: Queries) -> tuple[float, float]:
    """Return kappa and shrinkage by the rule in words, independent of its code."""
    start = fisher_kappa(codes.prototypes, codes.aerial, codes.cells, queries)
    table = {
        (shrink, kappa): points_by_loop(codes, queries, kappa, shrink)
        for shrink in SHRINK_STEPS
        for kappa in (start * KAPPA_STEPS).tolist()
    }

    def as_good(among: dict[tuple[float, float], Floats]) -> list[tuple[float, float]]:
        best = max(among.values(), key=lambda points: points.mean())
        return [
            pair
            for pair, points in among.items()
            if (best - points).mean() <= (best - points).std() / math.sqrt(len(points))
        ]

    shrink = min(shrink for shrink, _ in as_good(table))
    logs = [
        math.log(kappa)
        for _, kappa in as_good({pair: p for pair, p in table.items() if pair[0] == shrink})
    ]
    return math.exp(sum(logs) / len(logs)), shrink


def test_prototypes_of_few_photos_are_trusted_less_where_that_finds_more(
    few_and_many: CellCodes, queries: Queries
) -> None:
    with_it = choose_mixing(few_and_many, queries, shrink_photos=None)
    without = choose_mixing(few_and_many, queries)
    assert with_it.shrink_photos > 0 == without.shrink_photos
    found = [
        points_by_loop(codes, queries, codes.kappa, codes.shrink_photos).mean()
        for codes in (without, with_it)
    ]
    assert found[1] > found[0] + 0.1


def test_kappa_and_shrinkage_are_those_of_the_rule(
    few_and_many: CellCodes, queries: Queries
) -> None:
    chosen = choose_mixing(few_and_many, queries, shrink_photos=None)
    kappa, shrink = choice_by_loop(few_and_many, queries)
    assert chosen.kappa == pytest.approx(kappa)
    assert chosen.shrink_photos == shrink


def test_shrinkage_stays_off_where_chance_alone_speaks_for_it(queries: Queries) -> None:
    rng = np.random.default_rng(5)
    truth = queries.embeddings
    prototypes = truth + 0.5 * unit_rows(64, seed=8)
    aerial = truth + 0.5 * unit_rows(64, seed=9)
    codes = codes_of(prototypes, aerial, rng.integers(1, 50, 64))  # photos that say nothing
    chosen = choose_mixing(codes, queries, shrink_photos=None)
    assert chosen.shrink_photos == 0.0
    assert chosen.kappa == choose_mixing(codes, queries).kappa


def test_a_given_number_is_kept_and_the_other_chosen(
    few_and_many: CellCodes, queries: Queries
) -> None:
    given_kappa = choose_mixing(few_and_many, queries, kappa=1.5, shrink_photos=None)
    assert given_kappa.kappa == 1.5
    assert given_kappa.shrink_photos > 0
    given_shrink = choose_mixing(few_and_many, queries, shrink_photos=5.0)
    assert given_shrink.shrink_photos == 5.0
    both = choose_mixing(few_and_many, queries, kappa=0.0, shrink_photos=3.0)
    assert (both.kappa, both.shrink_photos) == (0.0, 3.0)
    assert choose_mixing(few_and_many, queries, kappa=0.0, shrink_photos=None).kappa == 0.0


def test_without_queries_or_imagery_kappa_is_1(few_and_many: CellCodes, queries: Queries) -> None:
    none = Queries(queries.embeddings[:0], queries.latlon[:0])
    mixed = choose_mixing(few_and_many, none, shrink_photos=None)
    assert (mixed.kappa, mixed.shrink_photos) == (1.0, 0.0)
    without = replace(few_and_many, aerial=np.zeros_like(few_and_many.aerial))
    assert choose_mixing(without, queries).kappa == 1.0


def test_it_is_kept_how_kappa_was_chosen(few_and_many: CellCodes, queries: Queries) -> None:
    none = Queries(queries.embeddings[:0], queries.latlon[:0])
    without = replace(few_and_many, aerial=np.zeros_like(few_and_many.aerial))
    for codes, photos, kappa, wanted in (
        (few_and_many, queries, None, VALIDATED),
        (few_and_many, queries, 1.5, BY_HAND),
        (few_and_many, none, None, NO_VALIDATION),
        (few_and_many, none, 1.0, BY_HAND),
        (without, queries, None, NO_IMAGERY),
    ):
        for shrink_photos in (0.0, None):
            mixed = choose_mixing(codes, photos, kappa=kappa, shrink_photos=shrink_photos)
            assert mixed.kappa_choice == wanted
    assert choose_mixing(few_and_many, queries).with_kappa(2.0).kappa_choice == BY_HAND


@pytest.mark.parametrize("right", ["prototypes", "aerial"])
def test_kappa_prefers_the_part_that_is_right(queries: Queries, right: str) -> None:
    # The other part says, as loudly, that each query is at its neighbour's place.
    true, false = queries.embeddings, np.roll(queries.embeddings, 32, axis=0)
    prototypes, aerial = (true, false) if right == "prototypes" else (false, true)
    kappa = choose_mixing(codes_of(prototypes, aerial), queries).kappa
    assert kappa > 1 if right == "prototypes" else kappa < 1
    scores = queries.embeddings @ mix(prototypes, aerial, kappa=kappa).T
    assert (scores.argmax(axis=1) == np.arange(64)).all()


def test_among_equally_good_kappas_fishers_wins(queries: Queries) -> None:
    # Both parts are the truth: every kappa finds every query.
    noise = 0.01 * unit_rows(64, seed=3)
    prototypes, aerial = queries.embeddings + noise, queries.embeddings
    start = fisher_kappa(prototypes, aerial, CELLS, queries)
    assert choose_mixing(codes_of(prototypes, aerial), queries).kappa == pytest.approx(start)


def test_fishers_kappa_grows_with_what_prototypes_know(queries: Queries) -> None:
    truth = queries.embeddings
    kappas = [
        fisher_kappa(truth + level * unit_rows(64, seed=4), truth, CELLS, queries)
        for level in (0.0, 0.5, 1.0, 3.0)
    ]
    assert kappas[0] == pytest.approx(1.0)
    assert kappas == sorted(kappas, reverse=True)
    assert kappas[-1] < 0.5


def test_fishers_kappa_undoes_a_difference_of_scale(queries: Queries) -> None:
    truth = queries.embeddings
    assert fisher_kappa(truth, 5 * truth, CELLS, queries) == pytest.approx(5.0, rel=1e-3)


def test_queries_outside_the_cells_say_nothing_about_kappa(queries: Queries) -> None:
    away = replace(queries, latlon=queries.latlon + 1.0)
    assert fisher_kappa(queries.embeddings, queries.embeddings, CELLS, away) == 1.0


def test_cells_that_lack_a_part_say_nothing_about_kappa(queries: Queries) -> None:
    prototypes, aerial = queries.embeddings.copy(), queries.embeddings.copy()
    prototypes[:32], aerial[32:] = 0.0, 0.0
    assert fisher_kappa(prototypes, aerial, CELLS, queries) == 1.0
