"""The answer to a photo."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from geofix.geo import Covariance, LatLon

STATUSES = ("fixed", "ambiguous", "unknown")
SURE_CONFIDENCE = 0.8
SURE_TRACK_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell that might be the answer."""

    cell: str  # S2 token
    latlon: LatLon  # its centre
    score: float  # inner product of the embedding with the cell's code; higher is better
    probability: float | None  # None where the pack is not calibrated


@dataclass(frozen=True, slots=True)
class Unrestricted:
    """What the photo says where no prior is believed; the fields are those of a `Fix`."""

    latlon: LatLon
    confidence: float | None
    accuracy_m: float | None
    status: str
    radius95_m: float | None


@dataclass(frozen=True, slots=True)
class Fix:
    """A position and how far to trust it.

    The posterior is shared out among the pack's cells and "elsewhere", a place that no cell covers
    or, under a hard prior, that it does not admit. Its *mode* is the best cell and its 8
    neighbours. A pack that was built without queries is not calibrated: its fixes are "ambiguous",
    and whatever needs probabilities is None.

    Attributes:
        status: "fixed" where the mode has at least half of the posterior; "unknown" where
            "elsewhere" has; "ambiguous" between.
        latlon: mean of the mode, WGS84 degrees.
        accuracy_m: radius around `latlon` that holds the truth for 68 % of photos like those that
            the pack was calibrated with, other places in the pack included; None where unknown.
        radius95_m: the same for 95 %.
        covariance_m2: ((east, east-north), (east-north, north)) of the position if the mode is
            right: for a filter that weighs or rejects the fix by `confidence`.
        confidence: share of the posterior that the mode has, 0 to 1.
        candidates: the best cells, best first, at least one.
        pack_id: of the pack that answered.
        captured_at: when the photo was taken, from its EXIF.
        timings_ms: what each stage took.
        prior_conflict: the photo speaks against the prior, more than one right prior in fifty makes
            it seem on streets that photos were trained on. In districts without such photos most
            right ones do. A hard prior bounds `latlon` nevertheless.
        prior_gain: natural logarithm of how many times likelier the prior makes the mode than the
            photo alone does: 0 is vision alone. None without a prior, or where only its inside was
            searched.
        unrestricted: the answer without the prior, where there is a conflict.
        is_tracked: a `Tracker` gave it, of many photos.
    """

    status: str
    latlon: LatLon
    accuracy_m: float | None
    radius95_m: float | None
    covariance_m2: Covariance | None
    confidence: float | None
    candidates: tuple[Candidate, ...]
    pack_id: str
    captured_at: datetime | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    prior_conflict: bool = False
    prior_gain: float | None = None
    unrestricted: Unrestricted | None = None
    is_tracked: bool = False

    @property
    def cell(self) -> str:
        """Token of the best cell."""
        return self.candidates[0].cell

    def is_sure(self, *, radius95_m: float, confidence: float | None = None) -> bool:
        """Return whether to act on the fix, for whom a radius is good enough.

        It is "fixed", no prior speaks against it, and confidence and 95 % radius are known and
        good enough. How often such fixes are right, and where they are not: docs/results.md.

        Args:
            radius95_m: that the fix may have at most.
            confidence: that it has to have; None wants 0.8, of a track 0.95.
        """
        if confidence is None:
            confidence = SURE_TRACK_CONFIDENCE if self.is_tracked else SURE_CONFIDENCE
        return (
            self.status == "fixed"
            and not self.prior_conflict
            and self.confidence is not None
            and self.confidence >= confidence
            and self.radius95_m is not None
            and self.radius95_m <= radius95_m
        )

    def to_json(self) -> dict[str, Any]:
        """Return a flat object of what JSON can hold: `lat`, `lon`, `cell` and the fields.

        `is_sure` in it is that of any radius: compare `radius95_m` yourself.
        """
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
            "prior_conflict": self.prior_conflict,
            "prior_gain": _rounded(self.prior_gain, 3),
            "unrestricted": self.unrestricted
            and {
                "lat": round(self.unrestricted.latlon.lat, 7),
                "lon": round(self.unrestricted.latlon.lon, 7),
                "confidence": _rounded(self.unrestricted.confidence, 4),
                "accuracy_m": _rounded(self.unrestricted.accuracy_m, 1),
                "status": self.unrestricted.status,
                "radius95_m": _rounded(self.unrestricted.radius95_m, 1),
            },
            "is_tracked": self.is_tracked,
            "is_sure": self.is_sure(radius95_m=math.inf),
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
