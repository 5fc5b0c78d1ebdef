"""Runs the benchmark: opens a pack, localizes for a while, and reports what each stage took.

Calls of all stages alternate, so that a busy moment or a hot processor slows all of them alike.
Totals are read from a clock around the call, stages from the fix's own `timings_ms`. One photo at a
time; an encoder has handed its embedding to the CPU when its call returns, also on a GPU.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from geofix.bench.collect import Collector
from geofix.bench.machine import Machine, machine_facts
from geofix.bench.memory import measure_memory
from geofix.bench.moving_prior import MovingPrior
from geofix.bench.photos import BenchPhoto, image_files, read_photos, synthetic_photos
from geofix.bench.recall import measure_recall
from geofix.bench.report import LatencyReport, Memory, PackFacts, PhotoFacts, Recall
from geofix.localizer import Localizer
from geofix.manifest import EncoderEntry
from geofix.pack import RegionPack

DURATION_S = 20.0
BUSY_LOAD = 0.5  # running processes a core, before the run, that leave too little for it
_FOR_THROUGHPUT = 0.2  # of the duration
_RUNTIMES = {"onnx": "onnxruntime", "tensorrt": "tensorrt", "coreml": "coremltools"}

_log = logging.getLogger("geofix")


@dataclass(slots=True)
class _Beside:
    """What is measured after latency and throughput."""

    memory: Memory | None = None
    recall: Recall | None = None


def measure(
    pack: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    encoder: str | os.PathLike[str] | None = None,
    prior: MovingPrior | None = None,
    duration_s: float = DURATION_S,
    num_threads: int = 1,
    encoder_threads: int = 0,
    label: str = "",
) -> LatencyReport:
    """Localize for a while and return what it took.

    A run that is interrupted, or whose backend fails, returns what it measured; see `stopped`.

    Args:
        pack: path of a region pack with an encoder.
        images: a folder of photos; None draws some of 1920 x 1080 pixels.
        backend: see `Localizer.open`.
        encoder: see `Localizer.open`.
        prior: what the searches with a prior are bounded by; None is a disk of 500 m around where
            the first photo was found.
        duration_s: of measuring, in seconds; opening, warm-up, memory and recall come on top.
        num_threads: that share the Localizer while throughput is measured.
        encoder_threads: of one inference; see `num_threads` of `Localizer.open`. Memory is measured
            with what the runtime chooses.
        label: how the device is called; "" is what the machine says of itself.

    Raises:
        PackError, BackendUnavailable: the pack or its encoder cannot be used.
        PriorOutsidePack: the prior admits no cell of the pack.
        ValueError: an argument out of range, or no images.
        OSError: a file cannot be read.
    """
    _check(duration_s, num_threads)
    paths = [] if images is None else image_files(Path(images))
    photos = read_photos(paths) if paths else synthetic_photos()
    before = machine_facts()  # its load is not that of the run
    given = None if encoder is None else Path(encoder)
    start = time.perf_counter()
    with Localizer.open(
        pack, backend=backend, encoder=given, num_threads=encoder_threads
    ) as localizer:
        open_ms = 1000 * (time.perf_counter() - start)
        run, beside = Collector(localizer, photos, prior=prior), _Beside()

        def steps() -> None:
            run.measure_latency((1 - _FOR_THROUGHPUT) * duration_s)
            run.measure_throughput(_FOR_THROUGHPUT * duration_s, num_threads=num_threads)
            jpeg = photos[0].jpeg
            beside.memory = measure_memory(Path(pack), jpeg, backend=backend, encoder=given)
            beside.recall = measure_recall(localizer, paths)

        stopped = _run_until_stopped(steps, run)
    report = _report(run, beside, RegionPack.open(pack), before, localizer)
    return replace(
        report,
        label=label or report.label,
        photos=_photo_facts(photos, is_synthetic=not paths, radius_m=run.prior.radius_m),
        open_ms=round(open_ms, 3),
        stopped=stopped,
        notes=(*report.notes, *_threads_note(encoder_threads)),
    )


def _check(duration_s: float, num_threads: int) -> None:
    if not 0 < duration_s <= 86_400:
        raise ValueError(f"duration_s is {duration_s}, want more than 0 and at most a day")
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}, want 1 or more")


def _notes(before: Machine) -> tuple[str, ...]:
    """Return what makes the figures doubtful."""
    cores = max(before.cores, os.cpu_count() or 1)  # the load is of all, this process may have few
    if before.load < BUSY_LOAD * cores:
        return ()
    return (
        f"other programs kept the machine busy: load {before.load:g} on {cores} cores "
        "before the run",
    )


def _threads_note(encoder_threads: int) -> tuple[str, ...]:
    """Return what was chosen by hand."""
    if encoder_threads == 0:
        return ()
    return (f"threads of the encoder: {encoder_threads}",)


def _run_until_stopped(steps: Callable[[], None], run: Collector) -> str:
    """Measure; return why they ended early, "" where they did not.

    What stops a run before each stage was counted once is raised.
    """
    try:
        steps()
    except KeyboardInterrupt:
        if not run.has_samples:
            raise
        return "interrupted"
    except Exception as e:  # whatever a backend raises, what was measured is kept
        if not run.has_samples:
            raise
        _log.error("stopped while measuring: %s", e)
        return type(e).__name__  # its words may hold a path
    return ""


def _report(
    run: Collector, beside: _Beside, pack: RegionPack, before: Machine, localizer: Localizer
) -> LatencyReport:
    # Facts of now, since the runtime was imported meanwhile, but for the load.
    machine = replace(machine_facts(), load=before.load)
    encoder = next(e for e in pack.manifest.encoders if e.target == localizer.backend)
    return LatencyReport(
        label=machine.board or f"{machine.cpu}, {machine.cores} cores",
        measured_on=datetime.now(timezone.utc).date().isoformat(),
        geofix=machine.packages.get("geofix", ""),
        runtime=_runtime(localizer.backend, machine),
        backend=localizer.backend,
        precision=encoder.precision,
        compute_unit=localizer.device,
        machine=machine,
        pack=_pack_facts(pack, encoder),
        photos=None,
        open_ms=None,
        first_call_ms=round(run.first_call_ms, 3),
        warm_up=run.warm_up,
        stages=run.stages(),
        memory=beside.memory,
        throughput=run.throughput,
        drift=run.drift(),
        power=run.power,
        recall=beside.recall,
        stopped="",
        notes=_notes(before),
    )


def _runtime(backend: str, machine: Machine) -> str:
    package = _RUNTIMES.get(backend, backend)
    return f"{package} {machine.packages.get(package, '')}".rstrip()


def _pack_facts(pack: RegionPack, encoder: EncoderEntry) -> PackFacts:
    manifest = pack.manifest
    digest = encoder.referenced or manifest.entries[encoder.entry]
    return PackFacts(
        pack_id=manifest.pack_id,
        pack_version=manifest.pack_version,
        manifest_sha256=pack.manifest_sha256,
        num_cells=manifest.num_cells,
        num_bytes=pack.path.stat().st_size,
        encoder=encoder.entry,
        encoder_bytes=digest.num_bytes,
    )


def _photo_facts(photos: list[BenchPhoto], *, is_synthetic: bool, radius_m: float) -> PhotoFacts:
    height, width = photos[0].array.shape[:2]
    return PhotoFacts(
        num=len(photos),
        width=width,
        height=height,
        jpeg_bytes=len(photos[0].jpeg),
        is_synthetic=is_synthetic,
        prior_radius_m=radius_m,
    )
