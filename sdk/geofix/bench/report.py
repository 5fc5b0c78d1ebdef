"""What a run of the benchmark found: percentiles by stage, and what they depend on.

A report is a JSON file (docs/latency_report.schema.json). Times are in milliseconds, sizes in
bytes. What a device does not tell is None. Nothing in it names a person, a host or a folder.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.bench.machine import Machine
from geofix.bench.typed_json import from_object

FORMAT = "geofix-latency-report"
SCHEMA_VERSION = 1
MAX_SAMPLES = 1000  # that a stage keeps, spread over the run

# What is measured, in the order of a photo's way, and how it is called.
STAGES = {
    "decode": "decode",
    "preprocess": "preprocess",
    "encode": "encode",
    "search": "search without prior",
    "search_prior": "search with moving prior",
    "posterior": "posterior",
    "total_array": "total from array",
    "total_jpeg": "total from JPEG",
}

Floats = npt.NDArray[np.float64]

_NUMBERS = re.compile(r"\[\s+([-+.,\deE\s]+?)\s+\]")  # a list of numbers, one a line


@dataclass(frozen=True, slots=True)
class StageLatency:
    """How long one stage took, over all calls of a run."""

    num: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    samples_ms: tuple[float, ...]  # in the order of the calls, 1 to `MAX_SAMPLES` of them

    def __post_init__(self) -> None:
        if self.num < 1 or not self.samples_ms or min(self.samples_ms) < 0:
            raise ValueError("a stage has no calls, or one that took less than no time")

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> "StageLatency":
        """Sum up at least one call."""
        taken = np.asarray(samples_ms, np.float64)
        p50, p90, p95, p99 = np.quantile(taken, (0.5, 0.9, 0.95, 0.99)).tolist()
        kept = taken[np.linspace(0, len(taken) - 1, min(len(taken), MAX_SAMPLES)).astype(int)]
        return cls(
            num=len(taken),
            p50_ms=_ms(p50),
            p90_ms=_ms(p90),
            p95_ms=_ms(p95),
            p99_ms=_ms(p99),
            max_ms=_ms(taken.max()),
            samples_ms=tuple(map(_ms, kept.tolist())),
        )


@dataclass(frozen=True, slots=True)
class PackFacts:
    """The pack that answered, and the encoder of it that ran."""

    pack_id: str
    pack_version: int
    manifest_sha256: str  # of a manifest that holds the hash of every entry
    num_cells: int
    num_bytes: int
    encoder: str  # its entry in the pack
    encoder_bytes: int


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What was localized."""

    num: int
    width: int  # of the first one, as an array
    height: int
    jpeg_bytes: int  # of the first one
    is_synthetic: bool
    prior_radius_m: float  # of the prior that moves


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Rounds before the counted ones, which are in no percentile."""

    num_rounds: int  # of a call of each kind
    total_ms: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a fresh process, Python included, that opens the pack and localizes."""

    peak_bytes: int
    steady_bytes: int  # after the last fix


@dataclass(frozen=True, slots=True)
class Throughput:
    """Fixes a second of arrays, by threads that share one Localizer."""

    num_threads: int
    num_fixes: int
    fixes_per_s: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether the device slows down as it warms up: medians of `total_array`."""

    first_ms: float  # of the first quarter of the calls
    last_ms: float  # of the last quarter


@dataclass(frozen=True, slots=True)
class Power:
    """What the device drew while its throughput was measured."""

    source: str  # "INA3221" or "tegrastats"
    rail: str
    mean_w: float
    max_w: float
    idle_w: float | None  # before the run
    joules_per_fix: float


@dataclass(frozen=True, slots=True)
class Recall:
    """How good the answers are, where photos say where they were taken."""

    num_photos: int
    within_100m: float
    median_error_m: float


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """What a run found. A run that stopped early keeps what it measured.

    Attributes:
        label: how the device is called in tables.
        measured_on: the day, UTC.
        geofix: version of the SDK; "" for numbers of another program.
        runtime: of the encoder, with its version.
        backend: as `Localizer.backend` names it.
        precision: of the encoder.
        compute_unit: what the encoder ran on.
        machine: processor, system, versions.
        open_ms: opening the pack; first_call_ms: the first fix after it.
        stages: by the names of `STAGES`.
        stopped: why the run ended early; "" where it did not.
        notes: what a reader should know.
    """

    label: str
    measured_on: str
    geofix: str
    runtime: str
    backend: str
    precision: str
    compute_unit: str
    machine: Machine
    pack: PackFacts | None
    photos: PhotoFacts | None
    open_ms: float | None
    first_call_ms: float | None
    warm_up: WarmUp | None
    stages: dict[str, StageLatency]
    memory: Memory | None
    throughput: Throughput | None
    drift: Drift | None
    power: Power | None
    recall: Recall | None
    stopped: str
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the run came to its end."""
        return not self.stopped

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `from_json` reads it."""
        return {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> "LatencyReport":
        """Read the JSON form.

        Raises:
            ValueError: it is none, of another schema version, or a value is out of place.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"no latency report: format is not {FORMAT!r}; `geofix bench run`")
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"schema version {version!r} of a latency report, this geofix reads "
                f"{SCHEMA_VERSION}: measure again, or use the geofix that wrote it"
            )
        report = from_object(cls, content, where="report")
        unknown = sorted(set(report.stages) - set(STAGES))
        if unknown or "encode" not in report.stages:
            raise ValueError(
                f"stages are {', '.join(report.stages) or 'none'}, want encode and others of "
                f"{', '.join(STAGES)}"
            )
        return report

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the report whole or not at all."""
        out = Path(path)
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f"{out.name}.part")
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        part.write_text(_NUMBERS.sub(_on_one_line, text) + "\n")
        os.replace(part, out)


def read_report(path: str | os.PathLike[str]) -> LatencyReport:
    """Read a file that `geofix bench run` wrote.

    Raises:
        ValueError: it is half-written, no latency report, or of another schema version.
        OSError: it cannot be read.
    """
    content = read_json(Path(path))
    try:
        return LatencyReport.from_json(content)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def read_results(path: str | os.PathLike[str]) -> LatencyReport:
    """Read a latency report, or the times of `trtexec`, named after their file.

    Raises:
        ValueError: it is neither, or half-written.
        OSError: it cannot be read.
    """
    from geofix.bench.trtexec import read_trtexec  # which makes reports

    if isinstance(read_json(Path(path)), list):
        return read_trtexec(path)
    return read_report(path)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raise ValueError where it is half-written or none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as e:  # broken JSON, or bytes that are no text
        raise ValueError(f"{path}: half-written or no JSON ({e}): measure again") from e


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def _ms(value: float) -> float:
    return round(float(value), 4)  # a tenth of a microsecond: the clock has no more to say
