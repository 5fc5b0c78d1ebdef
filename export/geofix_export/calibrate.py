"""Calibrate a finished pack with validation photos, and sum up how it answers them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from geofix.geo import LatLon, distance_m
from geofix.posterior import NUM_CANDIDATES, Calibration, fit_calibration, posterior
from geofix.validation import Validation
from geofix_index import CellIndex
from geofix_index import cells as s2
from geofix_train.cell_codes import Queries


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
    calibration = fit_calibration(found, queries.latlon)
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
