"""Figures of fixes: coverage, sharpness, reliability, risk, and how well scores tell two sets."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import Value
from geofix.fix import SURE_CONFIDENCE
from geofix_index import cells as s2
from geofix_index.sphere import great_circle_m

Floats = npt.NDArray[np.float64]
BINS = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01))
ANSWERED = 0.8
SURE_RADIUS_M = 200.0
NEAR_M = 100.0
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Fixes:
    """Fixes of photos, by column; NaN where there is nothing."""

    error_m: Floats
    accuracy_m: Floats
    radius95_m: Floats
    confidence: Floats
    elsewhere: Floats
    factor: Floats
    status: npt.NDArray[np.str_]
    is_conflict: npt.NDArray[np.bool_]
    is_right: npt.NDArray[np.bool_]  # the truth lies in the best cell or in one of its neighbours

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "Fixes":
        return Fixes(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def fixes_from_lines(lines: list[dict[str, Any]]) -> Fixes:
    """Return the columns of saved predictions."""

    def column(name: str) -> Floats:
        values = [line["fix"].get(name, line.get(name)) for line in lines]
        return np.array([np.nan if value is None else value for value in values], float)

    truth = np.array([(line["lat"], line["lon"]) for line in lines], float)  # None is NaN
    answer = np.array([(line["fix"]["lat"], line["fix"]["lon"]) for line in lines], float)
    best = np.array([s2.cell_from_token(line["fix"]["cell"]) for line in lines], np.uint64)
    known = np.isfinite(truth[:, 0])
    is_right = np.zeros(len(lines), bool)
    if known.any():
        own = s2.cell_from_latlon(*truth[known].T, level=int(s2.level_of(best[0])))
        place = np.column_stack([best[known], s2.neighbours(best[known])])
        is_right[known] = (place == own[:, None]).any(axis=1)
    return Fixes(
        error_m=np.asarray(great_circle_m(*truth.T, *answer.T)),
        accuracy_m=column("accuracy_m"),
        radius95_m=column("radius95_m"),
        confidence=column("confidence"),
        elsewhere=np.array([line["elsewhere"] for line in lines], float),
        factor=np.array([line.get("factor", np.nan) for line in lines], float),
        status=np.array([line["fix"]["status"] for line in lines]),
        is_conflict=np.array([line["fix"]["prior_conflict"] for line in lines], bool),
        is_right=is_right,
    )


def share(what: str, hits: npt.NDArray[np.bool_]) -> Value:
    """Return a share with Wilson's 95 % interval and the number of photos."""
    num, found = len(hits), int(hits.sum())
    low, high = wilson(found, num)
    return Value(what, round(found / num, 3), f"({low:.3f} to {high:.3f}, of {num:,})")


def wilson(found: int, num: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score (1927)."""
    z = 1.96
    middle = (found + z * z / 2) / (num + z * z)
    half = z / (num + z * z) * math.sqrt(found * (num - found) / num + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def coverage(name: str, fixes: Fixes) -> list[Value]:
    """Return how many truths radii hold, how wide they are, and how wide one for all would be."""
    given = np.isfinite(fixes.accuracy_m)
    known = fixes[given]
    median_m, constant_m = _median_and_constant_m(known)
    low, high = _ratio_interval(known)
    return [
        share(f"{name}: accuracy_m is given", given),
        share(f"{name}: accuracy_m holds the truth", known.error_m <= known.accuracy_m),
        share(f"{name}: radius95_m holds the truth", known.error_m <= known.radius95_m),
        Value(f"{name}: median accuracy_m", round(median_m, 1), "m"),
        Value(f"{name}: the one radius that holds 68 %", round(constant_m, 1), "m"),
        Value(
            f"{name}: their ratio", round(median_m / constant_m, 2), f"({low:.2f} to {high:.2f})"
        ),
    ]


def _median_and_constant_m(fixes: Fixes) -> tuple[float, float]:
    return float(np.median(fixes.accuracy_m)), float(np.quantile(fixes.error_m, 0.68))


def _ratio_interval(fixes: Fixes) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of these, by a bootstrap over photos."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(NUM_RESAMPLES):
        rows = rng.integers(len(fixes), size=len(fixes))
        median_m, constant_m = _median_and_constant_m(fixes[rows])
        ratios.append(median_m / constant_m)
    low, high = np.quantile(ratios, [0.025, 0.975]).tolist()
    return low, high


def acted(name: str, fixes: Fixes) -> list[Value]:
    """Return how many fixes `Fix.is_sure` lets through, and how many of these are near enough."""
    radius95_m = np.where(np.isfinite(fixes.radius95_m), fixes.radius95_m, np.inf)
    sure = (fixes.status == "fixed") & ~fixes.is_conflict & (radius95_m <= SURE_RADIUS_M)
    sure &= fixes.confidence >= SURE_CONFIDENCE
    values = [share(f"{name}: sure of {SURE_RADIUS_M:.0f} m", sure)]
    if sure.any():
        near = fixes.error_m[sure] <= SURE_RADIUS_M
        values.append(share(f"{name}: of the sure within {SURE_RADIUS_M:.0f} m", near))
    return values


def oracle(name: str, fixes: Fixes) -> Value:
    """Return the ratio of `coverage`, had an oracle told how far off answers beyond 100 m are.

    The others then get the one radius that holds 68 % of them.
    """
    error_m = fixes.error_m[np.isfinite(fixes.accuracy_m)]
    near = error_m <= NEAR_M
    told_m = np.where(near, np.quantile(error_m[near], 0.68), error_m)
    ratio = float(np.median(told_m) / np.quantile(error_m, 0.68))
    return Value(f"{name}: their ratio, had an oracle told which are far off", round(ratio, 2), "")


def sharpness(name: str, fixes: Fixes) -> list[Value]:
    """Return, for each fifth by `accuracy_m`, its median and the radius that holds 68 % of them."""
    known = fixes[np.isfinite(fixes.accuracy_m)]
    fifths = np.array_split(np.argsort(known.accuracy_m, kind="stable"), 5)
    return [
        Value(
            f"{name}: median accuracy_m of fifth {number}",
            round(float(np.median(known.accuracy_m[rows])), 1),
            f"m; 68 % of its errors are below {np.quantile(known.error_m[rows], 0.68):.1f} m",
        )
        for number, rows in enumerate(fifths, 1)
    ]


def shift(name: str, fixes: Fixes) -> list[Value]:
    """Return what a set of photos does to statuses and confidence."""
    order = np.argsort(-fixes.confidence, kind="stable")[: round(ANSWERED * len(fixes))]
    fixed = fixes[fixes.status == "fixed"]
    median_m = float(np.median(fixed.error_m)) if len(fixed) else float("nan")
    return [
        share(f"{name}: fixed", fixes.status == "fixed"),
        share(f"{name}: unknown", fixes.status == "unknown"),
        Value(f"{name}: mean confidence", round(float(fixes.confidence.mean()), 3), ""),
        share(f"{name}: right", fixes.is_right),
        Value(f"{name}: median error of the fixed", round(median_m, 1), "m"),
        Value(
            f"{name}: median error, the surest {ANSWERED:.0%} answered",
            round(float(np.median(fixes.error_m[order])), 1),
            "m",
        ),
    ]


def reliability(fixes: Fixes) -> list[Value]:
    """Return how many are right, by confidence."""
    values = []
    for low, high in BINS:
        own = fixes[(fixes.confidence >= low) & (fixes.confidence < high)]
        if len(own) >= 20:
            mean = float(own.confidence.mean())
            values.append(share(f"right, of those with confidence {mean:.2f}", own.is_right))
    return values


def roc(wrong: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Return shares of `right` and of `wrong` above each threshold, both ascending from 0 to 1."""
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([wrong, right]))[::-1]])
    above = [(values[None] >= thresholds[:, None]).mean(axis=1) for values in (right, wrong)]
    return above[0], above[1]


def area_under(false: Floats, true: Floats) -> float:
    """Return the area under a ROC curve: how often a wrong one scores above a right one."""
    return float(((true[1:] + true[:-1]) / 2 * np.diff(false)).sum())


def found_at(false: Floats, true: Floats, rate: float) -> float:
    """Return the largest share of wrong ones found at a rate of false alarms."""
    return float(true[false <= rate].max())
