"""Latency reports of made-up devices, for tests of what is done with reports."""

from dataclasses import replace
from typing import Any

import numpy as np

from geofix.bench import STAGES, LatencyReport, Memory, PackFacts, PhotoFacts, StageLatency
from geofix.bench.machine import UNKNOWN

# Medians of stages that add up to their totals, all but 0.5 ms.
MEDIANS_MS = {
    "decode": 6.0, "preprocess": 2.0, "encode": 4.0, "search": 0.5, "search_prior": 0.25,
    "posterior": 1.0, "total_array": 8.0, "total_jpeg": 12.0,
}  # fmt: skip
PACK = PackFacts("town", 3, "ab" * 32, 614, 1_500_000, "encoders/encoder.onnx", 700_000)


def samples(median_ms: float, *, num: int = 400, seed: int = 0, spread: float = 0.1) -> list[float]:
    """Return calls around a median, some of them slow."""
    rng = np.random.default_rng(seed)
    taken = median_ms * np.exp(spread * rng.standard_normal(num))
    taken[::50] *= 3
    return [float(ms) for ms in taken]


def make_report(*, slower: float = 1.0, seed: int = 0, **changes: Any) -> LatencyReport:
    """Return a report whose stages take `slower` times as long, with some fields changed."""
    stages = {
        name: StageLatency.of(samples(slower * MEDIANS_MS[name], seed=seed + at))
        for at, name in enumerate(STAGES)
    }
    report = LatencyReport(
        label="Abacus 3000",
        measured_on="2026-01-31",
        geofix="0.1.0",
        runtime="onnxruntime 1.32.0",
        backend="onnx",
        precision="fp32",
        compute_unit="CPU",
        machine=replace(UNKNOWN, cpu="Abacus", cores=7),
        pack=PACK,
        photos=PhotoFacts(8, 1920, 1080, 700_000, True, 500.0),
        open_ms=61.5,
        first_call_ms=9.25,
        warm_up=None,
        stages=stages,
        memory=Memory(peak_bytes=90_000_000, steady_bytes=80_000_000),
        throughput=None,
        drift=None,
        power=None,
        recall=None,
        stopped="",
        notes=(),
    )
    return replace(report, **changes)
