"""How fast a region pack answers on this device, and what that depends on.

    from geofix.bench import measure

    report = measure("town.geofix", duration_s=10)
    report.stages["total_array"].p95_ms

The command is `geofix bench`. Needs nothing beyond what the runtime needs.
"""

from geofix.bench.compare import Ratio, compare_reports
from geofix.bench.measure import measure
from geofix.bench.moving_prior import MovingPrior
from geofix.bench.report import (
    STAGES,
    Drift,
    LatencyReport,
    Memory,
    PackFacts,
    PhotoFacts,
    Power,
    Recall,
    StageLatency,
    Throughput,
    WarmUp,
    read_report,
    read_results,
)
from geofix.bench.trtexec import read_trtexec

__all__ = [
    "STAGES",
    "Drift",
    "LatencyReport",
    "Memory",
    "MovingPrior",
    "PackFacts",
    "PhotoFacts",
    "Power",
    "Ratio",
    "Recall",
    "StageLatency",
    "Throughput",
    "WarmUp",
    "compare_reports",
    "measure",
    "read_report",
    "read_results",
    "read_trtexec",
]
