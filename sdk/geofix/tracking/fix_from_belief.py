"""From a tracker's belief to a fix."""

import math

import numpy as np
import numpy.typing as npt

from geofix.fix import Candidate, Fix
from geofix.geo import LatLon, latlon_from_east_north
from geofix.posterior import place_around, status_of
from geofix.radii import radii_m
from geofix.tracking.belief import Belief
from geofix.tracking.evidence import Evidence
from geofix_index import cells as s2

_RINGS, _PER_RING = 4, 4  # points that stand for a node when radii are counted
_NEGLIGIBLE = 1e-5  # weights of nodes, a per cent or two of all, that radii do without

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.uint64]


def fix_from_belief(belief: Belief, seen: Evidence, *, bias_m: float, pack_id: str, k: int) -> Fix:
    """Return what a belief says, as a fix.

    Args:
        belief: with at least one node.
        seen: the photo that came last, for the scores of candidates.
        bias_m: standard deviation, east and north, that the belief does not know of.
        pack_id: of the pack.
        k: number of candidates.
    """
    cells = s2.cell_from_latlon(*belief.latlon.T, level=seen.level)
    mode = _mode(cells, belief.weights)
    weights = belief.weights[mode]
    mass = float(weights.sum())
    mean_m = weights @ belief.offsets_m[mode] / mass
    apart = belief.offsets_m[mode] - mean_m
    unseen = np.eye(2) * (bias_m**2 + belief.spacing_m**2 / 12) + belief.waiting_m2
    covariance = (apart * weights[:, None]).T @ apart / mass + unseen
    (xx, xy), (_, yy) = covariance.tolist()
    radii = _radii(belief, mean_m, math.sqrt(np.trace(unseen) / 2), shares=(0.68, 0.95))
    return Fix(
        status=status_of(mass, belief.lost),
        latlon=LatLon(*latlon_from_east_north(mean_m, origin=belief.origin).tolist()),
        accuracy_m=radii[0],
        radius95_m=radii[1],
        covariance_m2=((xx, xy), (xy, yy)),
        confidence=mass,
        candidates=_candidates(cells, belief.weights, seen, k),
        pack_id=pack_id,
        is_tracked=True,
    )


def _mode(cells: Cells, weights: Floats) -> npt.NDArray[np.bool_]:
    """Return which nodes lie in the best cell and its 8 neighbours."""
    each, owner = np.unique(cells, return_inverse=True)
    best = each[np.argmax(np.bincount(owner, weights))]
    return np.isin(cells, place_around(int(best)))


def _candidates(cells: Cells, weights: Floats, seen: Evidence, k: int) -> tuple[Candidate, ...]:
    """Return the best cells of the pack; where the belief has none, the photo's own."""
    each, owner = np.unique(cells, return_inverse=True)
    shares, scores = np.bincount(owner, weights), seen.scores_of(each)
    others = np.setdiff1d(seen.best.cells, each)
    each = np.concatenate([each, others])
    shares = np.concatenate([shares, np.zeros(len(others))])
    scores = np.concatenate([scores, seen.scores_of(others)])
    order = np.lexsort((each, -scores, -shares))
    order = order[np.isfinite(scores[order])][:k]
    centres = s2.latlon_from_cell(each[order]).tolist()
    return tuple(
        Candidate(
            s2.token_from_cell(int(each[i])), LatLon(*centre), float(scores[i]), float(shares[i])
        )
        for i, centre in zip(order.tolist(), centres, strict=True)
    )


def _radii(
    belief: Belief, mean_m: Floats, sigma_m: float, *, shares: tuple[float, ...]
) -> tuple[float | None, ...]:
    """Return the radii around `mean_m` that hold shares of all weight, "lost" included.

    Each node stands for a normal distribution of `sigma_m`, drawn as four rings of equal weight.
    """
    quantiles = (np.arange(_RINGS) + 0.5) / _RINGS
    angles = 2 * math.pi * (np.arange(_PER_RING)[None] + quantiles[:, None]) / _PER_RING
    reach = sigma_m * np.sqrt(-2 * np.log(1 - quantiles))[:, None]
    ring = np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=-1).reshape(-1, 2)
    strong = belief.weights >= _NEGLIGIBLE
    return radii_m(belief.offsets_m[strong] - mean_m, belief.weights[strong], ring, shares=shares)
