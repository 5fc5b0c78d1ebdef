"""The arithmetic of the scale curve, beside plain loops over few cells."""

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.land_codes import _from_the_middle
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import Queries

NUM_QUERIES, NUM_CELLS = 40, 12


@pytest.fixture(autouse=True)
def few_distractors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "COUNTS", (0, 3, 7, 20))


def test_a_photo_is_found_where_its_place_beats_every_distractor() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([47.37, 8.54]) + rng.uniform(-0.01, 0.01, (NUM_CELLS, 2))
    codes, around = (
        rng.normal(size=(num, 8)).astype(np.float32) for num in (NUM_CELLS, scale.COUNTS[-1])
    )
    own = rng.integers(NUM_CELLS, size=NUM_QUERIES)
    noise = rng.normal(size=(NUM_QUERIES, 8)).astype(np.float32)
    queries = Queries(codes[own] + 1.5 * noise, centres[own])
    hits = scale._hits(queries, codes, centres, scale._best_distractor(queries.embeddings, around))
    for number, count in enumerate(scale.COUNTS):
        for row, embedding in enumerate(queries.embeddings):
            scores = [float(embedding @ code) for code in (*codes, *around[:count])]
            best = int(np.argmax(scores))
            is_found = best < NUM_CELLS and (
                great_circle_m(*queries.latlon[row], *centres[best]) <= scale.WITHIN_M
            )
            assert hits[number, row] == is_found
    found = hits.sum(axis=1)
    assert found[0] > found[-1] > 0


def test_cells_are_taken_from_the_middle_of_the_town_on() -> None:
    latlon = np.array([(47.40, 8.54), (47.371, 8.54), (47.37, 8.56), (47.37, 8.545)])
    cells = s2.cell_from_latlon(*latlon.T, level=16)
    assert _from_the_middle(cells).tolist() == [1, 3, 2, 0]
