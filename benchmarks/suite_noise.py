"""Does the suite's comparison see a slowdown, and is it silent where there is none?

python -m benchmarks.suite_noise

Twenty times the code is compared with itself, and five times with itself made slower by a fifth.
"""

import os

from benchmarks.record import Value, write_record
from benchmarks.suite.paired import ROOT, PairedRatio, alarms, compare_versions
from benchmarks.suite.workloads import WORKLOADS

NUM_UNCHANGED, NUM_PLANTED = 20, 5
PLANTED = 1.2


def main() -> None:
    """Measure and record."""
    names = list(WORKLOADS)
    load = [os.getloadavg()[0]]
    unchanged, false_alarms = _runs(names, NUM_UNCHANGED, slower=1.0)
    load.append(os.getloadavg()[0])
    planted, found = _runs(names, NUM_PLANTED, slower=PLANTED)
    load.append(os.getloadavg()[0])
    ratios = [ratio.ratio for ratio in unchanged]
    write_record(
        "suite_noise",
        title="The benchmark suite against noise",
        meaning=f"`make bench` compares two versions of the code, {len(names)} workloads of the "
        "index, the pack, the SDK, the encoder and a photo's whole way, in turns on one core. Here "
        f"the code is compared with itself {NUM_UNCHANGED} times, and {NUM_PLANTED} times with "
        "itself made slower by 20 %, while other programs used the cores (the load is the average "
        "number of running processes; there are two cores).",
        values=[
            Value("comparisons of unchanged workloads", len(unchanged), ""),
            Value("of them with an alarm", false_alarms, ""),
            Value("smallest ratio, unchanged", round(min(ratios), 3), ""),
            Value("largest ratio, unchanged", round(max(ratios), 3), ""),
            Value("comparisons of workloads slowed down by 20 %", len(planted), ""),
            Value("of them with an alarm, as it should be", found, ""),
            Value("smallest ratio, slowed down", round(min(r.ratio for r in planted), 3), ""),
            Value("smallest load", round(min(load), 1), ""),
            Value("largest load", round(max(load), 1), ""),
        ],
    )


def _runs(names: list[str], num: int, *, slower: float) -> tuple[list[PairedRatio], int]:
    """Return all ratios of some comparisons, and how many alarms there were."""
    ratios: list[PairedRatio] = []
    num_alarms = 0
    for number in range(num):
        found = compare_versions(ROOT, ROOT, names, slower=slower)
        raised = alarms(ROOT, ROOT, found, slower=slower)
        ratios += found
        num_alarms += len(raised)
        shown = ", ".join(f"{ratio.ratio:.3f}" for ratio in found)
        print(f"{number + 1} of {num}: {shown}; {len(raised)} alarms", flush=True)
    return ratios, num_alarms


if __name__ == "__main__":
    main()
