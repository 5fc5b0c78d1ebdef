"""Where we believe we are, before the photo is looked at.

A *hard* prior (disk, box, cells) bounds the answer. A *soft* one (gaussian, covariance, and what
platforms tell) is weighed: a strong photo can overrule it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geofix.fix import Fix
from geofix.geo import Bounds, Covariance, LatLon, east_north_m
from geofix_index import Box, CellUnion, Disk, Region
from geofix_index import cells as s2

# Radius over the sigma of each axis, of what platforms call accuracy: Android's holds 68 % of a
# Gaussian in two dimensions, sqrt(-2 ln 0.32); Core Location's is sqrt(var_east + var_north).
ANDROID_SIGMAS = 1.51
CORE_LOCATION_SIGMAS = math.sqrt(2)
WRONG_SHARE = 0.05  # of priors are taken to be wrong
SOFT_REACH_SIGMAS = 4.0  # the search inside a soft prior goes so far; 0.03 % lie farther out
_LARGEST_RADIUS_M = 20_015_100.0  # half a great circle


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The density of a soft prior."""

    centre: LatLon
    covariance_m2: Covariance  # east-north

    def __post_init__(self) -> None:
        (xx, xy), (yx, yy) = self.covariance_m2
        values = np.array(self.covariance_m2, float)
        if not np.isfinite(values).all() or xy != yx or xx <= 0 or xx * yy - xy * xy <= 0:
            raise ValueError(
                f"covariance_m2 is {self.covariance_m2}, want a symmetric 2 x 2 matrix in square "
                "metres whose variances are positive, east first"
            )

    @property
    def largest_sigma_m(self) -> float:
        """Standard deviation along the longer axis."""
        return math.sqrt(float(np.linalg.eigvalsh(np.array(self.covariance_m2, float))[-1]))


@dataclass(frozen=True, slots=True)
class Prior:
    """Where the camera is believed to be. Make one with the class methods.

    `Prior.disk`, `Prior.bbox` and `Prior.cells` are hard: only cells that they admit can be the
    answer. The others are soft, and one in twenty priors is taken to be wrong, so that a photo
    which speaks clearly for another place overrules them.

    Attributes:
        region: of a hard prior all that it admits; of a soft one what lies within four sigma.
        description: for messages.
        density: of a soft prior; None makes it hard.
    """

    region: Region
    description: str
    density: Gaussian | None = None

    @classmethod
    def disk(cls, lat: float, lon: float, *, radius_m: float) -> "Prior":
        """Admit cells whose centre lies within `radius_m` of a position in degrees."""
        centre = LatLon(lat, lon)
        _check_positive("radius_m", radius_m)
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

    @classmethod
    def gaussian(cls, lat: float, lon: float, *, sigma_m: float) -> "Prior":
        """Weigh cells by a round Gaussian around a position in degrees.

        Args:
            lat: in degrees.
            lon: in degrees.
            sigma_m: standard deviation of each axis; 68 % lie within 1.51 of it, 95 % within 2.45.
        """
        _check_positive("sigma_m", sigma_m)
        return cls.covariance(lat, lon, ((sigma_m**2, 0.0), (0.0, sigma_m**2)))

    @classmethod
    def covariance(
        cls, lat: float, lon: float, covariance_m2: Sequence[Sequence[float]]
    ) -> "Prior":
        """Weigh cells by a Gaussian around a position in degrees.

        Args:
            lat: in degrees.
            lon: in degrees.
            covariance_m2: ((east, east-north), (east-north, north)) in square metres.
        """
        centre = LatLon(lat, lon)
        if np.shape(covariance_m2) != (2, 2):
            raise ValueError(f"covariance_m2 is {covariance_m2!r}, want 2 x 2 numbers, east first")
        (xx, xy), (yx, yy) = (tuple(map(float, row)) for row in covariance_m2)
        density = Gaussian(centre, ((xx, xy), (yx, yy)))
        reach_m = min(SOFT_REACH_SIGMAS * density.largest_sigma_m, _LARGEST_RADIUS_M)
        text = f"Gaussian of {math.sqrt(xx):.3g} m east, {math.sqrt(yy):.3g} m north"
        region = Disk(centre.lat, centre.lon, reach_m)
        return cls(region, f"{text} around {lat:.5f}, {lon:.5f}", density)

    @classmethod
    def from_android(cls, lat: float, lon: float, *, accuracy_m: float) -> "Prior":
        """Weigh cells by what Android's `Location` says: its accuracy is a radius of 68 %."""
        _check_positive("accuracy_m", accuracy_m)
        return cls.gaussian(lat, lon, sigma_m=accuracy_m / ANDROID_SIGMAS)

    @classmethod
    def from_core_location(cls, lat: float, lon: float, *, horizontal_accuracy_m: float) -> "Prior":
        """Weigh cells by what Core Location's `CLLocation` says; a negative accuracy is none."""
        _check_positive("horizontal_accuracy_m", horizontal_accuracy_m)
        return cls.gaussian(lat, lon, sigma_m=horizontal_accuracy_m / CORE_LOCATION_SIGMAS)

    @classmethod
    def from_nav_sat_fix(
        cls,
        lat: float,
        lon: float,
        *,
        position_covariance: Sequence[float],
        covariance_type: int,
    ) -> "Prior":
        """Weigh cells by what ROS's `sensor_msgs/NavSatFix` says.

        Args:
            lat: in degrees.
            lon: in degrees.
            position_covariance: nine numbers, east-north-up, rows first, square metres.
            covariance_type: 1 approximated, 2 diagonal known, 3 known. 0, unknown, is an error:
                the numbers say nothing then.
        """
        values = [float(value) for value in position_covariance]
        if len(values) != 9:
            raise ValueError(f"position_covariance has {len(values)} numbers, want 9, rows first")
        if covariance_type not in (1, 2, 3):
            raise ValueError(
                f"covariance_type is {covariance_type}, want 1, 2 or 3: where the covariance is "
                "unknown, say how far off it may be with Prior.gaussian or Prior.disk"
            )
        across = 0.0 if covariance_type == 2 else (values[1] + values[3]) / 2
        return cls.covariance(lat, lon, ((values[0], across), (across, values[4])))

    @classmethod
    def from_last_fix(cls, last: Fix | LatLon, *, seconds: float, speed_mps: float) -> "Prior":
        """Weigh cells by where a camera can be some time after it was localized.

        The fix is as wide as its `accuracy_m` says; a position, as if it were exact. To this comes
        a disk of all that can be reached, whose variance along an axis is a quarter of the squared
        radius.

        Args:
            last: an earlier fix that isn't "unknown", or where the camera was.
            seconds: since then, 0 or more.
            speed_mps: the highest speed.
        """
        reach_m = seconds * speed_mps
        if not (seconds >= 0 and speed_mps >= 0 and reach_m < math.inf):
            raise ValueError(f"{seconds} s at {speed_mps} m/s, want numbers of 0 or more")
        place, sigma_m = (last, 0.0) if isinstance(last, LatLon) else _place_and_sigma_m(last)
        sigma_m = math.hypot(sigma_m, reach_m / 2)
        if sigma_m == 0:
            raise ValueError("a position of 0 s ago at 0 m/s is no prior: say how sure it is")
        return cls.gaussian(place.lat, place.lon, sigma_m=sigma_m)

    def expected(self, cells: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float64], float]:
        """Return n p of cells if a soft prior is right, (N,), and n, at least 1; see `log_weights`.

        With a Gaussian of covariance C and the Mahalanobis distance d, n p = 2 exp(-d^2 / 2) and
        n = 4 pi sqrt(det C) / area of a cell.

        Args:
            cells: (N,), at least one.
        """
        if self.density is None:
            raise ValueError(f"{self.description}: hard, which is asked by its region")
        # Cells of a level differ in area by up to 1.5 to either side; n may, too.
        cell_m2 = s2.mean_edge_m(int(s2.level_of(cells[0]))) ** 2
        # A cell is an even square: a Gaussian that is narrower spreads over it.
        covariance = np.array(self.density.covariance_m2) + np.eye(2) * cell_m2 / 12
        offsets = east_north_m(*s2.latlon_from_cell(cells).T, origin=self.density.centre)
        d2 = ((offsets @ np.linalg.inv(covariance)) * offsets).sum(axis=1)
        area_m2 = 4 * math.pi * math.sqrt(float(np.linalg.det(covariance)))
        return 2 * np.exp(-d2 / 2), max(1.0, area_m2 / cell_m2)


def log_weights(
    expected: npt.NDArray[np.float64], amounts_to: float, *, num_cells: int
) -> npt.NDArray[np.float64]:
    """Return what a prior adds to the logits of cells, (N,).

    p is the prior's probability of a cell, and n = 1 / sum(p^2) the number of cells that it amounts
    to; log(n p) leaves the cells inside a hard prior as they are. The share e = 1/20 of priors is
    wrong: the answer can then be any cell of the pack. So

        log((1 - e) n p + e n / num_cells)

    and as p is n-fold, what competes with the cells, elsewhere, has to count n / num_cells.

    Args:
        expected: n p, (N,).
        amounts_to: n.
        num_cells: of the pack.
    """
    return np.asarray(np.log((1 - WRONG_SHARE) * expected + WRONG_SHARE * amounts_to / num_cells))


def _place_and_sigma_m(fix: Fix) -> tuple[LatLon, float]:
    if fix.accuracy_m is None:
        raise ValueError(f"a fix that is {fix.status!r} says nothing of where the camera was")
    return fix.latlon, fix.accuracy_m / ANDROID_SIGMAS


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}, want a positive number of metres")
