"""Does a picture look like the photos that a pack was calibrated with? A dozen numbers say it.

An encoder puts any picture somewhere among its embeddings, noise and a wall as well as a street:
scores alone do not tell them. Brightness, colour, contrast and fine detail of the upper and the
lower half do. Their Mahalanobis distance d to calibration photos counts from a limit on, as
evidence that the photo shows no place of the pack:

    strangeness = max(0, (d^2 - limit) / 2) nats

which is what a Gaussian loses beyond the limit against a density that stays as it is there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_STATISTICS = 12
_NUM_ROWS = 24  # that are looked at, evenly spaced, so that large inputs cost no more
_SHRINK_PHOTOS = 20.0  # correlations that so many photos show count half
# 1 % of Gaussian pictures lie farther out (chi-square of 12 degrees of freedom).
_LEAST_LIMIT = 26.2
_LIMIT_SHARE = 0.95  # of calibration photos lie within the limit, where that is wider
_LEAST_VARIANCE = 1e-4  # photos that are all alike in a number are no proof that all others are

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StatisticsModel:
    """What image statistics photos have that a pack was calibrated with."""

    mean: tuple[float, ...]  # of `image_statistics`, 12
    whitening: tuple[tuple[float, ...], ...]  # 12 x 12: |whitening (x - mean)| is the distance
    limit: float  # square of the distance up to which a picture is no stranger

    def __post_init__(self) -> None:
        shape = np.shape(self.mean), np.shape(self.whitening)
        if shape != ((NUM_STATISTICS,), (NUM_STATISTICS, NUM_STATISTICS)):
            raise ValueError(f"image statistics of shape {shape}, want {NUM_STATISTICS} numbers")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.whitening).all()):
            raise ValueError("image statistics are not finite")
        if not 0 < self.limit < math.inf:
            raise ValueError(f"limit of image statistics is {self.limit}, want a positive number")

    def strangeness(self, statistics: npt.NDArray[Any]) -> Floats:
        """Return how much speaks against places of the pack, in nats, 0 or more.

        Args:
            statistics: (..., 12) of `image_statistics`.
        """
        apart = (np.asarray(statistics, float) - np.array(self.mean)) @ np.array(self.whitening).T
        return np.asarray(np.maximum(0.0, ((apart * apart).sum(axis=-1) - self.limit) / 2))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` reads it."""
        return {
            "mean": list(self.mean),
            "whitening": [list(row) for row in self.whitening],
            "limit": self.limit,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "StatisticsModel":
        """Read the JSON form; raise ValueError where it is none."""
        if not isinstance(content, Mapping):
            raise ValueError(f"image_statistics is {content!r}, want an object")
        try:
            mean = tuple(map(_number, content["mean"]))
            whitening = tuple(tuple(map(_number, row)) for row in content["whitening"])
            return cls(mean, whitening, _number(content["limit"]))
        except (KeyError, TypeError) as e:
            raise ValueError(f"image_statistics lack or have no number: {e}") from e


def image_statistics(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what a picture looks like from afar, (12,).

    Of the upper, then the lower half: green; red and blue beyond green; logarithms of contrast and
    of the mean step to the right and downwards.

    Args:
        pixels: (H, W, 3) RGB as the encoder gets them; less than 3 x 2 of them say nothing, zeros.
    """
    height, width = pixels.shape[:2]
    if height < 3 or width < 2:
        return np.zeros(NUM_STATISTICS, np.float32)
    rows = np.arange(0, height - 1, max(1, height // _NUM_ROWS))
    rows = rows[: len(rows) // 2 * 2]
    seen = pixels[rows].astype(np.float32)  # (R, W, 3)
    green = np.ascontiguousarray(seen[..., 1])
    steps = (np.abs(green[:, 1:] - green[:, :-1]), np.abs(pixels[rows + 1, :, 1] - green))
    half = len(rows) // 2
    values = np.empty((6, 2), np.float32)
    for at, part in enumerate((slice(0, half), slice(half, None))):
        red, own, blue = np.ones(half * width, np.float32) @ seen[part].reshape(-1, 3)
        flat = green[part].ravel()
        mean = own / flat.size
        variance = max(0.0, float(flat @ flat) / flat.size - mean * mean)
        right, down = (step[part].mean() for step in steps)
        values[:, at] = (
            mean / 64,
            (red / flat.size - mean) / 32,
            (blue / flat.size - mean) / 32,
            math.log(math.sqrt(variance) + 1),
            math.log(right + 0.5),
            math.log(down + 0.5),
        )
    return values.ravel()


def fit_statistics(statistics: npt.NDArray[Any]) -> StatisticsModel:
    """Return the model of photos, of which there may be few.

    Correlations are shrunk towards none by 20 photos' worth, and with Q photos the limit is wider
    by 1 + 12 / Q.

    Args:
        statistics: (Q, 12) of `image_statistics`, Q at least 2.
    """
    values = np.asarray(statistics, float)
    num = len(values)
    if values.shape != (num, NUM_STATISTICS) or num < 2:
        raise ValueError(f"image statistics {values.shape}, want (2 or more, {NUM_STATISTICS})")
    mean = values.mean(axis=0)
    covariance = np.cov(values.T)
    own = np.maximum(np.diag(covariance), _LEAST_VARIANCE)
    shrunk = covariance * (num / (num + _SHRINK_PHOTOS))
    np.fill_diagonal(shrunk, own)
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk))
    within = np.quantile((((values - mean) @ whitening.T) ** 2).sum(axis=1), _LIMIT_SHARE)
    limit = max(float(within), _LEAST_LIMIT) * (1 + NUM_STATISTICS / num)
    return StatisticsModel(_rounded(mean), tuple(map(_rounded, whitening)), round(limit, 3))


def _rounded(values: Sequence[float] | Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
