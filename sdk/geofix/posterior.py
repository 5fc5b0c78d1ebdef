"""From scores to probabilities, and from probabilities to a position with its uncertainty.

The posterior over the candidates i with scores s_i, and "elsewhere" (a place that no cell covers):

    P(i) = exp(s_i / T) / Z,   P(elsewhere) = exp(b / T) / Z,   Z = sum_i exp(s_i / T) + exp(b / T)

T (temperature) and b (elsewhere score) are fitted on validation queries, and belong to the encoder
whose embeddings were scored. A cell's probability is spread evenly over the cell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.geo import LatLon, east_north_m, latlon_from_east_north
from geofix.validation import Validation
from geofix_index import Matches
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m

NUM_CANDIDATES = 256  # cells that share the probability; the rest counts as impossible
FIXED_CONFIDENCE = 0.5  # a mode with at least this mass is a fix
UNKNOWN_ELSEWHERE = 0.5  # an answer with at least this mass elsewhere is none
ELSEWHERE_SHARE = 0.1  # of photos are taken to show a place that the map lacks
# Where validation photos were taken: anywhere, in cells that ground photos were trained on, others.
KINDS_OF_PLACE = ("all", "photographed", "not_photographed")
_FAR_M = 500.0  # cells beyond this stand for a map that lacks the query's place
_SPREAD = 4  # a cell is 4 x 4 points when radii are counted

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores of one encoder become probabilities, and what that gave on validation photos."""

    temperature: float
    elsewhere: float
    validation: Mapping[str, Validation] = field(default_factory=dict)  # by KINDS_OF_PLACE

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf and math.isfinite(self.elsewhere)):
            raise ValueError(
                f"calibration {self.temperature}, {self.elsewhere}: want a positive temperature "
                "and a finite elsewhere score"
            )
        unknown = sorted(set(self.validation) - set(KINDS_OF_PLACE))
        if unknown:
            raise ValueError(f"validation of {unknown}, want some of {', '.join(KINDS_OF_PLACE)}")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` reads it."""
        content: dict[str, Any] = {
            "temperature": self.temperature, "elsewhere": self.elsewhere
        }  # fmt: skip
        if self.validation:
            content["validation"] = {
                kind: photos.to_json() for kind, photos in self.validation.items()
            }
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Calibration":
        """Read the JSON form; raise ValueError where it is none."""
        values: list[Any] = [content.get(name) for name in ("temperature", "elsewhere")]
        if not all(type(value) in (int, float) for value in values):
            raise ValueError(
                f"temperature and elsewhere of a calibration are {values}, want two numbers"
            )
        validation = content.get("validation", {})
        if not isinstance(validation, dict):
            raise ValueError(f"validation is {validation!r}, want an object")
        of_kind = {kind: Validation.from_json(photos) for kind, photos in validation.items()}
        temperature, elsewhere = map(float, values)
        return cls(temperature, elsewhere, of_kind)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probabilities of candidate cells, and what follows from them."""

    status: str
    latlon: LatLon
    accuracy_m: float | None
    radius95_m: float | None
    covariance_m2: tuple[tuple[float, float], tuple[float, float]] | None
    confidence: float | None
    probabilities: Floats | None  # (K,) of the candidates; None where nothing is calibrated


def posterior(matches: Matches, calibration: Calibration | None) -> Posterior:
    """Return the posterior of at least one match."""
    centres = s2.latlon_from_cell(matches.cells)
    best = LatLon(*centres[0].tolist())
    if calibration is None:
        return Posterior("ambiguous", best, None, None, None, None, None)
    probabilities, elsewhere = _probabilities(matches.scores, calibration)
    in_mode = np.isin(matches.cells, [matches.cells[0], *s2.neighbours(matches.cells[0])])
    mass = float(probabilities[in_mode].sum())
    edge_m = s2.mean_edge_m(int(s2.level_of(matches.cells[0])))
    if mass > 0:
        offsets = east_north_m(*centres[in_mode].T, origin=best)
        weights = probabilities[in_mode] / mass
        mean = weights @ offsets
        apart = offsets - mean
        covariance = (apart * weights[:, None]).T @ apart + np.eye(2) * edge_m**2 / 12
        latlon = LatLon(*latlon_from_east_north(mean, origin=best).tolist())
    else:  # so surely elsewhere that no mass is left in float64
        covariance, latlon = np.eye(2) * edge_m**2 / 12, best
    radii = _radii(centres, probabilities, edge_m, latlon, shares=(0.68, 0.95))
    (xx, xy), (_, yy) = covariance.tolist()
    return Posterior(
        status=status_of(mass, elsewhere),
        latlon=latlon,
        accuracy_m=radii[0],
        radius95_m=radii[1],
        covariance_m2=((xx, xy), (xy, yy)),
        confidence=mass,
        probabilities=probabilities,
    )


def fit_calibration(found: Sequence[Matches], truth: Floats) -> Calibration:
    """Fit temperature and elsewhere score to how an index answers queries of known place.

    Each query counts twice: as it is, where its true cell should be likely; and, with the weight of
    `ELSEWHERE_SHARE`, against the cells beyond 500 m alone, as if the map lacked its place, where
    "elsewhere" should be. The pair with the largest likelihood is found on a grid that is refined
    three times.

    Args:
        found: for each query its matches, best first, as many as the posterior will get.
        truth: (Q, 2) latitudes and longitudes of the queries, Q at least 1.
    """
    if len(found) == 0 or len(found) != len(truth):
        raise ValueError(f"{len(found)} answers for {len(truth)} places, want as many and some")
    scores, is_true, is_far = _query_table(found, truth)
    known = np.asarray(is_true.any(axis=1))  # the other queries' cells are not in the map
    finite = scores[np.isfinite(scores)]
    top, spread = float(finite.max()), float(np.ptp(finite)) or 1.0  # scores come at any scale
    temperatures, offsets = np.geomspace(0.002, 1.0, 16), np.linspace(-1.0, 0.5, 16)
    best = (math.inf, 1.0, 0.0)
    for _ in range(3):
        for temperature in temperatures:
            for offset in offsets:
                values = float(temperature) * spread, top + float(offset) * spread
                loss = _loss(scores, is_true, is_far, known, *values)
                best = min(best, (loss, float(temperature), float(offset)))
        step_t = (temperatures[1] / temperatures[0]) ** np.linspace(-1, 1, 9)
        step_b = (offsets[1] - offsets[0]) * np.linspace(-1, 1, 9)
        temperatures, offsets = best[1] * step_t, best[2] + step_b
    return Calibration(temperature=best[1] * spread, elsewhere=top + best[2] * spread)


def _probabilities(
    scores: npt.NDArray[np.float32], calibration: Calibration
) -> tuple[Floats, float]:
    logits = np.append(scores.astype(np.float64), calibration.elsewhere) / calibration.temperature
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights[:-1], float(weights[-1])


def status_of(mass: float, elsewhere: float) -> str:
    """Return the status of a fix, of the probabilities of its mode and of "elsewhere"."""
    if elsewhere >= UNKNOWN_ELSEWHERE:
        return "unknown"
    return "fixed" if mass >= FIXED_CONFIDENCE else "ambiguous"


def _radii(
    centres: Floats,
    probabilities: Floats,
    edge_m: float,
    latlon: LatLon,
    *,
    shares: tuple[float, ...],
) -> list[float | None]:
    """Return the radii around `latlon` that hold shares of the whole posterior."""
    ticks = ((np.arange(_SPREAD) + 0.5) / _SPREAD - 0.5) * edge_m
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    points = east_north_m(*centres.T, origin=latlon)[:, None, :] + grid
    distance = np.hypot(points[..., 0], points[..., 1]).ravel()
    order = np.argsort(distance)
    mass = np.cumsum(np.repeat(probabilities / len(grid), len(grid))[order])
    at = [int(np.searchsorted(mass, share)) for share in shares]
    return [float(distance[order[i]]) if i < len(order) else None for i in at]


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
        centres = s2.latlon_from_cell(matches.cells)
        scores[row, :num] = matches.scores
        is_true[row, :num] = matches.cells == own
        is_far[row, :num] = great_circle_m(*place, *centres.T) > _FAR_M
    return scores, is_true, is_far


def _loss(
    scores: Floats,
    is_true: npt.NDArray[np.bool_],
    is_far: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
    temperature: float,
    elsewhere: float,
) -> float:
    """Return the negative log-likelihood of the truth, and of "elsewhere" on the map without it."""
    logits, rest = scores / temperature, elsewhere / temperature
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
