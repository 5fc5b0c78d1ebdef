"""What a photo says about places, as a tracker weighs it.

r_i, the likelihood of cell i against "elsewhere", is what the calibrated posterior of one photo
(`geofix.posterior`) implies:

    r_i = exp((s_i - b) / T - strangeness) * N * e / (1 - e),   e = ELSEWHERE_SHARE,   N cells

and at most N: a cell gets no more than 1 - e of a photo's own posterior, so that one photo that
shows another place is not the end of a track. A place that no cell covers has r = 1.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geofix.posterior import (
    ELSEWHERE_SHARE,
    NUM_CANDIDATES,
    UNKNOWN_ELSEWHERE,
    Calibration,
    log_sum,
)
from geofix_index import CellIndex, CellUnion, Matches
from geofix_index import cells as s2

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Evidence:
    """Scores and ratios of the cells that a photo was compared with."""

    best: Matches  # of all cells, by this photo alone
    cells: Cells  # (C,) ascending: those and the ones that were asked for
    scores: Floats  # (C,)
    ratios: Floats  # (C,) r_i
    matches_nothing: bool  # by itself the photo would be "unknown"

    @property
    def level(self) -> int:
        """Of the pack's cells."""
        return int(s2.level_of(self.cells[:1])[0])

    def ratios_of(self, cells: Cells) -> Floats:
        """Return r of cells; 1 where the pack has none."""
        at, known = self._find(cells)
        return np.where(known, self.ratios[at], 1.0)

    def scores_of(self, cells: Cells) -> Floats:
        """Return scores of cells; NaN where the pack has none."""
        at, known = self._find(cells)
        return np.where(known, self.scores[at], np.nan)

    def _find(self, cells: Cells) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        at = np.minimum(np.searchsorted(self.cells, cells), len(self.cells) - 1)
        return at, self.cells[at] == cells


def evidence(
    index: CellIndex,
    embedding: npt.NDArray[np.float32],
    *,
    calibration: Calibration,
    num_cells: int,
    wanted: Cells,
    strangeness: float = 0.0,
) -> Evidence:
    """Compare a photo with the cells that match it best, and with those that are wanted.

    Args:
        index: of the pack.
        embedding: (D,) of the photo.
        calibration: of the encoder.
        num_cells: of the pack.
        wanted: cells, each once; some may not be in the pack.
        strangeness: of the picture, in nats (`geofix.image_statistics`).
    """
    best = index.search(embedding, k=NUM_CANDIDATES)
    cells, scores = best
    others = np.setdiff1d(wanted, cells, assume_unique=True)
    if len(others) and len(cells) < num_cells:
        more = index.search(embedding, k=len(others), region=CellUnion(others))
        cells = np.concatenate([cells, more.cells])
        scores = np.concatenate([scores, more.scores])
    order = np.argsort(cells)
    rest = calibration.elsewhere / calibration.temperature + strangeness
    logits = scores[order].astype(np.float64) / calibration.temperature - rest
    gain = num_cells * ELSEWHERE_SHARE / (1 - ELSEWHERE_SHARE)
    return Evidence(
        best=best,
        cells=cells[order],
        scores=scores[order].astype(np.float64),
        ratios=np.exp(np.minimum(logits, -math.log(gain / num_cells))) * gain,
        matches_nothing=_elsewhere(best.scores, calibration, rest) >= UNKNOWN_ELSEWHERE,
    )


def _elsewhere(scores: npt.NDArray[np.float32], calibration: Calibration, rest: float) -> float:
    """Return the share of "elsewhere", whose logit is `rest`, in a photo's own posterior."""
    places = log_sum(scores.astype(np.float64) / calibration.temperature)
    return math.exp(rest - float(np.logaddexp(places, rest)))
