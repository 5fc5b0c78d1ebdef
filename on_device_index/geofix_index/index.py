"""Search over the shards of a region: everywhere, or in a part of the globe."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2
from geofix_index import kernel
from geofix_index.quantizer import ProductQuantizer
from geofix_index.region import Region
from geofix_index.shard import Rows, Shard

# A shard with fewer cells is scanned, which is exact; in a larger one the graph is faster. Found by
# benchmarks/scan_or_graph.py, shown in docs/results.md.
GRAPH_FROM_CELLS = 32_768
EXPANSION = 256  # candidates that a graph search keeps, at least
_REFINE_LEVELS = 2  # a region is cut out of a shard in two steps of this many levels

Cells = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]


class Matches(NamedTuple):
    """Cells and scores, best first; among equal scores the smaller cell id comes first."""

    cells: Cells
    scores: Floats


@dataclass(frozen=True, slots=True)
class ShardSource:
    """A shard that is opened when it is first needed."""

    parent: int
    open: Callable[[], Shard]


class _Together(NamedTuple):
    """Which shards are searched at once, which one by one."""

    in_blocks: list[int]
    others: list[int]
    shortlist: kernel.Shortlist | None  # of those in blocks


class CellIndex:
    """The shards of a region. Safe to share between threads."""

    def __init__(
        self,
        quantizer: ProductQuantizer,
        shards: Sequence[Shard | ShardSource],
        *,
        graph_from_cells: int = GRAPH_FROM_CELLS,
        use_kernel: bool = True,
    ) -> None:
        """Take shards or where to get them; none may overlap another.

        Args:
            quantizer: of all of them.
            shards: in any order.
            graph_from_cells: size from which a shard's graph is used where nothing restricts the
                search.
            use_kernel: False scans in NumPy.

        Raises:
            ValueError: shards that overlap.
        """
        self.quantizer = quantizer
        self._shards = sorted(shards, key=lambda shard: shard.parent)
        self._parents = np.array([shard.parent for shard in self._shards], np.uint64)
        first, last = s2.leaf_range(self._parents)
        if (last[:-1] >= first[1:]).any():
            raise ValueError("shards overlap: each needs cells of its own")
        self._graph_from_cells = graph_from_cells
        self._use_kernel = use_kernel
        self._lock = threading.Lock()
        self._together: _Together | None = None

    def search(self, embedding: Floats, *, k: int, region: Region | None = None) -> Matches:
        """Return the `k` best cells, fewer where the index or the region has fewer.

        With a region the result is exact: that of an exhaustive search, restricted to the region.

        Args:
            embedding: (D,).
            k: at least 1.
            region: cells that may be found; None means all.

        Raises:
            ValueError: an embedding of another length or not finite, or k below 1.
            ShardFormatError: a shard, opened now, is damaged.
        """
        if k < 1:
            raise ValueError(f"k is {k}, want at least 1")
        table = self.quantizer.lookup_table(embedding)
        if region is None:
            found = self._search_everywhere(table, k)
        else:
            found = [self._scan_rows(number, table, rows) for number, rows in self._rows_of(region)]
        return _best(found, k)

    def cells_in(self, region: Region) -> Cells:
        """Return the cells of the index that belong to a region, ascending."""
        found = [self._shard(number).cells(rows) for number, rows in self._rows_of(region)]
        return np.concatenate([np.zeros(0, np.uint64), *found])

    def _shard(self, number: int) -> Shard:
        shard = self._shards[number]
        if isinstance(shard, Shard):
            return shard
        with self._lock:
            current = self._shards[number]  # another thread may have been faster
            opened = current if isinstance(current, Shard) else current.open()
            self._shards[number] = opened
            return opened

    def _search_everywhere(self, table: Floats, k: int) -> list[Matches]:
        """Search all shards: those in blocks at once, the others one by one."""
        together = self._together = self._together or self._gather()
        found = [self._search_shard(number, table, k) for number in together.others]
        if together.shortlist is not None:
            rows, scores = together.shortlist.search(table, k)
            starts = together.shortlist.starts
            ends = np.searchsorted(rows, starts[1:])
            begins = np.concatenate([[0], ends[:-1]])
            for at in np.flatnonzero(ends > begins).tolist():
                own = slice(begins[at], ends[at])
                shard = self._shard(together.in_blocks[at])
                found.append(Matches(shard.cells(rows[own] - starts[at]), scores[own]))
        return found

    def _gather(self) -> "_Together":
        """Open all shards, and part those that are searched together from the others."""
        library = kernel.load_kernel() if self._use_kernel else None
        numbers = list(range(len(self._shards)))
        if library is None or self.quantizer.num_subspaces > kernel.MAX_SHORTLIST:
            return _Together([], numbers, None)
        blocks = {number: self._shard(number).blocks for number in numbers}
        stored = {n: (own, len(self._shard(n))) for n, own in blocks.items() if own is not None}
        others = [number for number in numbers if number not in stored]
        shortlist = kernel.Shortlist(library, list(stored.values())) if stored else None
        return _Together(list(stored), others, shortlist)

    def _search_shard(self, number: int, table: Floats, k: int) -> Matches:
        shard = self._shard(number)
        if self._use_kernel and shard.has_graph and len(shard) >= self._graph_from_cells:
            return Matches(*shard.search(table, k=k, expansion=EXPANSION))
        scores = shard.scan(table, use_kernel=self._use_kernel)
        rows = _top(scores, k)
        return Matches(shard.cells(rows), scores[rows])

    def _scan_rows(self, number: int, table: Floats, rows: Rows) -> Matches:
        shard = self._shard(number)
        return Matches(shard.cells(rows), shard.scan(table, rows, use_kernel=self._use_kernel))

    def _rows_of(self, region: Region) -> list[tuple[int, Rows]]:
        """Return the shards that hold cells of a region, and the rows of these cells."""
        found = []
        for number in np.flatnonzero(region.touches(self._parents)):
            shard = self._shard(int(number))
            blocks = self._parents[number : number + 1]
            for _ in range(2):
                level = min(int(s2.level_of(blocks[0])) + _REFINE_LEVELS, shard.level)
                blocks = s2.descendants(blocks, level=level)
                blocks = blocks[region.touches(blocks)]
                if len(blocks) == 0:
                    break
            rows = shard.rows_inside(blocks)
            rows = rows[region.admits(shard.cells(rows))]
            if len(rows):
                found.append((int(number), rows))
        return found


def _top(scores: Floats, k: int) -> Rows:
    """Return the rows of the k best scores and of all that equal the last of them, in any order."""
    if len(scores) <= k:
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least)


def _best(found: list[Matches], k: int) -> Matches:
    cells = np.concatenate([np.zeros(0, np.uint64), *(matches.cells for matches in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(matches.scores for matches in found)])
    rows = _top(scores, k)
    order = rows[np.lexsort((cells[rows], -scores[rows]))][:k]
    return Matches(cells[order], scores[order])
