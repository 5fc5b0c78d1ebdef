"""Which centroids a vector gets, and where centroids lie, so that inner products come out right.

Queries that matter score a cell high, so they point about where its code points: an error along the
code changes their scores, an error across it hardly does. So the loss of a code x that is rebuilt
as x' is |x - x'|^2 + (eta - 1) (x - x', x / |x|)^2, with eta above 1: anisotropic vector
quantization (Guo et al., ICML 2020, arXiv 1908.10396). The second term ties the subspaces
together, so their centroids are chosen in turns, each for what the others leave.

All sums are made element by element in a fixed order: the same on every processor.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_index import kernel

ETA = 8.0  # found on learned codes; from 4 to 16 recall hardly differs
_SWEEPS = 3  # over the subspaces; few choices change after so many
_BLOCK = 4096  # vectors at a time: their numbers stay in the processor's cache

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def assign(vectors: Floats, centroids: Floats, *, use_kernel: bool = True) -> Numbers:
    """Return the centroid of each subspace of each vector, (N, M).

    Args:
        vectors: (N, D), rotated.
        centroids: (M, K, D / M).
        use_kernel: False chooses in NumPy, which gives the same.
    """
    library = kernel.load_kernel() if use_kernel else None
    if library is not None:
        squares = np.asarray(_inner(np.moveaxis(centroids, 2, 0), np.moveaxis(centroids, 2, 0)))
        return kernel.assign(
            library,
            vectors,
            _directions(np.ascontiguousarray(vectors.T)).T,
            centroids,
            squares,
            weight=ETA - 1,
            num_sweeps=_SWEEPS,
        ).astype(np.int64)
    chosen = np.empty((len(vectors), len(centroids)), np.int64)
    for at in range(0, len(vectors), _BLOCK):
        coding = _Coding(vectors[at : at + _BLOCK], centroids)
        for _ in range(_SWEEPS):
            for m in range(len(centroids)):
                coding.choose(m)
        chosen[at : at + _BLOCK] = coding.chosen.T
    return chosen


def refine(vectors: Floats, centroids: Floats, *, rounds: int) -> Floats:
    """Return centroids (M, K, D / M) that lower the loss over vectors (N, D), rotated."""
    coding = _Coding(vectors, centroids.copy())
    for _ in range(rounds):
        for m in range(len(centroids)):
            coding.choose(m)
            coding.move(m)
    return coding.centroids


class _Coding:
    """Vectors, the centroids that were chosen for them, and what is still wrong along them."""

    def __init__(self, vectors: Floats, centroids: Floats) -> None:
        self.centroids = centroids  # (M, K, d)
        columns = np.ascontiguousarray(vectors.T)  # (D, N)
        along = _directions(columns)
        shape = (len(centroids), -1, len(vectors))
        self._parts, self._along = columns.reshape(shape), along.reshape(shape)  # (M, d, N)
        self.chosen = np.empty((len(centroids), len(vectors)), np.int64)
        self._error = np.zeros(len(vectors), np.float32)  # along the vector, of all subspaces
        for m in range(len(centroids)):
            self.chosen[m] = _least(self._parts[m], centroids[m])
            self._error += self._own_error(m)

    def choose(self, m: int) -> None:
        """Choose the centroids of one subspace anew, for what the others leave."""
        part, along = self._parts[m], self._along[m]
        left = self._error - self._own_error(m)
        if_zero = left + _inner(along, part)  # the error along, were this part rebuilt as zero
        self.chosen[m] = _least(part, self.centroids[m], along, if_zero)
        self._error = left + self._own_error(m)

    def move(self, m: int) -> None:
        """Move each centroid of a subspace to where the loss of its vectors is least."""
        part, along = self._parts[m], self._along[m]
        left = self._error - self._own_error(m)
        if_zero = left + _inner(along, part)
        num, dim = self.centroids[m].shape

        def sums(values: Floats) -> npt.NDArray[np.float64]:
            return np.asarray(np.bincount(self.chosen[m], values, num), float)

        counts = np.bincount(self.chosen[m], minlength=num)
        matrix, target = np.empty((num, dim, dim)), np.empty((num, dim, 1))
        for i in range(dim):
            target[:, i, 0] = sums(part[i]) + (ETA - 1) * sums(along[i] * if_zero)
            for j in range(dim):
                matrix[:, i, j] = (ETA - 1) * sums(along[i] * along[j])
            matrix[:, i, i] += counts
        filled = counts > 0  # an empty centroid stays where it is
        self.centroids[m, filled] = np.linalg.solve(matrix[filled], target[filled])[:, :, 0]
        self._error = left + self._own_error(m)

    def _own_error(self, m: int) -> Floats:
        """Return what one subspace adds to the error along each vector, (N,)."""
        rebuilt = self.centroids[m].T[:, self.chosen[m]]
        return np.asarray(_inner(self._along[m], self._parts[m] - rebuilt))


def _directions(columns: Floats) -> Floats:
    """Return columns (D, N) at unit length; those of zeros as they are."""
    length = np.sqrt(_inner(columns, columns))
    return np.asarray(columns / np.where(length > 0, length, np.float32(1)))


def _least(
    part: Floats, centroids: Floats, along: Floats | None = None, if_zero: Floats | None = None
) -> Numbers:
    """Return the centroid of least loss for each vector's part, (N,); the first among equals.

    Args:
        part: (d, N).
        centroids: (K, d).
        along: (d, N) part of the vector's direction; without it, the nearest centroid.
        if_zero: (N,) error along the vector, were this part rebuilt as zero.
    """
    best = np.full(part.shape[1], np.inf, np.float32)
    number = np.zeros(part.shape[1], np.int64)
    for k, centroid in enumerate(centroids):
        # |x - c|^2 without |x|^2, which is the same for all centroids.
        loss = _inner(centroid, centroid) - 2 * _inner(centroid, part)
        if along is not None:
            error = if_zero - _inner(centroid, along)
            loss += np.float32(ETA - 1) * (error * error)
        better = loss < best
        number[better] = k
        np.minimum(best, loss, out=best)
    return number


def _inner(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Any:
    """Return the inner products of columns, summed in order."""
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total
