"""Reports as tables: devices below each other as Markdown or CSV, one run as text."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from geofix.bench.compare import Ratio
from geofix.bench.report import STAGES, LatencyReport

Cell = float | str | None
_MB = 1e6


def _of(*names: str, scale: float = 1) -> Callable[[LatencyReport], Cell]:
    """Return what looks a field of a field up; None where a part of the way is absent."""

    def look_up(report: LatencyReport) -> Cell:
        found: Any = report
        for name in names:
            found = found.get(name) if isinstance(found, dict) else getattr(found, name)
            if found is None:
                return None
        return found if isinstance(found, str) else scale * float(found)

    return look_up


# Title, how it is found in a report, and how many digits a reader wants.
_COLUMNS: tuple[tuple[str, Callable[[LatencyReport], Cell], int], ...] = (
    ("device", lambda report: name_of(report), 0),
    ("runtime", _of("runtime"), 0),
    ("precision", _of("precision"), 0),
    ("compute unit", _of("compute_unit"), 0),
    ("fix p50 ms", _of("stages", "total_array", "p50_ms"), 2),
    ("fix p95 ms", _of("stages", "total_array", "p95_ms"), 2),
    ("fix p99 ms", _of("stages", "total_array", "p99_ms"), 2),
    ("encoder p50 ms", _of("stages", "encode", "p50_ms"), 2),
    ("encoder p95 ms", _of("stages", "encode", "p95_ms"), 2),
    ("JPEG fix p50 ms", _of("stages", "total_jpeg", "p50_ms"), 2),
    ("fixes/s", _of("throughput", "fixes_per_s"), 1),
    ("threads", _of("throughput", "num_threads"), 0),
    ("peak MB", _of("memory", "peak_bytes", scale=1e-6), 0),
    ("encoder MB", _of("pack", "encoder_bytes", scale=1e-6), 2),
    ("pack MB", _of("pack", "num_bytes", scale=1e-6), 2),
    ("within 100 m", _of("recall", "within_100m"), 2),
    ("W", _of("power", "mean_w"), 2),
    ("mJ/fix", _of("power", "joules_per_fix", scale=1000), 2),
)


def name_of(report: LatencyReport) -> str:
    """Return how a report is called in tables and plots."""
    return report.label if report.is_complete else f"{report.label} (partial: {report.stopped})"


def device_rows(reports: Sequence[LatencyReport]) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows for readers, without columns that no report fills."""
    rows = [[_shown(find(r), digits) for _, find, digits in _COLUMNS] for r in reports]
    kept = [at for at in range(len(_COLUMNS)) if any(row[at] for row in rows)]
    titles = [title for title, _, _ in _COLUMNS]
    return [titles[at] for at in kept], [[row[at] for at in kept] for row in rows]


def markdown(reports: Sequence[LatencyReport]) -> str:
    """Return the device table as Markdown, with what was measured and notes below."""
    titles, rows = device_rows(reports)
    lines = [titles, ["---"] * len(titles), *([_escaped(cell) for cell in row] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *conditions(reports)]) + "\n"


def conditions(reports: Sequence[LatencyReport]) -> Iterator[str]:
    """Yield a sentence for each report: what was localized, with what, and notes."""
    for report in reports:
        parts = [part for part in (_photos(report), _pack(report)) if part]
        parts += [f"geofix {report.geofix}" if report.geofix else "", report.measured_on]
        yield f"{name_of(report)}: {'; '.join([*filter(None, parts), *report.notes])}."


def csv_text(reports: Sequence[LatencyReport]) -> str:
    """Return a row for each report and stage, with all percentiles and no rounding."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    facts = [title for title, _, _ in _COLUMNS]
    percentiles = ("num", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms")
    writer.writerow([*facts, "stage", *percentiles])
    for report in reports:
        row = [_exact(find(report)) for _, find, _ in _COLUMNS]
        for name, found in report.stages.items():
            writer.writerow([*row, name, *(getattr(found, field) for field in percentiles)])
    return file.getvalue()


def run_text(report: LatencyReport) -> Iterator[str]:
    """Yield the lines that answer how fast it is, for a terminal."""
    yield headline(report)
    yield ""
    yield f"{'ms':<26}{'p50':>9}{'p90':>9}{'p95':>9}{'p99':>9}{'max':>9}{'calls':>8}"
    for name, s in report.stages.items():
        figures = "".join(f"{ms:9.3f}" for ms in (s.p50_ms, s.p90_ms, s.p95_ms, s.p99_ms, s.max_ms))
        yield f"{STAGES[name]:<26}{figures}{s.num:>8}"
    yield ""
    for name, text in facts(report):
        yield f"{name:<14}{text}"


def headline(report: LatencyReport) -> str:
    """Return the answer to the first question, in a sentence."""
    name = "total_array" if "total_array" in report.stages else "encode"
    found = report.stages[name]
    what = "A fix" if name == "total_array" else "The encoder"
    size = f" from an array of {_photos(report)}" if report.photos else ""
    return (
        f"{name_of(report)}: {what} takes {found.p50_ms:.1f} ms{size} "
        f"(95 % within {found.p95_ms:.1f} ms)."
    )


def facts(report: LatencyReport) -> Iterator[tuple[str, str]]:
    """Yield what a run found beside its stages, as names and texts."""
    yield "runtime", f"{report.runtime} {report.precision}, {report.compute_unit}".strip()
    if report.open_ms is not None and report.first_call_ms is not None:
        yield "open", f"{report.open_ms:.0f} ms, first fix {report.first_call_ms:.1f} ms"
    if report.memory:
        peak, steady = report.memory.peak_bytes / _MB, report.memory.steady_bytes / _MB
        yield "memory", f"{peak:.0f} MB at its peak, {steady:.0f} MB steady, Python included"
    if report.throughput:
        found = report.throughput
        threads = f"{found.num_threads} thread{'s' if found.num_threads > 1 else ''}"
        yield "throughput", f"{found.fixes_per_s:.1f} fixes/s by {threads}"
    if report.drift:
        drift = report.drift
        yield (
            "drift",
            f"{drift.first_ms:.2f} ms in the first quarter, {drift.last_ms:.2f} in the last",
        )
    if report.power:
        power = report.power
        idle = "" if power.idle_w is None else f", idle {power.idle_w:.2f} W"
        energy = f"{power.mean_w:.2f} W ({power.rail}{idle}), {1000 * power.joules_per_fix:.1f} mJ"
        yield "power", f"{energy} a fix"
    if report.recall:
        recall = report.recall
        yield (
            "recall",
            f"{100 * recall.within_100m:.0f} % within 100 m, median {recall.median_error_m:.0f} m, "
            f"{recall.num_photos} photos",
        )
    if report.pack:
        sizes = (
            f"{report.pack.num_bytes / _MB:.2f} MB, encoder {report.pack.encoder_bytes / _MB:.2f}"
        )
        yield "pack", f"{_pack(report).removeprefix('pack ')}, {sizes} MB"
    yield "machine", _machine(report)
    yield from (("note", note) for note in report.notes)


def ratio_text(ratios: Sequence[Ratio]) -> Iterator[str]:
    """Yield the lines of a comparison, for a terminal."""
    yield f"{'ms':<26}{'before':>10}{'after':>10}{'ratio':>8}   95 % interval"
    for r in ratios:
        figures = f"{r.before_ms:>10.3f}{r.after_ms:>10.3f}{r.ratio:>8.3f}"
        yield f"{STAGES[r.stage]:<26}{figures}   {r.low:.3f} to {r.high:.3f}"


def _photos(report: LatencyReport) -> str:
    if report.photos is None:
        return ""
    return f"{report.photos.width} x {report.photos.height} pixels"


def _pack(report: LatencyReport) -> str:
    if report.pack is None:
        return ""
    pack = report.pack
    return f"pack {pack.pack_id} version {pack.pack_version}, {pack.num_cells} cells"


def _machine(report: LatencyReport) -> str:
    machine = report.machine
    parts = [
        machine.board, machine.cpu, f"{machine.cores} cores" if machine.cores else "", machine.gpu,
        machine.system, machine.jetpack, machine.power_mode,
        f"Python {machine.python}" if machine.python else "",
        f"load {machine.load:g} before" if machine.cores else "",
    ]  # fmt: skip
    return ", ".join(filter(None, parts)) or "unknown"


def _shown(value: Cell, digits: int) -> str:
    if value is None or value == "":
        return ""
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def _exact(value: Cell) -> Cell:
    return "" if value is None else value


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
