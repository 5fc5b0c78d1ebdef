"""From an embedding to a fix: search, a prior weighed against a look outside, the posterior.

A prior's *Bayes factor* says whether the photo agrees with it: the mean evidence exp(s / T) of all
cells over that of the cells that the prior expects. A wrong prior leaves the place that the photo
shows outside, where the evidence then is.
"""

import math
from dataclasses import dataclass

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
from geofix_index.index import GRAPH_FROM_CELLS

# Up to so many cells, which are scanned in a fraction of a millisecond, a search under a hard prior
# always looks outside, too; in a larger pack where the inside leaves elsewhere more than this.
PROBE_ALWAYS_CELLS = 262_144
PROBE_ELSEWHERE = 0.05
_STRANGE_VIEW = 3.0  # nats: one in twenty that the picture is a photo like others
PROBE_CANDIDATES = 64  # outside; its sum of evidence is that of the best few
# Up to so many cells, where searches use no graph and are exact, a hard prior that admits much of a
# pack gets no search of its own.
ONE_SEARCH_CELLS = GRAPH_FROM_CELLS - 1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """The best cells that were found for an embedding, in a pack and inside a prior."""

    matches: Matches  # best first
    is_inside: npt.NDArray[np.bool_]  # (K,) the prior; all where there is none
    num_cells: int  # of the pack
    num_inside: int  # of them inside the prior
    looked_outside: bool = True


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
        matches = index.search(embedding, k=wanted)
        return Found(matches, _all(matches), num_cells, num_cells)
    if calibration is None and prior.density is not None:
        raise ValueError(
            f"the prior ({prior.description}) is soft, and this pack is not calibrated, so that it "
            "cannot be weighed against the photo: use Prior.disk, or build the pack with queries"
        )
    if prior.density is None and _is_weighed(prior, calibration):
        enough = max(k, PROBE_CANDIDATES)
        found = _find_in_one_search(index, embedding, prior, wanted=wanted, enough=enough)
        if found is not None:
            return found
    inside = index.search(embedding, k=wanted, region=prior.region)
    num_inside = index.num_cells_in(prior.region)
    if calibration is None or not _looks_outside(inside, calibration, prior, num_cells, elsewhere):
        return Found(inside, _all(inside), num_cells, num_inside, looked_outside=False)
    everywhere = index.search(embedding, k=PROBE_CANDIDATES if prior.density is None else wanted)
    return Found(*_united(inside, everywhere), num_cells, num_inside)


def _find_in_one_search(
    index: CellIndex,
    embedding: npt.NDArray[np.float32],
    prior: Prior,
    *,
    wanted: int,
    enough: int,
) -> Found | None:
    """Search everywhere, and tell which cells lie inside; None where that finds too few of them."""
    num_cells = index.num_cells
    if num_cells > ONE_SEARCH_CELLS:
        return None
    inside = index.cells_in(prior.region)
    if len(inside) * wanted < enough * num_cells:  # chance would find too few
        return None
    matches = index.search(embedding, k=wanted)
    nearest = np.minimum(np.searchsorted(inside, matches.cells), len(inside) - 1)
    is_inside = inside[nearest] == matches.cells
    if is_inside.sum() < min(enough, len(inside)):
        return None
    return Found(matches, is_inside, num_cells, len(inside))


def _all(matches: Matches) -> npt.NDArray[np.bool_]:
    return np.ones(len(matches.cells), bool)


def _united(inside: Matches, everywhere: Matches) -> tuple[Matches, npt.NDArray[np.bool_]]:
    """Return the matches of two searches, and which were found inside."""
    # What is among the best of all cells and inside is among the best of the inside, too.
    cells = np.concatenate([inside.cells, everywhere.cells])
    scores = np.concatenate([inside.scores, everywhere.scores])
    cells, first = np.unique(cells, return_index=True)
    order = np.argsort(-scores[first], kind="stable")  # among equals the smaller cell
    return Matches(cells[order], scores[first][order]), (first < len(inside.cells))[order]


def _is_weighed(prior: Prior | None, calibration: Calibration | None) -> bool:
    """Return whether a prior changes probabilities; else it restricts the search alone.

    That is so for calibrations of version 1, which say nothing of priors.
    """
    if prior is None or calibration is None:
        return False
    return prior.density is not None or calibration.conflict is not None


def _looks_outside(
    inside: Matches, calibration: Calibration, prior: Prior, num_cells: int, elsewhere: float
) -> bool:
    if not _is_weighed(prior, calibration):
        return False
    if prior.density is not None or num_cells <= PROBE_ALWAYS_CELLS:
        return True
    logits = inside.scores.astype(np.float64) / calibration.temperature
    share = elsewhere - float(np.logaddexp(log_sum(logits), elsewhere))
    return share > math.log(PROBE_ELSEWHERE)


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
        prior_conflict=weighed.is_conflict,
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
class _Expected:
    """All cells that were found, with what a photo says of them and what a prior does."""

    matches: Matches  # of the highest scores first
    logits: Floats  # (K,) scores over the temperature
    prior: Floats  # (K,) n p and n, of `log_weights`
    amounts_to: float
    num_cells: int  # of the pack

    def bayes_factor(self) -> float:
        """Return what `bayes_factor` does."""
        with np.errstate(divide="ignore"):
            inside = log_sum(self.logits + np.log(self.prior)) - math.log(self.amounts_to)
        return log_sum(self.logits) - math.log(self.num_cells) - inside


@dataclass(frozen=True, slots=True)
class _Weighed:
    """Candidates with what the prior adds to their logits."""

    matches: Matches  # the most probable first
    log_weights: Floats  # (K,)
    elsewhere: float  # logit of all else
    is_conflict: bool = False
    alone: float | None = None  # logit of all cells that were found, without the prior


def _weigh(
    found: Found, calibration: Calibration | None, prior: Prior | None, elsewhere: float
) -> _Weighed:
    if prior is None or calibration is None or not _is_weighed(prior, calibration):
        return _Weighed(found.matches, np.zeros(len(found.matches.cells)), elsewhere)
    all_cells = _expected(found, calibration, prior)
    matches, logits = all_cells.matches, all_cells.logits
    weights = log_weights(all_cells.prior, all_cells.amounts_to, num_cells=found.num_cells)
    elsewhere += math.log(all_cells.amounts_to / found.num_cells)
    if prior.density is None:  # what lies outside is no answer
        inside = all_cells.prior > 0
        elsewhere = float(np.logaddexp(elsewhere, log_sum((logits + weights)[~inside])))
        matches = Matches(matches.cells[inside], matches.scores[inside])
        weights = weights[inside]  # all alike, so that the order stays
    else:
        order = np.lexsort((matches.cells, -(logits + weights)))
        matches, weights = Matches(matches.cells[order], matches.scores[order]), weights[order]
    if not found.looked_outside or calibration.conflict is None:
        return _Weighed(matches, weights, elsewhere)
    is_conflict = all_cells.bayes_factor() > max(calibration.conflict, 0.0)
    return _Weighed(matches, weights, elsewhere, is_conflict, alone=log_sum(all_cells.logits))


def bayes_factor(found: Found, calibration: Calibration, prior: Prior) -> float:
    """Return the logarithm of how much better all cells explain a photo than the prior's cells do.

    0 where only the prior's inside was searched; infinite where it holds no cell.
    """
    if not found.looked_outside:
        return 0.0
    return _expected(found, calibration, prior).bayes_factor()


def _expected(found: Found, calibration: Calibration, prior: Prior) -> _Expected:
    matches = found.matches
    if prior.density is not None:
        shares, amounts_to = prior.expected(matches.cells)
    else:
        shares, amounts_to = found.is_inside.astype(np.float64), float(max(1, found.num_inside))
    logits = matches.scores.astype(np.float64) / calibration.temperature
    return _Expected(matches, logits, shares, amounts_to, found.num_cells)


def _prior_gain(
    weighed: _Weighed, calibration: Calibration | None, answer: Posterior, elsewhere: float
) -> float | None:
    if calibration is None or weighed.alone is None or answer.probabilities is None:
        return None
    scores = weighed.matches.scores[: len(answer.in_mode)][answer.in_mode]
    mode = log_sum(scores.astype(np.float64) / calibration.temperature)
    with_prior = math.log(max(float(answer.probabilities[answer.in_mode].sum()), 1e-300))
    return float(with_prior - mode + np.logaddexp(weighed.alone, elsewhere))


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
