"""Radii that hold a share of a distribution of weights, each of them spread over points."""

import numpy as np
import numpy.typing as npt

_DUST = 1e-5  # of the weight, which no radius reaches out for; sums of weights are less far off
_TICKS = 4  # a square is 4 x 4 points

Floats = npt.NDArray[np.float64]


def square_m(edge_m: float) -> Floats:
    """Return the points, (16, 2), that stand for a square around the origin."""
    ticks = ((np.arange(_TICKS) + 0.5) / _TICKS - 0.5) * edge_m
    return np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)


def radii_m(
    offsets_m: Floats, weights: Floats, spread_m: Floats, *, shares: tuple[float, ...]
) -> tuple[float | None, ...]:
    """Return the radii around the origin that hold shares; None where all weights are less.

    Args:
        offsets_m: (K, 2).
        weights: (K,).
        spread_m: (P, 2) the points around each offset that its weight is spread over evenly.
        shares: of 1, whatever the weights sum to.
    """
    distance = np.hypot(offsets_m[:, 0], offsets_m[:, 1])
    order = np.argsort(distance)
    offsets_m, weights, distance = offsets_m[order], weights[order], distance[order]
    mass = np.cumsum(weights)
    total = float(weights.sum())
    # A radius lies within `reach` of where the share is held if a weight is not spread at all. It
    # cuts through weights near there alone: the points of others need not be looked at.
    reach = float(np.hypot(spread_m[:, 0], spread_m[:, 1]).max())
    radii: list[float | None] = []
    for share in shares:
        if share > total + _DUST:
            radii.append(None)
            continue
        wanted = min(share, total - _DUST)
        about = distance[np.searchsorted(mass[:-1], wanted)]
        begin = int(np.searchsorted(distance, about - 2 * reach, side="left"))
        end = int(np.searchsorted(distance, about + 2 * reach, side="right"))
        cut = _distances(offsets_m[begin:end], spread_m).ravel()
        each = np.repeat(weights[begin:end] / len(spread_m), len(spread_m))
        nearest_first = np.argsort(cut)
        held = mass[begin] - weights[begin] + np.cumsum(each[nearest_first])
        radii.append(float(cut[nearest_first[np.searchsorted(held[:-1], wanted)]]))
    return tuple(radii)


def mass_within(offsets_m: Floats, weights: Floats, spread_m: Floats, radius_m: float) -> float:
    """Return the weight that lies nearer to the origin than a radius; else as `radii_m`."""
    inside = _distances(offsets_m, spread_m) < radius_m
    return float(weights @ inside.mean(axis=1))


def _distances(offsets_m: Floats, spread_m: Floats) -> Floats:
    """Return how far the points around offsets are from the origin, (K, P)."""
    points = offsets_m[:, None] + spread_m
    return np.hypot(points[..., 0], points[..., 1])
