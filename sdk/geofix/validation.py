"""What validation photos said of a pack: how many it answered, and how far off it was."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RIGHT_WITHIN_M = 100.0


@dataclass(frozen=True, slots=True)
class Validation:
    """How a pack answered photos of known place that had no part in its cell codes."""

    num_photos: int
    share_fixed: float  # of the photos: status "fixed"
    within_100m: float  # of the photos, whatever their status
    median_error_m: float  # of the photos
    fixed_within_100m: float | None = None  # of the fixed ones; None where there is none

    def __post_init__(self) -> None:
        if type(self.num_photos) is not int or self.num_photos < 1:
            raise ValueError(f"num_photos is {self.num_photos!r}, want a whole number from 1")
        for name in ("share_fixed", "within_100m", "fixed_within_100m"):
            share = getattr(self, name)
            if share is not None and not (type(share) in (int, float) and 0 <= share <= 1):
                raise ValueError(f"{name} is {share!r}, want 0 to 1")
        error = self.median_error_m
        if not (type(error) in (int, float) and 0 <= error < float("inf")):
            raise ValueError(f"median_error_m is {error!r}, want 0 or more metres")

    @classmethod
    def of(cls, errors_m: npt.ArrayLike, is_fixed: npt.ArrayLike) -> "Validation":
        """Sum up answers to at least one photo.

        Args:
            errors_m: (Q,) from each answer to where the photo was taken.
            is_fixed: (Q,) which answers have status "fixed".
        """
        errors, fixed = np.asarray(errors_m, float), np.asarray(is_fixed, bool)
        right = errors <= RIGHT_WITHIN_M
        return cls(
            num_photos=len(errors),
            share_fixed=_rounded(fixed.mean()),
            within_100m=_rounded(right.mean()),
            median_error_m=round(float(np.median(errors)), 1),
            fixed_within_100m=_rounded(right[fixed].mean()) if fixed.any() else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` reads it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Validation":
        """Read the JSON form; raise ValueError or KeyError where it is none."""
        if not isinstance(content, Mapping) or None in content.values():
            raise ValueError(f"a validation is {content!r}, want an object of numbers")
        return cls(
            content["num_photos"],
            content["share_fixed"],
            content["within_100m"],
            content["median_error_m"],
            content.get("fixed_within_100m"),
        )


def _rounded(share: float) -> float:
    return round(float(share), 4)  # beyond four digits no photo set says anything
