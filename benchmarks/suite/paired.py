"""Times two versions of the code against each other, a few milliseconds in turns.

Each version has a process of its own, on the same core. They take turns, A B, B A, A B and so on,
so that whatever else the machine does meets both alike; what is kept is the ratio of the two times
of a turn. Whether the machine is fast or slow in this hour has no part in it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
BLOCK_S = 0.004  # of a turn: long against the clock and the switch, short against other programs
MIN_S, MAX_S = 1.0, 5.0  # of a workload; it ends between them when its interval is narrow
_SHARP = 1.08  # a narrow interval's ends
_TURNS_BETWEEN = 10
ALARM_ABOVE = 1.05
_NUM_RESAMPLES = 1000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedRatio:
    """How long a workload takes with one version, in terms of the other."""

    name: str
    ratio: float  # new / reference, median over the turns
    low: float  # 99 % interval
    high: float
    num_turns: int
    new_ms: float  # median of a call
    absent: str = ""  # why it was not compared


class Version:
    """A process that runs workloads with the code of a folder. Use it as a context manager."""

    def __init__(self, folder: Path = ROOT, *, slower: float = 1.0) -> None:
        """Start the process.

        Args:
            folder: that holds `sdk` and `on_device_index`.
            slower: factor by which each call is made to take longer.
        """
        roots = [folder / "sdk", folder / "on_device_index", ROOT]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, roots)), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.suite.worker", str(slower)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder,
        )  # fmt: skip

    def __enter__(self) -> "Version":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def ask(self, words: str) -> str:
        """Return the answer to a command of the worker."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        process.stdin.write(f"{words}\n")
        process.stdin.flush()
        answer = process.stdout.readline().rstrip("\n")
        if not answer:
            raise RuntimeError(f"the worker ended at {words!r}: its error stands above")
        return answer

    def seconds(self, num: int) -> float:
        """Return what `num` calls of the prepared workload take."""
        return float(self.ask(f"run {num}"))


def compare_versions(
    reference: Path, new: Path, names: Sequence[str], *, slower: float = 1.0
) -> list[PairedRatio]:
    """Return how much longer each workload takes with the new version, in the order of names.

    Args:
        reference: folder of the one version's `sdk` and `on_device_index`.
        new: folder of the other's.
        names: of `WORKLOADS`.
        slower: factor by which calls of the new version are made to take longer.
    """
    with Version(reference) as old_process, Version(new, slower=slower) as new_process:
        return [_compare(old_process, new_process, name) for name in names]


def alarms(
    reference: Path, new: Path, found: Sequence[PairedRatio], *, slower: float = 1.0
) -> list[PairedRatio]:
    """Return which workloads are slower: their intervals lie above `ALARM_ABOVE`, and did again.

    The second time in new processes, since where a process's memory lies has a part in its speed.
    """
    suspects = [ratio.name for ratio in found if ratio.low > ALARM_ABOVE]
    if not suspects:
        return []
    again = compare_versions(reference, new, suspects, slower=slower)
    return [ratio for ratio in again if ratio.low > ALARM_ABOVE]


def _compare(reference: Version, new: Version, name: str) -> PairedRatio:
    for version in (reference, new):
        answer = version.ask(f"prepare {name}")
        if answer != "ready":
            return PairedRatio(name, 1.0, 1.0, 1.0, 0, 0.0, answer.removeprefix("absent "))
    single = min(version.seconds(1) for version in (reference, new) for _ in range(5))
    num = max(1, round(BLOCK_S / single))
    turns: list[tuple[float, float]] = []
    start = time.perf_counter()
    while True:
        for _ in range(_TURNS_BETWEEN):
            first, second = new.seconds(num), reference.seconds(num)
            turns.append((first, second))
            second, first = reference.seconds(num), new.seconds(num)
            turns.append((first, second))
        found, taken_s = _summary(name, np.array(turns), num), time.perf_counter() - start
        is_sharp = found.high / found.low < _SHARP
        if taken_s > MAX_S or (is_sharp and taken_s > MIN_S):
            return found


def _summary(name: str, times: Floats, num_calls: int) -> PairedRatio:
    """Sum up turns (N, 2) of new and reference, whose bootstrap draws turns."""
    logs = np.log(times[:, 0] / times[:, 1])
    rng = np.random.default_rng(0)
    drawn = np.median(logs[rng.integers(0, len(logs), (_NUM_RESAMPLES, len(logs)))], axis=1)
    low, high = np.exp(np.quantile(drawn, (0.005, 0.995))).tolist()
    return PairedRatio(
        name,
        ratio=float(np.exp(np.median(logs))),
        low=low,
        high=high,
        num_turns=len(times),
        new_ms=1000 * float(np.median(times[:, 0])) / num_calls,
    )
