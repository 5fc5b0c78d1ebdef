"""Times of NVIDIA's `trtexec`, so that devices without Python stand in the same table.

`trtexec --exportTimes=times.json` writes a list with an object for each query after the warm-up:
moments (`startH2dMs`, `endH2dMs`, `startComputeMs` and so on), and lengths: `h2dMs`, `computeMs`,
`d2hMs`, and `latencyMs`, their sum (samples/common/sampleReporting.cpp of
NVIDIA/TensorRT). TensorRT 10 copies input and output by default, TensorRT 11 does not unless it is
given --includeDataTransfers; then both copies take 0 ms. Up to TensorRT 8 there is `endToEndMs`,
too, which is not used: it counts the wait for the query before.
"""

import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from geofix.bench.machine import UNKNOWN
from geofix.bench.report import LatencyReport, StageLatency, read_json

_PARTS = ("h2dMs", "computeMs", "d2hMs")
NO_TRANSFERS = "GPU compute alone: copies of input and output were not timed"


def read_trtexec(
    path: str | os.PathLike[str],
    *,
    label: str = "",
    runtime: str = "TensorRT",
    precision: str = "",
) -> LatencyReport:
    """Return a report with one stage, `encode`, from what `trtexec --exportTimes` wrote.

    The file does not name device, version and precision.

    Args:
        path: of the JSON file.
        label: of the device; "" is the file's name.
        runtime: TensorRT and its version.
        precision: of the engine.

    Raises:
        ValueError: it is half-written, or has no times of queries.
        OSError: it cannot be read.
    """
    content = read_json(Path(path))
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path}: no list of times, want what `trtexec --exportTimes` writes")
    queries = [_query(number, query, Path(path)) for number, query in enumerate(content)]
    has_transfers = any(query["h2dMs"] or query["d2hMs"] for query in queries)
    return LatencyReport(
        label=label or Path(path).stem,
        measured_on=_day_of(Path(path)),
        geofix="",
        runtime=runtime,
        backend="trtexec",
        precision=precision,
        compute_unit="GPU",
        machine=UNKNOWN,
        pack=None,
        photos=None,
        open_ms=None,
        first_call_ms=None,
        warm_up=None,
        stages={"encode": StageLatency.of([sum(query.values()) for query in queries])},
        memory=None,
        throughput=None,
        drift=None,
        power=None,
        recall=None,
        stopped="",
        notes=() if has_transfers else (NO_TRANSFERS,),
    )


def _query(number: int, query: Any, path: Path) -> Mapping[str, float]:
    """Return the parts of a query's latency."""
    parts: dict[str, float] = {}
    for name in _PARTS:
        ms = query.get(name) if isinstance(query, dict) else None
        if not isinstance(ms, (int, float)) or not 0 <= ms < float("inf"):
            raise ValueError(
                f"{path}: {name} of query {number} is {ms!r}, want milliseconds; is it what "
                "`trtexec --exportTimes` of TensorRT 8.4 or newer wrote?"
            )
        parts[name] = float(ms)
    return parts


def _day_of(path: Path) -> str:
    """Return when the file was last written; it does not say when it was measured."""
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).date().isoformat()
