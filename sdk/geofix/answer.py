"""From an embedding to a fix: search, a prior weighed against a look outside, the posterior.

A prior's *Bayes factor* says whether the photo agrees with it: the mean evidence exp(s / T) of all
cells over that of the cells that the prior expects. A wrong prior leaves the place that the photo
shows outside, where the evidence then is.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from geofix.fix import Candidate, Fix, Unrestricted
from geofix.geo import LatLon
from geofix.manifest import Manifest
from geofix.posterior import (
    ELSEWHERE_SHARE,
    NUM_CANDIDATES,
    Calibration,
    Posterior,
    log_sum,
    posterior,
)
from geofix.prior import Prior, log_weights
from geofix_index import CellIndex, Matches
from geofix_index import cells as s2

# Up to so many cells, which are scanned in a fraction of a millisecond, a search under a hard prior
# always looks outside, too; in a larger pack where the inside leaves elsewhere more than this.
PROBE_ALWAYS_CELLS = 262_144
PROBE_ELSEWHERE = 0.05
_STRANGE_VIEW = 3.0  # nats: one in twenty that the picture is a photo like others
PROBE_CANDIDATES = 64  # outside; its sum of evidence is that of the best few
_NONE = Matches(np.zeros(0, np.uint64), np.zeros(0, np.float32))

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """The best cells that were found for an embedding inside a prior, and in the whole pack."""

    inside: Matches  # best first; where there is no prior, of the pack
    outside: Matches  # of the best of the pack those that are not among these
    num_cells: int  # of the pack
    num_inside: int  # of them inside the prior
    looked_outside: bool = True

    @property
    def matches(self) -> Matches:
        """All of them, those of the inside first."""
        return Matches(
            np.concatenate([self.inside.cells, self.outside.cells]),
            np.concatenate([self.inside.scores, self.outside.scores]),
        )


def elsewhere_logit(
    calibration: Calibration, *, num_cells: int, strangeness: float = 0.0, num_views: int = 1
) -> float:
    """Return the logit of "elsewhere" beside scores / T.

    Of one view it holds the odds that a photo shows no place of the map, and against one of N cells
    they are N-fold. They count once, so that V views say V b / T - (V - 1) log(N odds). What views
    of one place get wrong, they get wrong together: V of them count like sqrt(V) that don't, which
    is what the town's photos say (docs/results.md). `summed_views` divides scores by the same root.

    Args:
        calibration: of the encoder.
        num_cells: of the pack, N.
        strangeness: of the picture, in nats.
        num_views: how many embeddings were summed, V.
    """
    once = math.log(num_cells * ELSEWHERE_SHARE / (1 - ELSEWHERE_SHARE))
    alone = calibration.elsewhere / calibration.temperature
    return (num_views * alone - (num_views - 1) * once) / math.sqrt(num_views) + strangeness


def summed_views(
    embeddings: npt.NDArray[np.float32], strangeness: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], float, int]:
    """Return what several views of one place say together.

    Scores are linear in the embedding, so that the sum of the views finds the cells with the
    largest sum of scores. A strange view, a covered lens say, is left out where there are others.

    Args:
        embeddings: (V, D).
        strangeness: (V,) of the pictures.

    Returns:
        The embedding (D,), strangeness, and number of the views that count.
    """
    kept = strangeness <= max(_STRANGE_VIEW, float(strangeness.min()))
    num_views = int(kept.sum())
    summed = embeddings[kept].sum(axis=0) / np.float32(math.sqrt(num_views))
    return np.asarray(summed, np.float32), float(strangeness[kept].min()), num_views


def find(
    index: CellIndex,
    embedding: npt.NDArray[np.float32],
    calibration: Calibration | None,
    *,
    prior: Prior | None,
    k: int,
    elsewhere: float,
) -> Found:
    """Search an index everywhere, and inside a prior where there is one.

    Args:
        index: of the pack.
        embedding: (D,); of several views the sum.
        calibration: of the encoder.
        prior: where the camera is believed to be.
        k: candidates that are wanted, at least.
        elsewhere: of `elsewhere_logit`.

    Raises:
        ValueError: an embedding of another length or not finite; a soft prior without calibration.
    """
    num_cells, wanted = index.num_cells, max(k, NUM_CANDIDATES)
    if prior is None:
        return Found(index.search(embedding, k=wanted), _NONE, num_cells, num_cells)
    if calibration is None and prior.density is not None:
        raise ValueError(
            f"the prior ({prior.description}) is soft, and this pack is not calibrated, so that it "
            "cannot be weighed against the photo: use Prior.disk, or build the pack with queries"
        )
    is_soft = prior.density is not None
    if _is_weighed(prior, calibration) and (is_soft or num_cells <= PROBE_ALWAYS_CELLS):
        outside = wanted if is_soft else PROBE_CANDIDATES
        inside, everywhere = index.search_both(
            embedding, k=wanted, region=prior.region, k_everywhere=outside
        )
    else:
        inside = index.search(embedding, k=wanted, region=prior.region)
        if not _is_doubtful(inside, calibration, elsewhere):
            num_inside = index.num_cells_in(prior.region)
            return Found(inside, _NONE, num_cells, num_inside, looked_outside=False)
        everywhere = index.search(embedding, k=PROBE_CANDIDATES)
    num_inside = index.num_cells_in(prior.region)
    return Found(inside, _without(everywhere, inside), num_cells, num_inside)


def _without(matches: Matches, others: Matches) -> Matches:
    if len(others.cells) == 0:
        return matches
    known = np.sort(others.cells)  # np.isin takes several times as long for so few
    at = np.minimum(np.searchsorted(known, matches.cells), len(known) - 1)
    new = known[at] != matches.cells
    return Matches(matches.cells[new], matches.scores[new])


def _is_weighed(prior: Prior | None, calibration: Calibration | None) -> bool:
    """Return whether a prior changes probabilities; else it restricts the search alone.

    That is so for calibrations of version 1, which say nothing of priors.
    """
    if prior is None or calibration is None:
        return False
    return prior.density is not None or calibration.conflict is not None


def _is_doubtful(inside: Matches, calibration: Calibration | None, elsewhere: float) -> bool:
    """Return whether what a hard prior admits leaves so much to elsewhere that one looks there."""
    if calibration is None or calibration.conflict is None:
        return False
    # As odds, which are sound where all evidence is elsewhere (infinite) or none inside, too.
    return _evidence(inside.scores, calibration) < elsewhere + math.log(1 / PROBE_ELSEWHERE - 1)


def fix_from_found(
    found: Found,
    calibration: Calibration | None,
    *,
    prior: Prior | None,
    k: int,
    elsewhere: float,
    pack_id: str,
) -> Fix:
    """Return the fix of what was found, which is at least one candidate.

    The arguments are those of `find`.
    """
    weighed = _weigh(found, calibration, prior, elsewhere)
    answer = posterior(
        Matches(weighed.matches.cells[:NUM_CANDIDATES], weighed.matches.scores[:NUM_CANDIDATES]),
        calibration,
        log_weights=weighed.log_weights[:NUM_CANDIDATES],
        elsewhere=weighed.elsewhere,
    )
    return Fix(
        status=answer.status,
        latlon=answer.latlon,
        accuracy_m=answer.accuracy_m,
        radius95_m=answer.radius95_m,
        covariance_m2=answer.covariance_m2,
        confidence=answer.confidence,
        candidates=_candidates(weighed.matches, answer, k),
        pack_id=pack_id,
        prior_conflict=_is_conflict(weighed.factor, calibration),
        prior_gain=_prior_gain(weighed, calibration, answer, elsewhere),
    )


def unrestricted(
    index: CellIndex,
    embedding: npt.NDArray[np.float32],
    calibration: Calibration | None,
    *,
    elsewhere: float,
) -> Unrestricted:
    """Return the answer that an embedding has without a prior."""
    matches = index.search(embedding, k=NUM_CANDIDATES)
    answer = posterior(matches, calibration, elsewhere=elsewhere)
    return Unrestricted(
        answer.latlon, answer.confidence, answer.accuracy_m, answer.status, answer.radius95_m
    )


def nothing_inside(prior: Prior, manifest: Manifest) -> str:
    """Return what to say where a hard prior admits no cell."""
    box, edge_m = manifest.bounds, s2.mean_edge_m(manifest.cell_level)
    return (
        f"the prior ({prior.description}) admits no cell of pack {manifest.pack_id!r}, which lies "
        f"in {box.south}, {box.west} to {box.north}, {box.east}. A cell counts where its centre "
        f"lies inside, and is {edge_m:.0f} m wide: widen a small prior. Are lat and lon swapped, "
        "or is the camera outside?"
    )


@dataclass(frozen=True, slots=True)
class _Weighed:
    """Candidates with what the prior adds to their logits."""

    matches: Matches  # the most probable first
    log_weights: Floats  # (K,)
    elsewhere: float  # logit of all else
    alone: float | None = None  # logit of all cells that were found, without the prior
    factor: float = 0.0  # of `bayes_factor`


def _weigh(
    found: Found, calibration: Calibration | None, prior: Prior | None, elsewhere: float
) -> _Weighed:
    if prior is None or calibration is None or not _is_weighed(prior, calibration):
        return _Weighed(found.inside, np.zeros(len(found.inside.cells)), elsewhere)
    if prior.density is None:
        weighed = _weigh_hard(found, calibration, elsewhere)
    else:
        weighed = _weigh_soft(found, calibration, prior, elsewhere)
    if found.looked_outside and calibration.conflict is not None:
        return weighed
    return replace(weighed, alone=None, factor=0.0)


def _weigh_hard(found: Found, calibration: Calibration, elsewhere: float) -> _Weighed:
    """Weigh what was found; what lies outside is no answer."""
    inside = _evidence(found.inside.scores, calibration)
    outside = _evidence(found.outside.scores, calibration)
    num_cells, amounts_to = found.num_cells, max(1, found.num_inside)
    weight, weight_outside = log_weights(
        np.array([1.0, 0.0]), amounts_to, num_cells=num_cells
    ).tolist()
    elsewhere += math.log(amounts_to / num_cells)
    alone = float(np.logaddexp(inside, outside))
    return _Weighed(
        found.inside,
        np.full(len(found.inside.cells), weight),
        float(np.logaddexp(elsewhere, outside + weight_outside)),
        alone=alone,
        factor=_factor(alone, inside, amounts_to, num_cells),
    )


def _weigh_soft(found: Found, calibration: Calibration, prior: Prior, elsewhere: float) -> _Weighed:
    cells, scores = found.matches
    expected, amounts_to = prior.expected(cells)
    logits = scores.astype(np.float64) / calibration.temperature
    weights = log_weights(expected, amounts_to, num_cells=found.num_cells)
    order = np.lexsort((cells, -(logits + weights)))
    alone = log_sum(logits)
    with np.errstate(divide="ignore"):
        inside = log_sum(logits + np.log(expected))
    return _Weighed(
        Matches(cells[order], scores[order]),
        weights[order],
        elsewhere + math.log(amounts_to / found.num_cells),
        alone=alone,
        factor=_factor(alone, inside, amounts_to, found.num_cells),
    )


def _factor(alone: float, inside: float, amounts_to: float, num_cells: int) -> float:
    """Return the Bayes factor, in nats, of summed evidence: of all cells, and of the prior's."""
    return (alone - math.log(num_cells)) - (inside - math.log(amounts_to))


def _is_conflict(factor: float, calibration: Calibration | None) -> bool:
    if calibration is None or calibration.conflict is None:
        return False
    return factor > max(calibration.conflict, 0.0)


def _evidence(scores: npt.NDArray[np.float32], calibration: Calibration) -> float:
    """Return the logarithm of the sum of exp(s / T)."""
    return log_sum(scores.astype(np.float64) / calibration.temperature)


def bayes_factor(found: Found, calibration: Calibration, prior: Prior) -> float:
    """Return the logarithm of how much better all cells explain a photo than the prior's cells do.

    0 where only the prior's inside was searched; infinite where it holds no cell.
    """
    if not found.looked_outside:
        return 0.0
    if prior.density is None:
        return _weigh_hard(found, calibration, elsewhere=0.0).factor
    return _weigh_soft(found, calibration, prior, elsewhere=0.0).factor


def _prior_gain(
    weighed: _Weighed, calibration: Calibration | None, answer: Posterior, elsewhere: float
) -> float | None:
    if calibration is None or weighed.alone is None or answer.confidence is None:
        return None
    in_mode = np.flatnonzero(answer.in_mode)
    mode = _evidence(weighed.matches.scores[in_mode], calibration)
    without_prior = mode - float(np.logaddexp(weighed.alone, elsewhere))
    return math.log(max(answer.confidence, 1e-300)) - without_prior


def _candidates(matches: Matches, answer: Posterior, k: int) -> tuple[Candidate, ...]:
    centres = answer.centres[:k]
    if k > len(centres):
        centres = s2.latlon_from_cell(matches.cells[:k])
    shares: list[float | None] = [None] * k
    if answer.probabilities is not None:
        shares = [*answer.probabilities[:k].tolist(), *[0.0] * k]
    return tuple(
        Candidate(s2.token_from_cell(int(cell)), LatLon(*centre), float(score), share)
        for cell, centre, score, share in zip(
            matches.cells[:k], centres.tolist(), matches.scores[:k], shares, strict=False
        )
    )
