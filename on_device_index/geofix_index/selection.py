"""The cells that a search looks at, by how they are searched.

A place is a number among all cells of an index, which ascend.
"""

import ctypes
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix_index import kernel
from geofix_index.matches import NOTHING, ranked
from geofix_index.shard import Rows, Shard

Floats = npt.NDArray[np.float32]


class Part(NamedTuple):
    """A shard, or rows of it."""

    shard: Shard
    start: int  # the place of its first row
    rows: Rows | None  # ascending; None: all


class Scanned:
    """Cells that are scored one by one: some rows of shards, or whole shards."""

    def __init__(self, parts: list[Part], *, use_kernel: bool) -> None:
        """Take parts, all with rows or none."""
        self._parts = parts
        self._use_kernel = use_kernel
        in_part = [part.start + part.rows for part in parts if part.rows is not None]
        self._places = np.concatenate(in_part) if in_part else None
        # Places in whole shards need not be kept: how many cells are scanned as far as the end of
        # each, and how many others of the index stand before that.
        sizes = np.array([len(part.shard) for part in parts], np.int64)
        self._ends = np.cumsum(sizes)
        self._skipped = np.array([part.start for part in parts], np.int64) + sizes - self._ends

    def scores(self, table: Floats) -> Floats:
        """Return the scores of these cells, in the order of their places."""
        scores = [
            part.shard.scan(table, part.rows, use_kernel=self._use_kernel) for part in self._parts
        ]
        return np.concatenate([NOTHING.scores, *scores])

    def best(self, table: Floats, k: int) -> tuple[Rows, Floats]:
        """Return the places of the k best, best first, and their scores."""
        scores = self.scores(table)
        best = ranked(scores, k)
        return self._places_of(best), scores[best]

    def _places_of(self, numbers: Rows) -> Rows:
        if self._places is not None:
            return self._places[numbers]
        shard = np.searchsorted(self._ends, numbers, side="right")
        return np.asarray(numbers + self._skipped[shard])


class InBlocks:
    """Cells of shards in blocks, of which the kernel makes one short list."""

    def __init__(self, library: ctypes.CDLL, parts: list[Part]) -> None:
        """Take parts, at least one."""
        blocks = [part.shard.masked_blocks(part.rows) for part in parts]
        addresses, masks, first_row = (np.concatenate(b) for b in zip(*blocks, strict=True))
        starts = np.repeat([part.start for part in parts], [len(b[0]) for b in blocks])
        self._first_place = starts + first_row  # of each block
        self._shortlist = kernel.Shortlist(library, addresses, masks)

    def scores(self, table: Floats) -> Floats:
        """Return the scores of these cells, in the order of their places."""
        return self._shortlist.search(table, len(self._first_place) * kernel.BLOCK)[1]

    def best(self, table: Floats, k: int) -> tuple[Rows, Floats]:
        """Return the places of the k best, best first, and their scores."""
        numbers, scores = self._shortlist.search(table, k)
        best = ranked(scores, k)
        block, at = np.divmod(numbers[best], kernel.BLOCK)
        return self._first_place[block] + at, scores[best]


@dataclass(frozen=True, slots=True)
class Selection:
    """The cells that a search looks at."""

    by_graph: list[Shard]
    scanned: Scanned | None
    in_blocks: InBlocks | None
