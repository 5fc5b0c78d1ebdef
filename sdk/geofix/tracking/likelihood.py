"""How well places explain a photo, or a prior, as logarithms.

Against a camera that is lost, each place's likelihood is mixed with that of an outlier,

    log(OUTLIER_SHARE + (1 - OUTLIER_SHARE) * ratio) * weight

so that no place is ever ruled out. The weight, 0 to 1, is how much of the evidence is new.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geofix.geo import east_north_m
from geofix.prior import Gaussian
from geofix.tracking.belief import Belief
from geofix.tracking.evidence import Evidence
from geofix_index import CellIndex, Disk
from geofix_index import cells as s2

OUTLIER_SHARE = 0.05  # of photos and priors say nothing about where they were taken
_MAX_DISK_M = 2000.0  # all cells this near to a prior are looked at, or the best matches alone

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.uint64]


class LogLikelihood(NamedTuple):
    """Of the nodes of a belief (N,), of the cells of an evidence (C,), and of all other cells."""

    nodes: Floats
    cells: Floats
    others: float

    def plus(self, other: "LogLikelihood") -> "LogLikelihood":
        """Return the likelihood of both."""
        return LogLikelihood(
            self.nodes + other.nodes, self.cells + other.cells, self.others + other.others
        )


def of_photo(seen: Evidence, ratios: Floats, *, weight: float) -> LogLikelihood:
    """Return the likelihood of a photo; `ratios` are those of the nodes."""
    others = weight * math.log(OUTLIER_SHARE)  # they match worse than any that was looked at
    return LogLikelihood(weight * _log_mixed(ratios), weight * _log_mixed(seen.ratios), others)


def of_prior(
    prior: Gaussian,
    belief: Belief,
    seen: Evidence,
    *,
    area_m2: float,
    bias_m: float,
    weight: float,
) -> LogLikelihood:
    """Return the likelihood of a prior against one anywhere in the pack's area.

    Where the belief has the camera, it may be by the photos' bias from where it is.
    """
    centres = s2.latlon_from_cell(seen.cells)
    of_nodes, of_cells = (
        weight * _log_mixed(area_m2 * _density(prior, latlon, bias_m=bias_m))
        for latlon in (belief.latlon, centres)
    )
    return LogLikelihood(of_nodes, of_cells, weight * math.log(OUTLIER_SHARE))


def cells_near(prior: Gaussian, index: CellIndex, *, bias_m: float) -> Cells:
    """Return the cells within three standard deviations; none where these are too many."""
    radius_m = 3 * math.hypot(prior.largest_sigma_m, bias_m)
    if radius_m > _MAX_DISK_M:
        return np.zeros(0, np.uint64)
    return index.cells_in(Disk(prior.centre.lat, prior.centre.lon, radius_m))


def _log_mixed(ratios: Floats) -> Floats:
    return np.log(OUTLIER_SHARE + (1 - OUTLIER_SHARE) * ratios)


def _density(prior: Gaussian, latlon: Floats, *, bias_m: float) -> Floats:
    """Return the probability per m² that a prior gives to places (N, 2)."""
    covariance_m2 = np.array(prior.covariance_m2) + np.eye(2) * bias_m**2
    apart = east_north_m(*latlon.T, origin=prior.centre)
    distance2 = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance_m2), apart)
    whole = 2 * math.pi * math.sqrt(float(np.linalg.det(covariance_m2)))
    return np.asarray(np.exp(-distance2 / 2) / whole)
