"""Tuning: its gradient beside differences, its effect on queries it has not seen."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from geofix_index import ProductQuantizer
from geofix_index.quantizer import unpack
from geofix_index.tuning import _gradient, _is_repeated, tune
from tests.geofix_index.globe import unit

Floats = npt.NDArray[np.float32]
NUM_CELLS, DIM = 300, 16


@pytest.fixture(scope="module")
def cell_codes() -> Floats:
    """Return cell codes (300, 16) that vary most in a few directions."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((NUM_CELLS, DIM)) * np.linspace(2, 0.2, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def coarse(cell_codes: Floats) -> ProductQuantizer:
    """Return a quantizer of two bytes, which confuses many cells."""
    return ProductQuantizer.train(cell_codes, num_subspaces=4, bits=4, seed=0)


def make_queries(
    cell_codes: Floats, *, seed: int, num: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return queries of unit length and the cell of each; they care for directions of their own."""
    rng = np.random.default_rng(seed)
    own = rng.integers(NUM_CELLS, size=num)
    noise = rng.standard_normal((num, DIM)) * np.linspace(0.1, 0.6, DIM)
    return unit(cell_codes[own] * np.linspace(0.3, 2, DIM) + noise).astype(np.float32), own


def test_tuned_centroids_find_more_queries_that_they_have_not_seen(
    coarse: ProductQuantizer, cell_codes: Floats
) -> None:
    tuned = tune(coarse, cell_codes, *make_queries(cell_codes, seed=1, num=1500))
    others = make_queries(cell_codes, seed=2, num=1000)
    pq_codes = coarse.encode(cell_codes)
    before = (others[0] @ coarse.decode(pq_codes).T).argmax(axis=1) == others[1]
    after = (others[0] @ tuned.decode(pq_codes).T).argmax(axis=1) == others[1]
    assert after.mean() > before.mean() + 0.03
    assert tuned.rotation is coarse.rotation


def test_tuning_again_gives_the_same_centroids(
    coarse: ProductQuantizer, cell_codes: Floats
) -> None:
    queries = make_queries(cell_codes, seed=1, num=100)
    one, other = (tune(coarse, cell_codes, *queries, seed=3) for _ in range(2))
    assert one.centroids.tobytes() == other.centroids.tobytes()
    assert tune(coarse, cell_codes, *queries, seed=4).centroids.tobytes() != one.centroids.tobytes()


def test_the_gradient_is_that_of_the_loss(coarse: ProductQuantizer, cell_codes: Floats) -> None:
    queries, own = make_queries(cell_codes, seed=3, num=5)
    rng = np.random.default_rng(4)
    cells = np.concatenate([own[:, None], rng.integers(NUM_CELLS, size=(5, 9))], axis=1)
    numbers = unpack(coarse.encode(cell_codes), bits=4)[cells]
    exact = np.einsum("qcd,qd->qc", cell_codes[cells], queries)
    exact[:, 4] = -np.inf
    rotated = (queries @ coarse.rotation).reshape(5, 4, -1)
    temperature = 0.7
    gradient = _gradient(coarse.centroids, numbers, rotated, exact, temperature)

    def loss(centroids: Floats) -> float:
        total = 0.0
        for query in range(5):
            scores = np.array(
                [
                    sum(rotated[query, m].astype(float) @ centroids[m, number].astype(float)
                        for m, number in enumerate(numbers[query, cell]))
                    for cell in range(10) if cell != 4
                ]
            )  # fmt: skip
            log_likely = scores / temperature - np.log(np.exp(scores / temperature).sum())
            wanted = np.exp(np.delete(exact[query], 4).astype(float) / temperature)
            total -= log_likely[0] + (wanted / wanted.sum()) @ log_likely
        return total / 5

    for m, number, part in [(0, numbers[0, 0, 0], 0), (2, numbers[3, 1, 2], 3), (3, 5, 1)]:
        step = np.zeros_like(coarse.centroids)
        step[m, number, part] = 1e-2
        slope = (loss(coarse.centroids + step) - loss(coarse.centroids - step)) / 2e-2
        assert gradient[m, number, part] == pytest.approx(slope, rel=0.02, abs=1e-4)


def test_repeated_cells_count_once() -> None:
    cells = np.array([[3, 1, 3, 1, 2], [0, 1, 2, 3, 4]])
    assert _is_repeated(cells).tolist() == [[False, False, True, True, False], [False] * 5]


def test_queries_that_do_not_fit_are_refused(coarse: ProductQuantizer, cell_codes: Floats) -> None:
    queries, own = make_queries(cell_codes, seed=1, num=4)
    with pytest.raises(ValueError, match=r"shape \(4, 15\), want \(Q, 16\)"):
        tune(coarse, cell_codes, queries[:, 1:], own)
    with pytest.raises(ValueError, match=r"shape \(0, 16\)"):
        tune(coarse, cell_codes, queries[:0], own[:0])
    for wrong in (own[:2], own - NUM_CELLS, own + NUM_CELLS):
        with pytest.raises(ValueError, match="0 to 299"):
            tune(coarse, cell_codes, queries, wrong)


def test_what_is_encoded_stays_encoded(coarse: ProductQuantizer, cell_codes: Floats) -> None:
    tuned = tune(coarse, cell_codes, *make_queries(cell_codes, seed=1, num=200))
    assert replace(tuned, centroids=coarse.centroids).encode(cell_codes).tolist() == (
        coarse.encode(cell_codes).tolist()
    )
