"""How much prototypes count beside aerial embeddings, chosen on validation photos.

Two numbers say it: kappa, and how many photos must stand behind a prototype for it to count half
(the shrinkage n0 of kappa x n / (n + n0)). What no more than chance tells from the best counts as
equally good: without this, a few photos would decide.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import (
    BY_HAND,
    NO_IMAGERY,
    NO_VALIDATION,
    VALIDATED,
    CellCodes,
    Floats,
    Queries,
)

KAPPA_STEPS = 2.0 ** np.arange(-4, 4.5, 0.5)  # tried around the Fisher estimate
SHRINK_STEPS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # photos, tried from none on


def choose_mixing(
    codes: CellCodes,
    queries: Queries,
    *,
    kappa: float | None = None,
    shrink_photos: float | None = 0.0,
) -> CellCodes:
    """Return codes mixed anew; what is None is chosen on validation queries.

    The shrinkage is the smallest that, with some kappa, finds as many queries as the best pair of
    both; kappa is the middle of those that find the most with it. A query counts 1 where the best
    cell is within 200 m, and 1 more within 100 m. As many are those that differ from the best by
    less than one standard error of the difference.

    Args:
        codes: whose parts are mixed.
        queries: if there are none, kappa becomes 1 and the shrinkage 0.
        kappa: tried are steps around the Fisher estimate, 1 alone where there is no imagery.
        shrink_photos: tried are `SHRINK_STEPS`.

    Raises:
        ValueError: a number below 0, or none.
    """
    choice = _kappa_choice(codes, queries, kappa)
    if choice == VALIDATED:
        kappas = KAPPA_STEPS * fisher_kappa(codes.prototypes, codes.aerial, codes.cells, queries)
    else:
        kappas = np.array([1.0 if kappa is None else kappa])
    if shrink_photos is not None or len(queries.latlon) == 0:
        shrinks: Sequence[float] = (shrink_photos or 0.0,)
    else:
        shrinks = SHRINK_STEPS
    if len(kappas) == len(shrinks) == 1:
        return codes.with_kappa(float(kappas[0]), shrink_photos=shrinks[0], choice=choice)
    points = np.stack([_points(codes, queries, kappas, shrink) for shrink in shrinks])
    at = int(_as_good_as_best(points).any(axis=1).argmax())  # the first, which shrinks the least
    good = kappas[_as_good_as_best(points[at])]
    chosen = good[0] if len(good) == 1 else np.exp(np.log(good).mean())
    return codes.with_kappa(float(chosen), shrink_photos=shrinks[at], choice=choice)


def fisher_kappa(
    prototypes: Floats, aerial: Floats, cells: npt.NDArray[np.uint64], queries: Queries
) -> float:
    """Return the ratio of the parts' mean margin over variance (Fisher's linear discriminant).

    Taken over the queries whose own cell has both parts; 1.0 where there are none.
    """
    level = int(s2.level_of(cells[:1])[0])
    own = s2.cell_from_latlon(*queries.latlon.T, level=level)
    row = np.minimum(np.searchsorted(cells, own), len(cells) - 1)
    has_both = (cells[row] == own) & prototypes[row].any(axis=1) & aerial[row].any(axis=1)
    if not has_both.any():
        return 1.0
    weights = []
    for part in (prototypes, aerial):
        scores = queries.embeddings[has_both] @ part[part.any(axis=1)].T
        true = (queries.embeddings[has_both] * part[row[has_both]]).sum(axis=1)
        margin = float((true - scores.mean(axis=1)).mean())
        weights.append(max(margin, 1e-3) / max(float(scores.var(axis=1).mean()), 1e-9))
    return weights[0] / weights[1]


def _kappa_choice(codes: CellCodes, queries: Queries, kappa: float | None) -> str:
    """Return how kappa comes about: see cell_codes."""
    if kappa is not None:
        return BY_HAND
    if len(queries.latlon) == 0:
        return NO_VALIDATION
    return VALIDATED if codes.aerial.any() else NO_IMAGERY


def _points(
    codes: CellCodes, queries: Queries, kappas: npt.NDArray[np.float64], shrink_photos: float
) -> npt.NDArray[np.float64]:
    """Return what each query counts with each kappa, (K, Q)."""
    centres = s2.latlon_from_cell(codes.cells)
    rows = []
    for kappa in kappas.tolist():
        mixed = codes.with_kappa(kappa, shrink_photos=shrink_photos).cell_codes
        best = (queries.embeddings @ mixed.T).argmax(axis=1)
        error = great_circle_m(*queries.latlon.T, *centres[best].T)
        rows.append((error <= 100).astype(np.float64) + (error <= 200))
    return np.stack(rows)


def _as_good_as_best(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which settings (..., Q) are behind the best by at most a standard error, (...)."""
    mean = points.mean(axis=-1)
    behind = points[np.unravel_index(mean.argmax(), mean.shape)] - points
    error = behind.std(axis=-1) / np.sqrt(points.shape[-1])
    return np.asarray(behind.mean(axis=-1) <= error)
