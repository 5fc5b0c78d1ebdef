"""Where a pack can place a photo, and how well: answered offline, without a photo."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from geofix.geo import Bounds, LatLon
from geofix.validation import Validation
from geofix_index import Box, CellIndex, CellUnion, Disk, Region
from geofix_index import cells as s2

MAX_COVERAGE_CELLS = 64  # of a coverage union: about half a kilobyte of the manifest

Cells = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class LocalCoverage:
    """What a pack has around a place.

    Attributes:
        contains: whether there is a cell at the place itself.
        num_cells: cells whose centre lies in the disk that was asked for.
        cells_per_km2: in the disk.
        share_photographed: of these cells those that ground photos were trained on; None where the
            pack does not say, or has none there.
        expected: how validation photos from anywhere in the pack were answered that were taken in
            cells like the one at the place, photographed or not; None where it is not known.
        photographed: whether ground photos were trained on in the cell at the place; None where the
            pack does not say, or has no cell there.
    """

    contains: bool
    num_cells: int
    cells_per_km2: float
    share_photographed: float | None
    expected: Validation | None
    photographed: bool | None = None


class Coverage:
    """Where a pack can place a photo, and how well. `RegionPack.coverage` gives it.

    Attributes:
        bounds: a box around all cells.
        union: S2 cells, at most 64, that together contain all cells; ascending, (C,).
        cell_level: S2 level of the pack's cells.
        num_cells: of the pack.
    """

    def __init__(
        self,
        *,
        bounds: Bounds,
        union: Cells,
        num_cells: int,
        index: CellIndex,
        photographed_bits: Callable[[], npt.NDArray[np.uint8] | None],
        validation: Mapping[str, Validation],
        cell_level: int,
    ) -> None:
        self.bounds = bounds
        self.union = union
        self.cell_level = cell_level
        self.num_cells = num_cells
        self._index = index
        self._photographed_bits = photographed_bits
        self._validation = validation

    def contains(self, lat: float, lon: float) -> bool:
        """Return whether the pack has a cell at a position."""
        return len(self._index.cells_in(self._cell_at(lat, lon))) > 0

    def cells_in(self, bounds: Bounds) -> Cells:
        """Return the pack's S2 cells whose centre lies in a box, ascending."""
        return self._index.cells_in(_box(bounds))

    def photographed_in(self, bounds: Bounds) -> npt.NDArray[np.bool_] | None:
        """Return which of `cells_in` ground photos were trained on; None: the pack doesn't say."""
        return self._photographed(_box(bounds))

    @property
    def area_km2(self) -> float:
        """The area of the union, an outline of at most 64 cells: `cells_km2` or more."""
        return float(s2.area_m2(self.union).sum()) / 1e6

    @property
    def cells_km2(self) -> float:
        """The area of the cells, taken to be as large as cells of the union are on average."""
        depth = self.cell_level - s2.level_of(self.union).astype(np.int64)
        return self.area_km2 * self.num_cells / float((4.0**depth).sum())

    @property
    def cells_per_km2(self) -> float:
        """Mean over the union."""
        return self.num_cells / self.area_km2

    @cached_property
    def share_photographed(self) -> float | None:
        """Share of cells that ground photos were trained on; None: the pack does not say."""
        bits = self._photographed_bits()
        return None if bits is None else float(np.unpackbits(bits).sum()) / self.num_cells

    @property
    def expected(self) -> Validation | None:
        """How the pack answered validation photos; None where it was not calibrated with any."""
        return self._validation.get("all")

    def around(self, lat: float, lon: float, *, radius_m: float = 500.0) -> LocalCoverage:
        """Return what a photo taken at a position could count on.

        Args:
            lat: in degrees.
            lon: in degrees.
            radius_m: of the disk in which cells are counted.
        """
        disk = Disk(lat, lon, radius_m)
        num_cells = len(self._index.cells_in(disk))
        photographed = self._photographed(disk)
        share = None if photographed is None or num_cells == 0 else float(photographed.mean())
        own = self._photographed(self._cell_at(lat, lon))
        return LocalCoverage(
            contains=self.contains(lat, lon),
            num_cells=num_cells,
            cells_per_km2=num_cells / (np.pi * radius_m**2 / 1e6),
            share_photographed=share,
            expected=self._expected_at(lat, lon),
            photographed=None if own is None or len(own) == 0 else bool(own[0]),
        )

    def _expected_at(self, lat: float, lon: float) -> Validation | None:
        if not self.contains(lat, lon):
            return None
        photographed = self._photographed(self._cell_at(lat, lon))
        if photographed is None:
            return self.expected
        return self._validation.get("photographed" if photographed[0] else "not_photographed")

    def _cell_at(self, lat: float, lon: float) -> CellUnion:
        place = LatLon(lat, lon)
        return CellUnion([int(s2.cell_from_latlon(place.lat, place.lon, level=self.cell_level))])

    def _photographed(self, region: Region) -> npt.NDArray[np.bool_] | None:
        bits = self._photographed_bits()
        return None if bits is None else bits_at(bits, self._index.rows_in(region))


def bits_at(bits: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return single bits of packed ones, lowest bit first."""
    return np.asarray(bits[rows >> 3] >> (rows & 7) & 1, bool)


def coverage_union(cells: Cells, *, max_cells: int = MAX_COVERAGE_CELLS) -> Cells:
    """Return S2 cells, at most `max_cells`, that together contain all cells; ascending.

    Args:
        cells: (N,) disjoint.
        max_cells: at least 6, the faces of the cube.
    """
    union = np.unique(cells)
    while len(union) > max_cells:
        union = _with_parents(union, level=int(s2.level_of(union).max()), least=1)
    for level in range(s2.MAX_LEVEL, 0, -1):
        union = _with_parents(union, level=level, least=4)
    return union


def _with_parents(cells: Cells, *, level: int, least: int) -> Cells:
    """Replace cells of a level by their parents, wherever a parent has at least so many of them."""
    own = s2.level_of(cells) == level
    parents, numbers = np.unique(s2.parent(cells[own], level=level - 1), return_inverse=True)
    replaced = np.bincount(numbers, minlength=len(parents)) >= least
    kept = cells[own][~replaced[numbers]]
    return np.sort(np.concatenate([cells[~own], kept, parents[replaced]]))


def _box(bounds: Bounds) -> Box:
    return Box(bounds.south, bounds.west, bounds.north, bounds.east)
