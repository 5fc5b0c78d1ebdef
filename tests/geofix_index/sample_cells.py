"""Cells to build shards of."""

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2

Cells = npt.NDArray[np.uint64]

PARENT = s2.cell_from_token("479aac")  # level 9


def some_cells(parent: int, *, level: int, num: int, seed: int = 2) -> Cells:
    """Return `num` descendants, ascending: the first and the last of all, others at random."""
    first, last = (int(end) for end in s2.descendant_range(parent, level=level))
    step = 2 << (2 * (s2.MAX_LEVEL - level))
    count = (last - first) // step + 1
    if count == 1:
        return np.array([first], np.uint64)
    inner = np.random.default_rng(seed).choice(count - 2, num - 2, replace=False) + 1
    return np.array(
        [first + at * step for at in (0, *sorted(inner.tolist()), count - 1)], np.uint64
    )
