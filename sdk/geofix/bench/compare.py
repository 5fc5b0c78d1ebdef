"""Is one run slower than another? Ratios of medians, with what chance leaves open.

The interval holds for these two runs. What differs between any two runs of the same code (another
placement in memory, a busier hour) is not in it: compare runs that follow each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geofix.bench.report import STAGES, LatencyReport, StageLatency

NUM_RESAMPLES = 1000
_LEVEL = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a stage's median in one run relates to that in another."""

    stage: str
    before_ms: float
    after_ms: float
    ratio: float  # after / before; above 1 is slower
    low: float  # 95 % interval of the ratio
    high: float


def compare_reports(before: LatencyReport, after: LatencyReport, *, seed: int = 0) -> list[Ratio]:
    """Return the ratio of each stage that both runs have, in the order of `STAGES`.

    Args:
        before: the run to compare with.
        after: the run that is judged.
        seed: of the bootstrap.

    Raises:
        ValueError: the runs are of different packs, or share no stage.
    """
    packs = [report.pack and report.pack.manifest_sha256 for report in (before, after)]
    if packs[0] != packs[1]:
        raise ValueError(
            f"the runs are of different packs, {_pack_name(before)} and {_pack_name(after)}: "
            "times of different packs say nothing about code or device; measure both with one"
        )
    shared = [name for name in STAGES if name in before.stages and name in after.stages]
    if not shared:
        raise ValueError("the runs have no stage in common")
    rng = np.random.default_rng(seed)
    return [_ratio(name, before.stages[name], after.stages[name], rng) for name in shared]


def _pack_name(report: LatencyReport) -> str:
    if report.pack is None:
        return f"none ({report.backend})"
    pack = report.pack
    return f"{pack.pack_id!r} version {pack.pack_version} ({pack.manifest_sha256[:12]})"


def _ratio(
    stage: str, before: StageLatency, after: StageLatency, rng: np.random.Generator
) -> Ratio:
    resampled = _medians(after.samples_ms, rng) / _medians(before.samples_ms, rng)
    low, high = np.quantile(resampled, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2)).tolist()
    # The samples' medians, not p50_ms of all calls: the interval has to be around the ratio.
    medians = [float(np.median(found.samples_ms)) for found in (before, after)]
    return Ratio(stage, medians[0], medians[1], _quotient(medians[1], medians[0]), low, high)


def _quotient(a: float, b: float) -> float:
    return a / b if b else float("inf")


def _medians(samples_ms: Sequence[float], rng: np.random.Generator) -> Floats:
    """Return medians of samples drawn again, in blocks: calls that follow each other are alike.

    Blocks of sqrt(N) of a ring of samples (the circular block bootstrap of Politis and Romano).
    """
    taken = np.maximum(np.asarray(samples_ms, np.float64), 1e-6)
    num = len(taken)
    length = max(1, round(num**0.5))
    starts = rng.integers(0, num, (NUM_RESAMPLES, -(-num // length), 1))
    rows = (starts + np.arange(length)).reshape(NUM_RESAMPLES, -1)[:, :num] % num
    return np.asarray(np.median(taken[rows], axis=1))
