"""From scores to probabilities, and from probabilities to a position with its uncertainty.

The posterior over the candidates i with scores s_i, and "elsewhere" (a place that no cell covers):

    P(i) = w_i exp(s_i / T) / Z,   P(elsewhere) = exp(b / T + strangeness) / Z

with Z so that they sum to one. T (temperature) and b (elsewhere score) are fitted on validation
queries, and belong to the encoder whose embeddings were scored. w_i is what a prior says
(answer.py), 1 without one; strangeness is what the picture itself says
(image_statistics.py), 0 for one like those that were calibrated with. A cell's probability is
spread evenly over the cell.

A radius holds a share of the map's part of the posterior, that is of all but elsewhere. Which share
it takes for 68 % of validation photos to lie inside, they say themselves (`levels`): recalibration
as of Kuleshov et al. 2018, "Accurate Uncertainties for Deep Learning Using Calibrated Regression".
A calibration of version 1 has no levels: a radius is then one that holds 68 % of the whole
posterior, elsewhere included.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.geo import Covariance, LatLon, east_north_m, latlon_from_east_north
from geofix.image_statistics import StatisticsModel
from geofix.radii import radii_m, square_m
from geofix.validation import Validation
from geofix_index import Matches
from geofix_index import cells as s2

NUM_CANDIDATES = 256  # cells that share the probability; the rest counts as impossible
FIXED_CONFIDENCE = 0.5  # a mode with at least this mass is a fix
UNKNOWN_ELSEWHERE = 0.5  # an answer with at least this mass elsewhere is none
ELSEWHERE_SHARE = 0.1  # of photos are taken to show a place that the map lacks
SHARES = (0.68, 0.95)  # of truths inside accuracy_m and radius95_m
# Where validation photos were taken: anywhere, in cells that ground photos were trained on, others.
KINDS_OF_PLACE = ("all", "photographed", "not_photographed")
CALIBRATION_VERSION = 2  # 1 had temperature and elsewhere alone

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores of one encoder become probabilities, and what that gave on validation photos."""

    temperature: float
    elsewhere: float
    validation: Mapping[str, Validation] = field(default_factory=dict)  # by KINDS_OF_PLACE
    # Shares of the map's part of the posterior whose radii held 68 % and 95 % of validation photos.
    levels: tuple[float, float] | None = None  # None: of version 1
    # Nats by which the whole map explains a photo better than a prior does, from which on the prior
    # is taken to be wrong; None: it was not measured.
    conflict: float | None = None
    image_statistics: StatisticsModel | None = None  # None: any picture is taken for a photo

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf and math.isfinite(self.elsewhere)):
            raise ValueError(
                f"calibration {self.temperature}, {self.elsewhere}: want a positive temperature "
                "and a finite elsewhere score"
            )
        if self.levels is not None and not 0 < self.levels[0] <= self.levels[1] <= 1:
            raise ValueError(f"levels are {self.levels}, want two shares that ascend")
        if self.conflict is not None and not math.isfinite(self.conflict):
            raise ValueError(f"conflict is {self.conflict}, want a number of nats")
        unknown = sorted(set(self.validation) - set(KINDS_OF_PLACE))
        if unknown:
            raise ValueError(f"validation of {unknown}, want some of {', '.join(KINDS_OF_PLACE)}")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` reads it."""
        content: dict[str, Any] = {
            "temperature": self.temperature,
            "elsewhere": self.elsewhere,
        }
        if self.levels is not None:
            content |= {"version": CALIBRATION_VERSION, "levels": list(self.levels)}
        if self.conflict is not None:
            content["conflict"] = self.conflict
        if self.image_statistics is not None:
            content["image_statistics"] = self.image_statistics.to_json()
        if self.validation:
            content["validation"] = {
                kind: photos.to_json() for kind, photos in self.validation.items()
            }
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Calibration":
        """Read the JSON form, of version 1 (which had no version), too.

        Raises:
            ValueError: it is none, or of a later version.
        """
        version = content.get("version", 1)
        if type(version) is not int or not 1 <= version <= CALIBRATION_VERSION:
            raise ValueError(
                f"calibration of version {version!r}, this geofix reads up to "
                f"{CALIBRATION_VERSION}: install a newer one"
            )
        temperature, elsewhere = _numbers(content, "temperature", "elsewhere")
        validation = content.get("validation", {})
        if not isinstance(validation, dict):
            raise ValueError(f"validation is {validation!r}, want an object")
        of_kind = {kind: Validation.from_json(photos) for kind, photos in validation.items()}
        if version == 1:  # later members, which its readers had to pass over, mean nothing
            return cls(temperature, elsewhere, of_kind)
        statistics = content.get("image_statistics")
        return cls(
            temperature,
            elsewhere,
            of_kind,
            levels=_levels(content.get("levels")),
            conflict=_numbers(content, "conflict")[0] if "conflict" in content else None,
            image_statistics=None if statistics is None else StatisticsModel.from_json(statistics),
        )


def _numbers(content: Mapping[str, Any], *names: str) -> list[float]:
    values: list[Any] = [content.get(name) for name in names]
    if not all(type(value) in (int, float) for value in values):
        raise ValueError(f"{' and '.join(names)} of a calibration: {values}, want numbers")
    return [float(value) for value in values]


def _levels(value: Any) -> tuple[float, float]:
    if not (isinstance(value, list) and [type(v) in (int, float) for v in value] == [True, True]):
        raise ValueError(f"levels of a calibration are {value!r}, want two numbers")
    return float(value[0]), float(value[1])


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probabilities of candidate cells, and what follows from them."""

    status: str
    latlon: LatLon
    accuracy_m: float | None
    radius95_m: float | None
    covariance_m2: Covariance | None
    confidence: float | None
    probabilities: Floats | None  # (K,) of the candidates; None where nothing is calibrated
    in_mode: npt.NDArray[np.bool_]  # (K,) which candidates are the mode
    centres: Floats  # (K, 2) of the candidates, degrees


def posterior(
    matches: Matches,
    calibration: Calibration | None,
    *,
    log_weights: Floats | None = None,
    elsewhere: float | None = None,
) -> Posterior:
    """Return the posterior of at least one match.

    Args:
        matches: candidates, the most probable first.
        calibration: of the encoder; None claims nothing.
        log_weights: (K,) what is added to scores / T, as a prior does.
        elsewhere: the logit of all places that are no candidates; None is that of the calibration.
    """
    centres = s2.latlon_from_cell(matches.cells)
    best = LatLon(*centres[0].tolist())
    in_mode = (matches.cells[:, None] == place_around(int(matches.cells[0]))).any(axis=1)
    if calibration is None:
        return Posterior("ambiguous", best, None, None, None, None, None, in_mode, centres)
    logits = matches.scores.astype(np.float64) / calibration.temperature
    logits = logits if log_weights is None else logits + log_weights
    rest = calibration.elsewhere / calibration.temperature if elsewhere is None else elsewhere
    on_map = log_sum(logits)
    probabilities = np.exp(logits - np.logaddexp(on_map, rest))
    mass = float(probabilities[in_mode].sum())
    status = status_of(mass, 1 - min(1.0, float(probabilities.sum())))
    shares = np.exp(logits - on_map)
    edge_m = s2.mean_edge_m(int(s2.level_of(matches.cells[0])))
    latlon, covariance = _moments(centres[in_mode], shares[in_mode], edge_m, best)
    offsets_m = east_north_m(*centres.T, origin=latlon)
    radii: tuple[float | None, ...] = (None, None)
    if calibration.levels is None:
        radii = radii_m(offsets_m, probabilities, square_m(edge_m), shares=SHARES)
    elif status != "unknown":
        radii = radii_m(offsets_m, shares, square_m(edge_m), shares=calibration.levels)
    (xx, xy), (_, yy) = covariance.tolist()
    return Posterior(
        status=status,
        latlon=latlon,
        accuracy_m=radii[0],
        radius95_m=radii[1],
        covariance_m2=((xx, xy), (xy, yy)),
        confidence=mass,
        probabilities=probabilities,
        in_mode=in_mode,
        centres=centres,
    )


@lru_cache(maxsize=1024)
def place_around(cell: int) -> npt.NDArray[np.uint64]:
    """Return a cell and its 8 neighbours, read-only; a camera stays at a place for a while."""
    cells = np.array([cell, *s2.neighbours(cell)], np.uint64)
    cells.flags.writeable = False
    return cells


def log_sum(logits: Floats) -> float:
    """Return log(sum(exp(logits))), -inf for none."""
    top = float(logits.max(initial=-math.inf))
    return top if math.isinf(top) else top + math.log(float(np.exp(logits - top).sum()))


def _moments(
    centres: Floats, probabilities: Floats, edge_m: float, origin: LatLon
) -> tuple[LatLon, Floats]:
    """Return mean and covariance of cells, each an even square."""
    offsets = east_north_m(*centres.T, origin=origin)
    weights = probabilities / probabilities.sum()
    mean = weights @ offsets
    apart = offsets - mean
    covariance = (apart * weights[:, None]).T @ apart + np.eye(2) * edge_m**2 / 12
    return LatLon(*latlon_from_east_north(mean, origin=origin).tolist()), covariance


def status_of(mass: float, elsewhere: float) -> str:
    """Return the status of a fix, of the probabilities of its mode and of "elsewhere"."""
    if elsewhere >= UNKNOWN_ELSEWHERE:
        return "unknown"
    return "fixed" if mass >= FIXED_CONFIDENCE else "ambiguous"
