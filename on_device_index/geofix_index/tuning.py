"""Centroids tuned on queries: pq codes stay, what they stand for moves.

A quantizer is trained to rebuild cell codes, but searched with queries, which are distributed
otherwise and matter by the order of their best cells alone. So centroids learn from queries with
known places to score the true cell highest, and to keep the order that exact scores have (as JPQ
does with passages, arXiv 2108.00644).
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geofix_index.quantizer import Floats, ProductQuantizer, unpack

_NUM_EPOCHS = 12
_RIVAL_EPOCHS = 3  # after so many, which cells pq codes confuse is looked up again
_BATCH = 64  # queries a step
_NUM_BEST = 64  # cells that a query is to tell apart: so many by exact scores, as many by pq codes
_NUM_RANDOM = 64  # and as many by chance
_RATE = 0.02  # of Adam, in units of a centroid's usual size
_DECAYS = (0.9, 0.98)
_TEMPERATURES = 2.0 ** np.arange(-10, 3)  # of the softmax over scores; the likeliest is taken
_AT_ONCE = 256  # queries that are compared with all cells

Rows = npt.NDArray[np.int64]


def tune(
    quantizer: ProductQuantizer,
    cell_codes: Floats,
    queries: Floats,
    own: Rows,
    *,
    seed: int = 0,
) -> ProductQuantizer:
    """Return the quantizer with centroids that find the queries' cells.

    The loss is the cross-entropy of the true cell and the Kullback-Leibler divergence from the
    exact scores' softmax, over the cells that score best and some by chance.

    Args:
        quantizer: as trained; what it encodes stays encoded.
        cell_codes: (N, D).
        queries: (Q, D) embeddings, at least one.
        own: (Q,) the row of each query's cell.
        seed: of the order of queries and of the cells by chance.

    Raises:
        ValueError: arrays that do not fit together.
    """
    if queries.ndim != 2 or queries.shape[1] != quantizer.dim or len(queries) == 0:
        raise ValueError(f"queries have shape {queries.shape}, want (Q, {quantizer.dim})")
    if own.shape != (len(queries),) or own.min() < 0 or own.max() >= len(cell_codes):
        raise ValueError(f"own names a cell of each query, 0 to {len(cell_codes) - 1}")
    rng = np.random.default_rng(seed)
    pq_codes = quantizer.encode(cell_codes)
    numbers = unpack(pq_codes, bits=quantizer.bits)  # (N, M)
    best = _best(queries, cell_codes)
    temperature = _temperature(queries, cell_codes, own, best)
    centroids = quantizer.centroids.astype(np.float32)
    adam = _Adam(centroids.shape, _RATE * float(np.sqrt((centroids**2).mean())))
    rotated = (queries @ quantizer.rotation).reshape(len(queries), quantizer.num_subspaces, -1)
    for epoch in range(_NUM_EPOCHS):
        if epoch % _RIVAL_EPOCHS == 0:
            current = replace(quantizer, centroids=centroids)
            rivals = _best(queries, current.decode(pq_codes))
        order = rng.permutation(len(queries))
        for at in range(0, len(order), _BATCH):
            rows = order[at : at + _BATCH]
            by_chance = rng.integers(len(cell_codes), size=(len(rows), _NUM_RANDOM))
            cells = np.concatenate([own[rows, None], best[rows], rivals[rows], by_chance], axis=1)
            exact = np.einsum("qcd,qd->qc", cell_codes[cells], queries[rows])
            exact[_is_repeated(cells)] = -np.inf
            gradient = _gradient(centroids, numbers[cells], rotated[rows], exact, temperature)
            share = 1 - (epoch * len(order) + at) / (_NUM_EPOCHS * len(order))
            centroids = adam.step(centroids, gradient, share)
    return replace(quantizer, centroids=centroids)


def _best(queries: Floats, cell_codes: Floats) -> Rows:
    """Return the cells that fit each query best, (Q, up to `_NUM_BEST`), in any order."""
    num = min(_NUM_BEST, len(cell_codes))
    parts = [
        np.argpartition(queries[at : at + _AT_ONCE] @ cell_codes.T, -num, axis=1)[:, -num:].copy()
        for at in range(0, len(queries), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _temperature(queries: Floats, cell_codes: Floats, own: Rows, best: Rows) -> float:
    """Return the temperature at which exact scores make the true cells likeliest."""
    cells = np.concatenate([own[:, None], best], axis=1)
    scores = np.einsum("qcd,qd->qc", cell_codes[cells], queries)
    scores[_is_repeated(cells)] = -np.inf
    likelihoods = [float(_log_softmax(scores / t)[:, 0].mean()) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmax(likelihoods))])


def _gradient(
    centroids: Floats, numbers: Rows, rotated: Floats, exact: Floats, temperature: float
) -> Floats:
    """Return the loss's gradient by the centroids, (M, 2^bits, d).

    Args:
        centroids: (M, 2^bits, d).
        numbers: (B, C, M) centroids of each query's cells, the true one first.
        rotated: (B, M, d) queries.
        exact: (B, C) scores, -inf where a cell does not count.
        temperature: of both softmaxes.
    """
    tables = np.einsum("mkd,bmd->bmk", centroids, rotated)
    num, _, num_subspaces = numbers.shape
    batch, subspace = np.arange(num)[:, None, None], np.arange(num_subspaces)
    scores = tables[batch, subspace, numbers].sum(axis=2)
    scores[np.isinf(exact)] = -np.inf
    likely = np.exp(_log_softmax(scores / temperature))
    by_score = 2 * likely - np.exp(_log_softmax(exact / temperature))
    by_score[:, 0] -= 1
    by_score /= temperature * num
    # The gradient by a table's entry is the sum over the cells that look it up.
    flat = (batch * num_subspaces + subspace) * centroids.shape[1] + numbers
    weights = np.broadcast_to(by_score[:, :, None], numbers.shape)
    sums = np.bincount(flat.ravel(), weights.ravel(), minlength=tables.size).reshape(tables.shape)
    return np.asarray(np.einsum("bmk,bmd->mkd", sums, rotated), np.float32)


def _is_repeated(cells: Rows) -> npt.NDArray[np.bool_]:
    """Return where a row names a cell again, (Q, C)."""
    order = np.argsort(cells, axis=1, kind="stable")
    in_order = np.take_along_axis(cells, order, axis=1)
    again = np.zeros(cells.shape, bool)
    np.put_along_axis(again, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    return again


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


class _Adam:
    """Adam (arXiv 1412.6980), with a rate that falls to zero."""

    def __init__(self, shape: tuple[int, ...], rate: float) -> None:
        self._mean, self._square = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._rate, self._num = rate, 0

    def step(self, values: Floats, gradient: Floats, share: float) -> Floats:
        """Return the values after a step; `share` of the rate."""
        self._num += 1
        first, second = _DECAYS
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        mean = self._mean / (1 - first**self._num)
        square = self._square / (1 - second**self._num)
        return np.asarray(values - self._rate * share * mean / (np.sqrt(square) + 1e-8), np.float32)
