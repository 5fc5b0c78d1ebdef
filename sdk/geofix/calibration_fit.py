"""Fit a calibration to how an index answers queries of known place."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geofix.geo import LatLon, distance_m, east_north_m
from geofix.image_statistics import fit_statistics
from geofix.posterior import (
    ELSEWHERE_SHARE,
    SHARES,
    Calibration,
    Floats,
    log_sum,
    posterior,
)
from geofix.radii import mass_within, square_m
from geofix.validation import RIGHT_WITHIN_M
from geofix_index import Matches
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m

_FAR_M = 500.0  # cells beyond this stand for a map that lacks the query's place
_SHRINK_QUERIES = 20.0  # levels are mixed with as many queries of a perfect posterior
_MOST_FITTED = 1000  # queries that say temperature and elsewhere: two numbers need no more
_LEAST_PICTURES = 10  # fewer do not say what photos look like


def fit_calibration(
    found: Sequence[Matches],
    truth: Floats,
    *,
    image_statistics: npt.NDArray[np.float32] | None = None,
) -> Calibration:
    """Fit a calibration, without what it says of priors.

    Each query counts twice: as it is, where its true cell should be likely; and, with the weight of
    `ELSEWHERE_SHARE`, against the cells beyond 500 m alone, as if the map lacked its place, where
    "elsewhere" should be. The temperature and the elsewhere score with the largest likelihood are
    found on a grid that is refined three times. The true cell is the one that a query lies in, or
    the nearest candidate, at most 100 m away.

    Args:
        found: for each query its matches, best first, as many as the posterior will get.
        truth: (Q, 2) latitudes and longitudes of the queries, Q at least 1.
        image_statistics: (Q, 12) of the queries' pictures, where known.
    """
    if len(found) == 0 or len(found) != len(truth):
        raise ValueError(f"{len(found)} answers for {len(truth)} places, want as many and some")
    model = None
    if image_statistics is not None and len(image_statistics) >= _LEAST_PICTURES:
        model = fit_statistics(image_statistics)
    strange = np.zeros(len(found))
    if model is not None and image_statistics is not None:
        strange = model.strangeness(image_statistics)
    some = slice(None, None, math.ceil(len(found) / _MOST_FITTED))
    temperature, elsewhere = _likeliest(found[some], truth[some], strange[some])
    calibration = Calibration(temperature, elsewhere, image_statistics=model)
    return replace(calibration, levels=_levels(found, truth, calibration))


def _likeliest(found: Sequence[Matches], truth: Floats, strange: Floats) -> tuple[float, float]:
    """Return temperature and elsewhere score."""
    scores, is_true, is_far = _query_table(found, truth)
    known = np.asarray(is_true.any(axis=1))  # the other queries' cells are not in the map
    finite = scores[np.isfinite(scores)]
    top, spread = float(finite.max()), float(np.ptp(finite)) or 1.0  # scores come at any scale
    temperatures, offsets = np.geomspace(0.002, 1.0, 16), np.linspace(-1.0, 0.5, 16)
    best = (math.inf, 1.0, 0.0)
    for _ in range(3):
        for temperature in temperatures:
            for offset in offsets:
                value = float(temperature) * spread
                rest = (top + float(offset) * spread) / value + strange
                loss = _loss(scores / value, rest, is_true, is_far, known)
                best = min(best, (loss, float(temperature), float(offset)))
        step_t = (temperatures[1] / temperatures[0]) ** np.linspace(-1, 1, 9)
        step_b = (offsets[1] - offsets[0]) * np.linspace(-1, 1, 9)
        temperatures, offsets = best[1] * step_t, best[2] + step_b
    return best[1] * spread, top + best[2] * spread


def _levels(
    found: Sequence[Matches], truth: Floats, calibration: Calibration
) -> tuple[float, float]:
    """Return the shares of the posterior whose radii hold 68 % and 95 % of the queries.

    A query's level is the share of the posterior that lies nearer to the answer than the truth
    does. Of a perfect posterior levels are spread evenly from 0 to 1; with few queries, this is
    what they are mixed with, so that chance has no more say than it should.
    """
    levels = [
        _level(matches, LatLon(*place), calibration)
        for matches, place in zip(found, truth.tolist(), strict=True)
    ]
    even = (np.arange(100) + 0.5) / 100
    values = np.concatenate([levels, even])
    weights = np.concatenate([np.ones(len(levels)), np.full(100, _SHRINK_QUERIES / 100)])
    order = np.argsort(values)
    below = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    lower, upper = np.interp(SHARES, below, values[order]).tolist()
    return max(lower, 1e-3), min(max(upper, lower, 1e-3), 1.0)


def _level(matches: Matches, truth: LatLon, calibration: Calibration) -> float:
    answer = posterior(matches, calibration)
    logits = matches.scores.astype(np.float64) / calibration.temperature
    offsets_m = east_north_m(*s2.latlon_from_cell(matches.cells).T, origin=answer.latlon)
    square = square_m(s2.mean_edge_m(int(s2.level_of(matches.cells[0]))))
    on_map = np.exp(logits - log_sum(logits))
    return min(1.0, mass_within(offsets_m, on_map, square, distance_m(answer.latlon, truth)))


def _query_table(
    found: Sequence[Matches], truth: Floats
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return scores (Q, K), which cell is the true one, and which are far from it.

    Absent matches have score -inf.
    """
    width = max(len(matches.cells) for matches in found)
    scores = np.full((len(found), width), -np.inf)
    is_true, is_far = np.zeros(scores.shape, bool), np.zeros(scores.shape, bool)
    for row, (matches, place) in enumerate(zip(found, truth, strict=True)):
        num = len(matches.cells)
        own = s2.cell_from_latlon(*place, level=int(s2.level_of(matches.cells[0])))
        apart = great_circle_m(*place, *s2.latlon_from_cell(matches.cells).T)
        nearest = np.where(matches.cells == own, -1.0, apart)  # its own cell before all others
        at = int(np.argmin(nearest))
        scores[row, :num] = matches.scores
        is_true[row, at] = nearest[at] <= RIGHT_WITHIN_M
        is_far[row, :num] = apart > _FAR_M
    return scores, is_true, is_far


def _loss(
    logits: Floats,
    rest: Floats,
    is_true: npt.NDArray[np.bool_],
    is_far: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
) -> float:
    """Return the negative log-likelihood of the truth, and of "elsewhere" on the map without it.

    Args:
        logits: (Q, K) scores over the temperature.
        rest: (Q,) the logit of elsewhere.
        is_true: (Q, K).
        is_far: (Q, K).
        known: (Q,) whether the true cell is there.
    """
    top = np.maximum(np.max(logits, axis=1), rest)
    weights = np.exp(logits - top[:, None])
    at_rest = np.exp(rest - top)
    total = weights.sum(axis=1) + at_rest
    true = np.where(known, (weights * is_true).sum(axis=1), at_rest)
    far = (weights * is_far).sum(axis=1) + at_rest
    tiny = 1e-300
    here = np.log(np.maximum(true, tiny) / total)
    away = np.log(np.maximum(at_rest, tiny) / np.maximum(far, tiny))
    return -float(((1 - ELSEWHERE_SHARE) * here + ELSEWHERE_SHARE * away).mean())
