import ctypes

import numpy as np
import numpy.typing as npt
import pytest

from geofix_index import score_aware
from geofix_index.score_aware import assign, refine

Floats = npt.NDArray[np.float32]

NUM, M, K, PART = 400, 6, 16, 3


@pytest.fixture(scope="module")
def data() -> tuple[Floats, Floats]:
    """Return vectors of many lengths, and centroids of 6 subspaces of 3 dimensions."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((NUM, M * PART)) * rng.uniform(0.3, 3, (NUM, 1))
    drawn = vectors[rng.choice(NUM, K, replace=False)].reshape(K, M, PART).swapaxes(0, 1)
    return vectors.astype(np.float32), np.ascontiguousarray(drawn, np.float32)


def nearest(vectors: Floats, centroids: Floats) -> npt.NDArray[np.int64]:
    """Return the centroids that are nearest, (N, M)."""
    parts = vectors.reshape(len(vectors), len(centroids), 1, -1)
    return np.asarray(((parts - centroids) ** 2).sum(axis=3).argmin(axis=2))


def losses(vectors: Floats, centroids: Floats, chosen: npt.NDArray[np.int64]) -> Floats:
    """Return the loss of each vector, as the formula says it."""
    rebuilt = centroids[np.arange(len(centroids)), chosen].reshape(vectors.shape)
    error = (vectors - rebuilt).astype(float)
    along = (error * vectors).sum(axis=1) / np.linalg.norm(vectors, axis=1)
    return np.asarray((error**2).sum(axis=1) + (score_aware.ETA - 1) * along**2)


def test_one_subspace_gets_the_centroid_of_least_loss(data: tuple[Floats, Floats]) -> None:
    vectors, centroids = data[0][:, :PART].copy(), data[1][:1]
    every = [losses(vectors, centroids, np.full((NUM, 1), k)) for k in range(K)]
    assert assign(vectors, centroids)[:, 0].tolist() == np.argmin(every, axis=0).tolist()


def test_no_vector_is_worse_off_than_with_its_nearest_centroids(
    data: tuple[Floats, Floats],
) -> None:
    vectors, centroids = data
    before = losses(vectors, centroids, nearest(vectors, centroids))
    after = losses(vectors, centroids, assign(vectors, centroids))
    assert (after <= before * (1 + 1e-5)).all()
    assert after.mean() < 0.9 * before.mean()


def test_hardly_any_choice_could_still_be_better(data: tuple[Floats, Floats]) -> None:
    vectors, centroids = data
    chosen = assign(vectors, centroids)
    least = losses(vectors, centroids, chosen)
    improvable = np.zeros(NUM, bool)
    for m in range(M):
        for k in range(K):
            other = chosen.copy()
            other[:, m] = k
            improvable |= losses(vectors, centroids, other) < least * (1 - 1e-4)
    assert improvable.mean() < 0.05


def test_moved_centroids_lower_the_loss(data: tuple[Floats, Floats]) -> None:
    vectors, centroids = data
    mean = [losses(vectors, centroids, assign(vectors, centroids)).mean()]
    for rounds in (1, 4, 12):
        moved = refine(vectors, centroids, rounds=rounds)
        mean.append(losses(vectors, moved, assign(vectors, moved)).mean())
    assert mean[0] > mean[1] > mean[2] > mean[3]


def test_a_moved_centroid_lies_where_the_loss_is_least(
    data: tuple[Floats, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, centroids = data
    coding = score_aware._Coding(vectors, centroids.copy())
    coding.move(2)
    chosen = coding.chosen.T
    least = losses(vectors, coding.centroids, chosen).sum()
    for step in (*np.eye(PART), *-np.eye(PART)):
        for k in range(K):
            other = coding.centroids.copy()
            other[2, k] += 0.01 * step
            assert losses(vectors, other, chosen).sum() >= least


def test_a_centroid_of_no_vector_stays(data: tuple[Floats, Floats]) -> None:
    vectors, centroids = data[0], data[1].copy()
    centroids[3, 5] = 1e3
    assert (refine(vectors, centroids, rounds=2)[3, 5] == 1e3).all()


def test_scores_of_like_vectors_come_out_better(data: tuple[Floats, Floats]) -> None:
    vectors, centroids = data
    query = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def gap(chosen: npt.NDArray[np.int64]) -> float:
        rebuilt = centroids[np.arange(M), chosen].reshape(vectors.shape)
        return float(np.abs(((vectors - rebuilt) * query).sum(axis=1)).mean())

    assert gap(assign(vectors, centroids)) < 0.6 * gap(nearest(vectors, centroids))


@pytest.mark.parametrize("part", [1, 2, 3, 8])
def test_the_kernel_chooses_as_numpy_does(library: ctypes.CDLL, part: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((500, 6 * part)) * 10.0 ** rng.integers(-4, 4, (500, 1))
        vectors[7] = 0
        centroids = rng.standard_normal((6, 16 if seed % 2 else 256, part)).astype(np.float32)
        centroids[:, 3] = centroids[:, 9]  # the first among equals counts
        found = assign(vectors.astype(np.float32), centroids)
        wanted = assign(vectors.astype(np.float32), centroids, use_kernel=False)
        assert found.tolist() == wanted.tolist()
