"""What a search finds, and which of many are the best."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Matches(NamedTuple):
    """Cells and scores, best first; among equal scores the smaller cell id comes first."""

    cells: Cells
    scores: Floats


NOTHING = Matches(np.zeros(0, np.uint64), np.zeros(0, np.float32))


def ranked(scores: Floats, k: int) -> Rows:
    """Return the rows of the k best scores, best first; among equals the first comes first."""
    best = _top(scores, k)
    return best[np.argsort(-scores[best], kind="stable")][:k]


def merged(found: Sequence[Matches], k: int) -> Matches:
    """Return the k best of several searches, which may give equals in any order."""
    cells, scores = (np.concatenate(parts) for parts in zip(NOTHING, *found, strict=True))
    best = _top(scores, k)
    order = best[np.lexsort((cells[best], -scores[best]))][:k]
    return Matches(cells[order], scores[order])


def _top(scores: Floats, k: int) -> Rows:
    """Return the rows of the k best scores and of all that equal the last of them, in any order."""
    if len(scores) <= k:
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least)
