"""How far a camera moved between photos.

East and north are true ones, not those of a robot that started anywhere: turn odometry by the
heading first. Covariances are ((east, east-north), (east-north, north)) in m².
"""

import math
from dataclasses import dataclass

import numpy as np

from geofix.geo import Covariance


@dataclass(frozen=True, slots=True)
class Motion:
    """How far a camera moved since the last update, in metres east and north."""

    east_m: float
    north_m: float
    covariance_m2: Covariance

    def __post_init__(self) -> None:
        if not (math.isfinite(self.east_m) and math.isfinite(self.north_m)):
            raise ValueError(f"motion is {self.east_m}, {self.north_m}, want finite metres")
        _check_covariance(self.covariance_m2)

    @classmethod
    def odometry(
        cls, east_m: float, north_m: float, *, relative_error: float = 0.05, error_m: float = 0.0
    ) -> "Motion":
        """Return a motion that errs each way by a share of its length and by a constant."""
        if relative_error < 0 or error_m < 0:
            raise ValueError(
                f"relative_error is {relative_error}, error_m {error_m}: want 0 or more"
            )
        sigma_m = relative_error * math.hypot(east_m, north_m) + error_m
        return cls(east_m, north_m, ((sigma_m**2, 0.0), (0.0, sigma_m**2)))


def _check_covariance(covariance_m2: Covariance) -> None:
    values = np.asarray(covariance_m2, float)
    if values.shape != (2, 2) or not np.isfinite(values).all() or values[0, 1] != values[1, 0]:
        raise ValueError(f"covariance_m2 is {covariance_m2}, want 2 x 2, finite and symmetric")
    if np.linalg.eigvalsh(values)[0] < -1e-9 * max(1.0, float(np.abs(values).max())):
        raise ValueError(
            f"covariance_m2 is {covariance_m2}: its variance is negative in one direction"
        )
