"""Where we believe we are, before the photo is looked at."""

from collections.abc import Iterable
from dataclasses import dataclass

from geofix.geo import Bounds, LatLon
from geofix_index import Box, CellUnion, Disk, Region
from geofix_index import cells as s2


@dataclass(frozen=True, slots=True)
class Prior:
    """A hard prior: only cells that it admits can be the answer.

    Make one with `Prior.disk`, `Prior.bbox` or `Prior.cells`.
    """

    region: Region
    description: str  # for messages

    @classmethod
    def disk(cls, lat: float, lon: float, *, radius_m: float) -> "Prior":
        """Admit cells whose centre lies within `radius_m` of a position in degrees."""
        centre = LatLon(lat, lon)
        if not 0 < radius_m < float("inf"):
            raise ValueError(f"radius_m is {radius_m}, want a positive number of metres")
        text = f"disk of {radius_m:g} m around {lat:.5f}, {lon:.5f}"
        return cls(Disk(centre.lat, centre.lon, radius_m), text)

    @classmethod
    def bbox(cls, south: float, west: float, north: float, east: float) -> "Prior":
        """Admit cells whose centre lies in a box of degrees; `west > east` crosses 180 degrees."""
        bounds = Bounds(south, west, north, east)
        box = Box(bounds.south, bounds.west, bounds.north, bounds.east)
        return cls(box, f"box {south:.5f}, {west:.5f} to {north:.5f}, {east:.5f}")

    @classmethod
    def cells(cls, tokens: Iterable[str]) -> "Prior":
        """Admit cells that overlap any of the S2 cells with these tokens."""
        if isinstance(tokens, str):  # its characters would be tokens of huge cells
            raise TypeError(f"tokens is one text, {tokens!r}, want a list of tokens")
        wanted = [s2.cell_from_token(token) for token in tokens]
        if not wanted:
            raise ValueError("tokens is empty, want at least one S2 cell")
        return cls(CellUnion(wanted), f"{len(wanted)} S2 cells")
