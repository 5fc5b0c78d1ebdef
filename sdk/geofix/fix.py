"""The answer to a photo."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from geofix.geo import LatLon

STATUSES = ("fixed", "ambiguous", "unknown")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell that might be the answer."""

    cell: str  # S2 token
    latlon: LatLon  # its centre
    score: float  # inner product of the embedding with the cell's code; higher is better
    probability: float | None  # None where the pack is not calibrated


@dataclass(frozen=True, slots=True)
class Fix:
    """A position and how far to trust it.

    A pack that was built without queries is not calibrated: its fixes are "ambiguous", and
    whatever needs probabilities is None.
    """

    status: str  # "fixed", "ambiguous" (several places are likely) or "unknown" (likely none is)
    latlon: LatLon  # mean of the chosen mode: the best cell and its 8 neighbours
    accuracy_m: (
        float | None
    )  # radius that holds 68 % of the posterior; None if "elsewhere" leaves less
    radius95_m: float | None  # the same for 95 %
    covariance_m2: tuple[tuple[float, float], tuple[float, float]] | None  # east-north, of the mode
    confidence: float | None  # posterior mass of the mode, 0 to 1
    candidates: tuple[Candidate, ...]  # best first, at least one
    pack_id: str
    captured_at: datetime | None = None  # from EXIF
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        """Token of the best cell."""
        return self.candidates[0].cell

    def to_json(self) -> dict[str, Any]:
        """Return a flat object of what JSON can hold: `lat`, `lon`, `cell` and the fields."""
        return {
            "lat": round(self.latlon.lat, 7),
            "lon": round(self.latlon.lon, 7),
            "cell": self.cell,
            "status": self.status,
            "accuracy_m": _rounded(self.accuracy_m, 1),
            "radius95_m": _rounded(self.radius95_m, 1),
            "covariance_m2": self.covariance_m2
            and [[round(value, 1) for value in row] for row in self.covariance_m2],
            "confidence": _rounded(self.confidence, 4),
            "candidates": [
                {
                    "cell": candidate.cell,
                    "lat": round(candidate.latlon.lat, 7),
                    "lon": round(candidate.latlon.lon, 7),
                    "score": round(candidate.score, 6),
                    "probability": _rounded(candidate.probability, 4),
                }
                for candidate in self.candidates
            ],
            "pack_id": self.pack_id,
            "captured_at": self.captured_at and self.captured_at.isoformat(),
            "timings_ms": {stage: round(ms, 3) for stage, ms in self.timings_ms.items()},
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
