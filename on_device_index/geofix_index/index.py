"""Search over the shards of a region: everywhere, or in a part of the globe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2
from geofix_index import kernel
from geofix_index.forks import ForkSafeLock
from geofix_index.matches import NOTHING, Matches, merged, ranked
from geofix_index.quantizer import ProductQuantizer
from geofix_index.region import Disk, Region
from geofix_index.selection import InBlocks, Part, Scanned, Selection
from geofix_index.shard import Rows, Shard

# A shard with fewer cells is scanned, which is exact and takes half a millisecond at most; a larger
# one is searched by its graph, which is faster there. Found by benchmarks/scan_or_graph.py.
GRAPH_FROM_CELLS = 65_536
EXPANSION = 256  # candidates that a graph search keeps, at least
# Of so many cells ids and centres are kept once all shards are open, 32 bytes a cell: what is found
# is named at once, and a disk is cut out by a look at each, which is faster there than to find its
# runs of cells.
_SMALL_UP_TO = 16_384
_FEW = 4_096  # cells in blocks, up to which all scores come as fast as two short lists
_ALONE = 16  # cells of a shard, up to which each is named alone
_REFINE_LEVELS = 2  # a region is cut out of the shards in steps of this many levels
_FINER = 4**_REFINE_LEVELS  # blocks that one becomes at a step

Cells = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShardSource:
    """A shard that is opened when it is first needed."""

    parent: int
    level: int  # of its cells
    num_cells: int
    open: Callable[[], Shard]

    def __len__(self) -> int:
        return self.num_cells


_NO_ROWS = np.zeros(0, np.int64)


class _Small(NamedTuple):
    """What is kept of a small index whose shards are all open."""

    cells: Cells  # (N,)
    centres: Vectors  # (3, N)


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
            ValueError: shards that overlap, or whose cells have several levels.
        """
        levels = sorted({shard.level for shard in shards})
        if len(levels) > 1:
            raise ValueError(f"shards of cells of levels {levels}, want one level")
        self.quantizer = quantizer
        self._level = levels[0] if levels else s2.MAX_LEVEL
        self._shards = sorted(shards, key=lambda shard: shard.parent)
        self._parents = np.array([shard.parent for shard in self._shards], np.uint64)
        first, self._parents_last = s2.leaf_range(self._parents)
        if (self._parents_last[:-1] >= first[1:]).any():
            raise ValueError("shards overlap: each needs cells of its own")
        # Where each shard's cells begin among all of them, and where the last end.
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._graph_from_cells = graph_from_cells
        self._use_kernel = use_kernel
        self._lock = ForkSafeLock()
        self._everything: Selection | None = None
        self._latest: tuple[Region, list[tuple[int, Rows]]] | None = None
        self._searched: tuple[Region, Selection] | None = None
        self._small: _Small | None = None

    def search(self, embedding: Floats, *, k: int, region: Region | None = None) -> Matches:
        """Return the `k` best cells, fewer where the index or the region has fewer.

        With a region the result is exact: that of an exhaustive search, restricted to the region.
        Which cells belong to the latest region is remembered.

        Args:
            embedding: (D,).
            k: at least 1.
            region: cells that may be found; None means all.

        Raises:
            ValueError: an embedding of another length or not finite, or k below 1.
            TypeError: a region that is none.
            ShardFormatError: a shard, opened now, is damaged.
        """
        _check_number("k", k)
        selection = self._all() if region is None else self._inside(region)
        return self._search(selection, self.quantizer.lookup_table(embedding), k)

    def search_both(
        self, embedding: Floats, *, k: int, region: Region, k_everywhere: int
    ) -> tuple[Matches, Matches]:
        """Return what `search` finds in a region, and everywhere.

        A small index, or one whose cells are all scanned one by one, is scanned once for both.

        Args:
            embedding: (D,).
            k: cells of the region, at least 1.
            region: cells that the first matches are of.
            k_everywhere: cells of the second matches, at least 1.

        Raises:
            ValueError: as `search` does.
            TypeError: as `search` does.
            ShardFormatError: as `search` does.
        """
        _check_number("k", k)
        _check_number("k_everywhere", k_everywhere)
        table = self.quantizer.lookup_table(embedding)
        scores = self._all_scores(table)
        if scores is None:
            inside = self._search(self._inside(region), table, k)
            return inside, self._search(self._all(), table, k_everywhere)
        places = self.rows_in(region)
        within, best = places[ranked(scores[places], k)], ranked(scores, k_everywhere)
        return (
            Matches(self._cells_at(within), scores[within]),
            Matches(self._cells_at(best), scores[best]),
        )

    @property
    def num_cells(self) -> int:
        """How many cells there are."""
        return int(self._starts[-1])

    def num_cells_in(self, region: Region) -> int:
        """Return how many cells belong to a region; of the latest one that was asked for, at once.

        Raises:
            TypeError: a region that is none.
        """
        return sum(len(rows) for _, rows in self._rows_of(region))

    def cells_in(self, region: Region) -> Cells:
        """Return the cells of the index that belong to a region, ascending."""
        found = [self._shard(number).cells(rows) for number, rows in self._rows_of(region)]
        return np.concatenate([NOTHING.cells, *found])

    def rows_in(self, region: Region) -> Rows:
        """Return where `cells_in` stand among all cells of the index, which ascend."""
        found = [self._starts[number] + rows for number, rows in self._rows_of(region)]
        return np.concatenate([_NO_ROWS, *found])

    def _shard(self, number: int) -> Shard:
        shard = self._shards[number]
        if isinstance(shard, Shard):
            return shard
        with self._lock:
            current = self._shards[number]  # another thread may have been faster
            opened = current if isinstance(current, Shard) else current.open()
            self._shards[number] = opened
            return opened

    def _all(self) -> Selection:
        if self._everything is None:
            shards = [self._shard(number) for number in range(len(self._shards))]
            if self.num_cells <= _SMALL_UP_TO:
                cells = np.concatenate([NOTHING.cells, *(shard.cells() for shard in shards)])
                self._small = _Small(cells, s2.centre_vectors(cells))
            starts = zip(shards, self._starts.tolist(), strict=False)
            self._everything = self._divide([Part(shard, start, None) for shard, start in starts])
        return self._everything

    def _all_scores(self, table: Floats) -> Floats | None:
        """Return the scores of all cells, or None where a search has no need of them all."""
        everything = self._all()
        if everything.by_graph:
            return None
        if everything.in_blocks is None:
            return (
                NOTHING.scores if everything.scanned is None else everything.scanned.scores(table)
            )
        if everything.scanned is not None or self.num_cells > _FEW:
            return None
        return everything.in_blocks.scores(table)

    def _inside(self, region: Region) -> Selection:
        latest = self._searched
        if latest is None or latest[0] != region:
            parts = [
                Part(self._shard(number), int(self._starts[number]), rows)
                for number, rows in self._rows_of(region)
            ]
            self._searched = latest = (region, self._divide(parts))
        return latest[1]

    def _divide(self, parts: list[Part]) -> Selection:
        """Divide parts by how they are searched."""
        library = kernel.load_kernel() if self._use_kernel else None
        if self.quantizer.num_subspaces > kernel.MAX_SHORTLIST:
            library = None
        by_graph, scanned, in_blocks = [], [], []
        for part in parts:
            if part.rows is None and self._goes_by_graph(part.shard):
                by_graph.append(part.shard)
            elif library is not None and part.shard.blocks is not None:
                in_blocks.append(part)
            else:
                scanned.append(part)
        return Selection(
            by_graph,
            Scanned(scanned, use_kernel=self._use_kernel) if scanned else None,
            InBlocks(library, in_blocks) if library is not None and in_blocks else None,
        )

    def _search(self, selection: Selection, table: Floats, k: int) -> Matches:
        found = [
            Matches(*shard.search(table, k=k, expansion=EXPANSION)) for shard in selection.by_graph
        ]
        for cells in (selection.scanned, selection.in_blocks):
            if cells is not None:
                places, scores = cells.best(table, k)
                found.append(Matches(self._cells_at(places), scores))
        if len(found) == 1 and not selection.by_graph:  # whose equals come in any order
            return found[0]
        return merged(found, k)

    def _cells_at(self, places: Rows) -> Cells:
        if self._small is not None:
            return self._small.cells[places]
        owners = np.searchsorted(self._starts, places, side="right") - 1
        rows = places - self._starts[owners]
        shards = np.unique(owners).tolist()
        if len(places) < _ALONE * len(shards):
            where = zip(owners.tolist(), rows.tolist(), strict=True)
            return np.array([self._shard(number).cell(row) for number, row in where], np.uint64)
        cells = np.empty(len(places), np.uint64)
        for number in shards:
            own = owners == number
            cells[own] = self._shard(number).cells(rows[own])
        return cells

    def _goes_by_graph(self, shard: Shard) -> bool:
        return self._use_kernel and shard.has_graph and len(shard) >= self._graph_from_cells

    def _rows_of(self, region: Region) -> list[tuple[int, Rows]]:
        """Return the numbers of shards that hold cells of a region, and the rows of these cells."""
        latest = self._latest
        if latest is None or latest[0] != region:
            self._latest = latest = (region, self._cut_out(region))
        return latest[1]

    def _cut_out(self, region: Region) -> list[tuple[int, Rows]]:
        if not isinstance(region, Region):
            raise TypeError(f"region is {region!r}, want a Disk, a Box or a CellUnion")
        if self._small is not None and isinstance(region, Disk):
            return self._rows_at(np.flatnonzero(region.holds(self._small.centres)))
        library = kernel.load_kernel() if self._use_kernel else None
        if library is not None and isinstance(region, Disk):
            runs = kernel.disk(
                library,
                self._parents,
                self._level,
                region.centre,
                arc=region.arc,
                limit=region.chord2,
            )
            return self._rows_inside(*runs)
        found = self._rows_inside(*s2.leaf_range(self._cover(region)))
        admitted = [
            (number, rows[region.admits(self._shard(number).cells(rows))]) for number, rows in found
        ]
        return [(number, rows) for number, rows in admitted if len(rows)]

    def _rows_at(self, places: Rows) -> list[tuple[int, Rows]]:
        """Return the numbers of shards that hold places, which ascend, and the rows there."""
        ends = np.searchsorted(places, self._starts)
        parts = zip(self._starts.tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=False)
        return [
            (number, places[begin:end] - start)
            for number, (start, begin, end) in enumerate(parts)
            if begin < end
        ]

    def _cover(self, region: Region) -> Cells:
        """Return blocks inside the parents that hold all cells of a region, ascending.

        A block costs about what a cell costs, so blocks become finer only while cells outnumber
        them.
        """
        touched = np.flatnonzero(region.touches(self._parents))
        num_cells = sum(len(self._shard(number)) for number in touched.tolist())
        blocks = self._parents[touched]
        level = int(s2.level_of(blocks).max(initial=0)) + _REFINE_LEVELS
        while level <= self._level - _REFINE_LEVELS and len(blocks) * _FINER < num_cells:
            blocks = s2.descendants(blocks, level=level)
            blocks = blocks[region.touches(blocks)]
            level += _REFINE_LEVELS
        return blocks

    def _rows_inside(self, first: Cells, last: Cells) -> list[tuple[int, Rows]]:
        """Return the numbers of shards with cells in runs of leaves, and the rows of these."""
        owner = np.searchsorted(self._parents_last, last)
        found = []
        for number in np.unique(owner).tolist():
            begin, end = np.searchsorted(owner, [number, number + 1])
            rows = self._shard(number).rows_inside(first[begin:end], last[begin:end])
            if len(rows):
                found.append((number, rows))
        return found


def _check_number(name: str, k: int) -> None:
    if k < 1:
        raise ValueError(f"{name} is {k}, want at least 1")
