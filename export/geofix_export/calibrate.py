"""Calibrate a finished pack with validation photos, and sum up how it answers them."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geofix.answer import bayes_factor, find
from geofix.calibration_fit import fit_calibration
from geofix.coverage import coverage_union
from geofix.geo import LatLon, distance_m, latlon_from_east_north
from geofix.posterior import NUM_CANDIDATES, Calibration, posterior
from geofix.prior import WRONG_SHARE, Prior
from geofix.validation import Validation
from geofix_index import CellIndex
from geofix_index import cells as s2
from geofix_train.cell_codes import Queries

_LEAST_SEEN = 50  # queries on photographed streets that are enough to fit with these alone
_PRIOR_RADII = (2.0, 4.0, 8.0)  # times the spacing of cells
_MOST_TRIED = 500  # queries that right priors are drawn around
_EVEN_ODDS = math.log(1 / WRONG_SHARE - 1)  # from there a wrong prior is likelier than a right one
_FALSE_CONFLICTS = 0.02  # of right priors are taken to be wrong


def calibrate(
    index: CellIndex,
    queries: Queries | None,
    cells: npt.NDArray[np.uint64],
    photographed: npt.NDArray[np.bool_] | None,
) -> Calibration | None:
    """Return what fits how a finished index scores validation queries, and how it answers them.

    Args:
        index: of the pack.
        queries: validation photos with their places; None or none of them gives None.
        cells: (N,) of the pack, ascending.
        photographed: (N,) which cells ground photos were trained on, where known.
    """
    if queries is None or len(queries.latlon) == 0:
        return None
    found = [index.search(embedding, k=NUM_CANDIDATES) for embedding in queries.embeddings]
    fitted = _fitted_with(queries)
    statistics = queries.image_statistics
    calibration = fit_calibration(
        [found[row] for row in fitted],
        queries.latlon[fitted],
        image_statistics=None if statistics is None else statistics[fitted],
    )
    spacing_m = _spacing_m(cells)
    conflict = _conflict(index, queries, fitted, calibration, spacing_m)
    calibration = replace(calibration, conflict=conflict)
    answers = [posterior(matches, calibration) for matches in found]
    is_fixed = np.array([answer.status == "fixed" for answer in answers])
    errors_m = np.array(
        [
            distance_m(answer.latlon, LatLon(*place))
            for answer, place in zip(answers, queries.latlon.tolist(), strict=True)
        ]
    )
    of_kind = _kinds_of_place(queries, cells, photographed)
    return replace(
        calibration,
        validation={
            kind: Validation.of(errors_m[own], is_fixed[own])
            for kind, own in of_kind.items()
            if own.any()
        },
    )


def _fitted_with(queries: Queries) -> npt.NDArray[np.int64]:
    """Return the queries to fit with: those on photographed streets, where these are enough.

    Photos from elsewhere in the pack are found so much less often that one calibration cannot hold
    for both: it would be too wide for the first and too narrow for the others.
    """
    seen = np.flatnonzero(np.array(queries.slices) == "seen")
    return seen if len(seen) >= _LEAST_SEEN else np.arange(len(queries.latlon))


def _spacing_m(cells: npt.NDArray[np.uint64]) -> float:
    """Return about how far neighbours are apart: a cell's edge, or more where cells are lone."""
    area_m2 = float(s2.area_m2(coverage_union(cells)).sum())
    edge_m = s2.mean_edge_m(int(s2.level_of(cells[0])))
    return max(edge_m, math.sqrt(area_m2 / len(cells)))


def _conflict(
    index: CellIndex,
    queries: Queries,
    rows: npt.NDArray[np.int64],
    calibration: Calibration,
    spacing_m: float,
) -> float:
    """Return the Bayes factor that one right prior in fifty exceeds.

    Right priors are disks of several sizes with the truth anywhere inside. The quantile is the one
    of conformal prediction: with few queries the largest factor.
    """
    rng = np.random.default_rng(0)
    weighing = replace(calibration, conflict=0.0)  # so that priors are weighed
    factors = []
    for row in rng.permutation(rows)[:_MOST_TRIED].tolist():
        for radius_m in spacing_m * np.array(_PRIOR_RADII):
            angle, apart_m = rng.uniform(0, 2 * np.pi), radius_m * np.sqrt(rng.uniform())
            offset = apart_m * np.array([np.cos(angle), np.sin(angle)])
            place = latlon_from_east_north(offset, origin=LatLon(*queries.latlon[row]))
            prior = Prior.disk(*place.tolist(), radius_m=float(radius_m))
            found = find(
                index, queries.embeddings[row], weighing, prior=prior, k=1, elsewhere=math.inf
            )
            if found.num_inside:
                factors.append(bayes_factor(found, weighing, prior))
    if not factors:
        return _EVEN_ODDS
    factors.sort()
    at = math.ceil((len(factors) + 1) * (1 - _FALSE_CONFLICTS)) - 1
    return factors[min(at, len(factors) - 1)]


def _kinds_of_place(
    queries: Queries,
    cells: npt.NDArray[np.uint64],
    photographed: npt.NDArray[np.bool_] | None,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which queries were taken in cells of each kind."""
    everywhere = np.ones(len(queries.latlon), bool)
    if photographed is None:
        return {"all": everywhere}
    own = s2.cell_from_latlon(*queries.latlon.T, level=int(s2.level_of(cells[0])))
    row = np.minimum(np.searchsorted(cells, own), len(cells) - 1)
    has_cell = cells[row] == own
    return {
        "all": everywhere,
        "photographed": has_cell & photographed[row],
        "not_photographed": has_cell & ~photographed[row],
    }
