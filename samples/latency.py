"""Does a pack keep a latency budget on this device? Answers with the exit status.

python samples/latency.py PACK BUDGET_MS [SECONDS]
"""

import sys

from geofix.bench import LatencyReport, measure


def over_budget(report: LatencyReport, *, budget_ms: float) -> bool:
    """Return whether one fix in twenty, or more, takes longer than the budget."""
    return report.stages["total_array"].p95_ms > budget_ms


def main(pack: str, budget_ms: float, duration_s: float = 10.0) -> int:
    """Measure, say what takes how long, and return 1 where it is too long."""
    report = measure(pack, duration_s=duration_s)
    for name, stage in report.stages.items():
        print(f"{name:<14}{stage.p50_ms:8.2f} ms, 95 % within {stage.p95_ms:8.2f} ms")
    is_late = over_budget(report, budget_ms=budget_ms)
    print(f"a 1080p frame: {'over' if is_late else 'within'} the budget of {budget_ms:g} ms")
    return 1 if is_late else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], *map(float, sys.argv[2:])))
