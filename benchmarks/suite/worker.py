"""A process that runs workloads with one version of the code, as it is told on stdin.

python -m benchmarks.suite.worker [SLOWER]

`prepare NAME` is answered with "ready" or "absent REASON", `run N` with the seconds that N calls
took. SLOWER is a factor by which each call is made to take longer, to try a comparison out.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.suite.workloads import WORKLOADS


def main() -> None:
    """Answer until stdin ends."""
    slower = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    if hasattr(os, "sched_setaffinity"):  # one core for both versions: cores are not equally busy
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    work: Callable[[], Any] = _nothing
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "run":
            answer = repr(_seconds(work, int(argument), slower))
        else:
            work, answer = _prepared(argument)
        print(answer, flush=True)


def _prepared(name: str) -> tuple[Callable[[], Any], str]:
    """Return a workload that was run once and checked."""
    try:
        workload = WORKLOADS[name]
        work = workload.prepare()
        if not workload.check(work()):
            return work, f"absent {name} gives a wrong answer"
    except Exception as e:  # the other version may lack what a workload uses
        return _nothing, f"absent {type(e).__name__}: {e}".replace("\n", " ")
    return work, "ready"


def _nothing() -> None:
    pass


def _seconds(work: Callable[[], Any], num: int, slower: float) -> float:
    start = time.perf_counter()
    for _ in range(num):
        work()
    taken = time.perf_counter() - start
    while time.perf_counter() - start < slower * taken:
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
