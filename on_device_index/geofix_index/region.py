"""Parts of the globe that a search is restricted to.

A region answers two questions about cells, both for whole arrays: `admits`, whether a cell belongs
to it, and `touches`, whether a cell could contain cells that do. `touches` may say yes too often,
never no too often, so an index can pass over most of its cells without a look at each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2
from geofix_index.sphere import EARTH_RADIUS_M, unit_vectors

# Half the longest diagonal of a cell of level 0, in radians, for S2's quadratic projection
# (kMaxDiag in s2metrics.cc), and 2 % more, since a cell's centre is not the middle of its diagonal.
_REACH_RAD = 2.438654594434021453 / 2 * 1.02
_ROUNDING_M = 1.0  # more than distances are off by between antipodes

Cells = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@runtime_checkable
class Region(Protocol):
    """A part of the globe."""

    def admits(self, cells: Cells) -> Mask:
        """Return which cells belong to the region."""

    def touches(self, cells: Cells) -> Mask:
        """Return which cells could contain cells of the region, or belong to it themselves."""


@dataclass(frozen=True)
class Disk:
    """Cells whose centre lies within `radius_m` of a position."""

    lat: float
    lon: float
    radius_m: float
    centre: Floats = field(init=False, repr=False, compare=False)  # (3,) unit vector, read-only

    def __post_init__(self) -> None:
        _check_position(self.lat, self.lon)
        if not 0 <= self.radius_m < float("inf"):
            raise ValueError(f"radius_m is {self.radius_m}, want 0 or more metres")
        centre = unit_vectors(self.lat, self.lon)
        centre.flags.writeable = False
        object.__setattr__(self, "centre", centre)

    @property
    def arc(self) -> float:
        """The radius in radians."""
        return self.radius_m / EARTH_RADIUS_M

    @property
    def chord2(self) -> float:
        """The square of the radius, straight through the globe."""
        return float(_chord2(self.arc))

    def admits(self, cells: Cells) -> Mask:
        """Return which cells have their centre inside."""
        return self.holds(s2.centre_vectors(cells))

    def holds(self, vectors: Floats) -> Mask:
        """Return which unit vectors, (3, ...), lie inside."""
        return np.asarray(self._chord2_to(vectors) <= self.chord2)

    def touches(self, cells: Cells) -> Mask:
        """Return which cells come near enough."""
        reach = (_reach_m(cells) + _ROUNDING_M) / EARTH_RADIUS_M
        return np.asarray(self._chord2_to(s2.centre_vectors(cells)) <= _chord2(self.arc + reach))

    def _chord2_to(self, vectors: Floats) -> Floats:
        # Chords compare as arcs do, and cost no sine for each cell.
        squares = vectors - self.centre.reshape(3, *[1] * (vectors.ndim - 1))
        squares *= squares
        return np.asarray(squares[0] + squares[1] + squares[2])


@dataclass(frozen=True)
class Box:
    """Cells whose centre lies in a box of degrees; `west > east` crosses the antimeridian."""

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        _check_position(self.south, self.west)
        _check_position(self.north, self.east)
        if self.south > self.north:
            raise ValueError(f"a box from south {self.south} to north {self.north}: swapped?")

    def admits(self, cells: Cells) -> Mask:
        """Return which cells have their centre inside."""
        return self._within(cells, np.zeros(np.shape(cells)))

    def touches(self, cells: Cells) -> Mask:
        """Return which cells come near enough."""
        return self._within(cells, np.degrees(_reach_m(cells) / EARTH_RADIUS_M))

    def _within(self, cells: Cells, margin_deg: npt.NDArray[np.float64]) -> Mask:
        lat, lon = np.moveaxis(s2.latlon_from_cell(cells), -1, 0)
        in_lat = (lat >= self.south - margin_deg) & (lat <= self.north + margin_deg)
        # The same arc spans more degrees of longitude towards a pole, and all of them at it.
        highest = np.minimum(np.abs(lat) + margin_deg, 90.0)
        shrink = np.maximum(np.cos(np.radians(highest)), 1e-9)
        margin_lon = np.where(margin_deg > 0, margin_deg / shrink, 0.0)
        width = self.east - self.west + (360.0 if self.west > self.east else 0.0)
        past_west = (lon - self.west + margin_lon) % 360.0
        in_lon = (past_west <= width + 2 * margin_lon) | (width + 2 * margin_lon >= 360.0)
        return np.asarray(in_lat & in_lon)


class CellUnion:
    """Cells that overlap any of the given cells, coarser or finer than they are."""

    def __init__(self, cells: npt.ArrayLike | Sequence[int]) -> None:
        first, last = s2.leaf_range(np.unique(np.asarray(cells, np.uint64)))
        order = np.argsort(first)
        self._first, self._last = first[order], np.maximum.accumulate(last[order])

    def admits(self, cells: Cells) -> Mask:
        """Return which cells overlap the union."""
        first, last = s2.leaf_range(cells)
        before = np.searchsorted(self._first, last, side="right")  # pieces that start by its end
        if len(self._first) == 0:
            return np.zeros(np.shape(cells), bool)
        return np.asarray((before > 0) & (self._last[np.maximum(before, 1) - 1] >= first))

    def touches(self, cells: Cells) -> Mask:
        """Return which cells overlap the union."""
        return self.admits(cells)


def _check_position(lat: float, lon: float) -> None:
    if not (abs(lat) <= 90 and abs(lon) <= 180):  # not for NaN, either
        raise ValueError(f"lat {lat}, lon {lon}: want degrees, lat -90 to 90, lon -180 to 180")


def _chord2(arc: npt.ArrayLike) -> Floats:
    """Return the squares of the chords of arcs in radians; infinite for half a circle and more."""
    arc = np.asarray(arc)
    return np.where(arc < np.pi, (2 * np.sin(np.minimum(arc, np.pi) / 2)) ** 2, np.inf)


def _reach_m(cells: Cells) -> npt.NDArray[np.float64]:
    """Return how far from its centre a cell may extend."""
    return np.asarray(EARTH_RADIUS_M * _REACH_RAD / 2.0 ** s2.level_of(cells))
