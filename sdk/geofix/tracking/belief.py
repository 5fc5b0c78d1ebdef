"""Where a camera may be, as a tracker keeps it: weights on a grid that moves along, and "lost".

The grid is fixed in the *odometry's frame*: its origin is displaced as the camera is, so a motion
of any length moves every hypothesis exactly and costs nothing, and only the motion's uncertainty is
spread over the nodes. Only nodes with weight are kept, around as many places as are still possible.

Frames: nodes are whole steps of `spacing_m` east and north of `origin` (azimuthal equidistant, see
`geo.east_north_m`). North at a place 10 km east of the origin is off by 0.1 degrees at 45 degrees
of latitude: `recentred` keeps the origin near what is likely.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from geofix.geo import LatLon, east_north_m, latlon_from_east_north
from geofix_index import cells as s2

NODES_PER_EDGE = 4  # a cell is 4 x 4 nodes
MAX_NODES = 4096  # kept, the strongest; the others' weight is lost
MIN_WEIGHT = 1e-7  # a node with less is lost
_FAR_NODES = 500  # from the origin to what is likely, before the origin follows
_REACH = 3.0  # standard deviations that a spread is cut off at
_MAX_SPREAD = 16.0  # steps of standard deviation; a camera that may be farther off is lost
_SMALL_STEP = 0.25  # of the spacing: a smaller standard deviation waits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Cells = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Belief:
    """Weights of the nodes and of "lost", which sum to 1."""

    origin: LatLon
    spacing_m: float
    nodes: Ints  # (N, 2) steps east and north
    weights: Floats  # (N,)
    lost: float
    waiting_m2: Floats  # (2, 2) covariance that is not spread yet

    @property
    def offsets_m(self) -> Floats:
        """Metres east and north of the origin, (N, 2)."""
        return np.asarray(self.nodes * self.spacing_m)

    @property
    def latlon(self) -> Floats:
        """Positions of the nodes, (N, 2) degrees."""
        return latlon_from_east_north(self.offsets_m, origin=self.origin)


def nowhere(level: int) -> Belief:
    """Return the belief of a camera that can be anywhere, for cells of a level."""
    return Belief(
        origin=LatLon(0.0, 0.0),
        spacing_m=s2.mean_edge_m(level) / NODES_PER_EDGE,
        nodes=np.zeros((0, 2), np.int64),
        weights=np.zeros(0),
        lost=1.0,
        waiting_m2=np.zeros((2, 2)),
    )


def moved(belief: Belief, offset_m: tuple[float, float], covariance_m2: Floats) -> Belief:
    """Return the belief after a displacement, east and north, with its covariance.

    A standard deviation of more than four cells in a direction makes the camera lost.
    """
    origin = LatLon(*latlon_from_east_north(np.array(offset_m), origin=belief.origin).tolist())
    waiting = belief.waiting_m2 + covariance_m2
    variances, axes = np.linalg.eigh(waiting)
    belief = replace(belief, origin=origin, waiting_m2=waiting)
    if variances[1] < (_SMALL_STEP * belief.spacing_m) ** 2 or len(belief.nodes) == 0:
        return belief
    if variances[1] > (_MAX_SPREAD * belief.spacing_m) ** 2:
        return replace(belief, nodes=belief.nodes[:0], weights=belief.weights[:0], lost=1.0)
    for variance, axis in zip(variances, axes.T, strict=True):
        belief = _spread(belief, math.sqrt(max(variance, 0.0)) / belief.spacing_m, axis)
    return _pruned(replace(belief, waiting_m2=np.zeros((2, 2))))


def leaked(belief: Belief, share: float) -> Belief:
    """Return the belief with a share of all weight moved to "lost"."""
    kept = belief.weights * (1 - share)
    return replace(belief, weights=kept, lost=1.0 - float(kept.sum()))


def updated(
    belief: Belief, factors: Floats, *, lost: float, found: Cells, shares: Floats
) -> Belief:
    """Return the belief after evidence.

    Args:
        belief: before.
        factors: (N,) likelihood of each node.
        lost: weight of "lost", times its likelihood, without what is found.
        found: (C,) cells where a lost camera could be.
        shares: (C,) weights of these cells, times their likelihoods.
    """
    if len(belief.nodes) == 0 and len(found):
        centre = s2.latlon_from_cell(found[np.argmax(shares)])
        belief = replace(belief, origin=LatLon(*centre.tolist()), waiting_m2=np.zeros((2, 2)))
    nodes = _nodes_of(belief, found)
    weights = np.repeat(shares / NODES_PER_EDGE**2, NODES_PER_EDGE**2)
    nodes, weights = _merged(
        np.concatenate([belief.nodes, nodes]),
        np.concatenate([belief.weights * factors, weights]),
    )
    total = float(weights.sum()) + lost
    return recentred(
        _pruned(replace(belief, nodes=nodes, weights=weights / total, lost=lost / total))
    )


def recentred(belief: Belief) -> Belief:
    """Return the belief with its origin near what is most likely, where that is far away."""
    if len(belief.nodes) == 0:
        return belief
    best = belief.nodes[np.argmax(belief.weights)]
    if np.abs(best).max() < _FAR_NODES:
        return belief
    latlon = belief.latlon
    origin = LatLon(*latlon[np.argmax(belief.weights)].tolist())
    offsets = east_north_m(*latlon.T, origin=origin) / belief.spacing_m
    nodes, weights = _merged(np.rint(offsets).astype(np.int64), belief.weights)
    return replace(belief, origin=origin, nodes=nodes, weights=weights)


def _nodes_of(belief: Belief, cells: Cells) -> Ints:
    """Return the nodes nearest to each cell's centre, a square of its size, (16 C, 2)."""
    centres = east_north_m(*s2.latlon_from_cell(cells).T, origin=belief.origin)
    first = np.rint(centres / belief.spacing_m - (NODES_PER_EDGE - 1) / 2).astype(np.int64)
    steps = np.arange(NODES_PER_EDGE)
    square = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    return (first[:, None, :] + square).reshape(-1, 2)


def _spread(belief: Belief, sigma: float, axis: Floats) -> Belief:
    """Return the belief spread along an axis by a normal distribution of `sigma` steps.

    A step along the axis is one along east or north, whichever is nearer; the other part of it is
    shared out between the two nodes beside it, which keeps the mean. Below one step the curve is
    three points of the same variance.
    """
    if sigma <= 0:
        return belief
    stride = axis / np.abs(axis).max()
    sigma /= float(np.hypot(*stride))
    num = math.ceil(_REACH * sigma) if sigma > 1 else 1
    along = np.arange(-num, num + 1)
    side = sigma**2 / 2
    shares = (
        np.exp(-0.5 * (along / sigma) ** 2) if sigma > 1 else np.array([side, 1 - 2 * side, side])
    )
    points = along[:, None] * stride
    low = np.floor(points)
    above = points - low  # of at least one axis 0
    taps = np.concatenate([low, np.where(above > 0, low + 1, low)]).astype(np.int64)
    upper = above.max(axis=1)
    weights = np.concatenate([shares * (1 - upper), shares * upper]) / shares.sum()
    nodes = belief.nodes[:, None, :] + taps
    nodes, weights = _merged(nodes.reshape(-1, 2), (belief.weights[:, None] * weights).ravel())
    return replace(belief, nodes=nodes, weights=weights)


def _merged(nodes: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Return each node once, with the sum of its weights."""
    keys = (nodes[:, 0] << 32) + nodes[:, 1]
    keys, owner = np.unique(keys, return_inverse=True)
    north = ((keys + 2**31) & 0xFFFFFFFF) - 2**31
    east = (keys - north) >> 32
    sums = np.bincount(owner, weights, minlength=len(keys))
    return np.stack([east, north], axis=-1), np.asarray(sums, np.float64)


def _pruned(belief: Belief) -> Belief:
    """Return the belief with its strongest nodes; what others have is lost."""
    keep = belief.weights >= MIN_WEIGHT
    if keep.sum() > MAX_NODES:
        keep = np.zeros(len(keep), bool)
        keep[np.argpartition(belief.weights, -MAX_NODES)[-MAX_NODES:]] = True
    weights = belief.weights[keep]
    return replace(
        belief, nodes=belief.nodes[keep], weights=weights, lost=max(0.0, 1.0 - float(weights.sum()))
    )
