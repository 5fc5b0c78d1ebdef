"""What reports look like: stages of a fix, how latency spreads, latency against recall."""

from collections.abc import Iterator, Sequence

import numpy as np

from geofix.bench.report import LatencyReport
from geofix.bench.svg import COLOURS, GRID, INK, Drawing, text_px, ticks
from geofix.bench.table import name_of

WIDTH_PX = 860.0
_BAR_PX, _ROW_PX, _TOP_PX, _FOOT_PX, _RIGHT_PX = 18.0, 26.0, 58.0, 40.0, 70.0
_PLOT_PX = 240.0  # height of a plot with two axes
# Of a fix, in their order. The rest of a total is what no stage counts; of a JPEG, that is mostly
# the preprocessing of a picture that the decoder has made smaller.
_ARRAY = ("preprocess", "encode", "search", "posterior")
_JPEG = ("decode", "encode", "search", "posterior")
_PARTS = ("decode", *_ARRAY, "rest")


def stage_bars(reports: Sequence[LatencyReport]) -> Drawing:
    """Return bars of medians, one for a fix from an array and one for a fix from a JPEG file."""
    bars = [bar for report in reports for bar in _bars(report)]
    left = min(330.0, max(text_px(name) for name, _, _ in bars) + 16)
    drawing = Drawing(WIDTH_PX, _TOP_PX + _ROW_PX * len(bars) + _FOOT_PX)
    drawing.text(8, 20, "Median by stage, ms", bold=True)
    _legend(drawing, [(part, COLOURS[at]) for at, part in enumerate(_PARTS)], y=42)
    marks = ticks(max(sum(parts.values()) for _, _, parts in bars))
    scale = (WIDTH_PX - left - _RIGHT_PX) / marks[-1]
    bottom = _TOP_PX + _ROW_PX * len(bars)
    for mark in marks:
        x = left + mark * scale
        drawing.line([(x, _TOP_PX - 4), (x, bottom)], GRID)
        drawing.text(x, bottom + 18, f"{mark:g}", anchor="middle")
    for row, (name, total_ms, parts) in enumerate(bars):
        y = _TOP_PX + _ROW_PX * row
        drawing.text(left - 8, y + 14, _cut(name, left - 16), anchor="end")
        x = left
        for part, ms in parts.items():
            colour = COLOURS[_PARTS.index(part)]
            drawing.rectangle(x, y, ms * scale, _BAR_PX, colour, title=f"{part}: {ms:.3f} ms")
            x += ms * scale
        drawing.text(x + 6, y + 14, f"{total_ms:.2f}")
    return drawing


def distribution(reports: Sequence[LatencyReport]) -> Drawing:
    """Return which share of calls had ended after how long, by device."""
    curves = [(name_of(r), np.sort(_main_samples(r))) for r in reports]
    is_mixed = any("total_array" not in report.stages for report in reports)
    of_what = "fixes (of trtexec: embeddings)" if is_mixed else "fixes"
    drawing, left, bottom = _sheet(f"Share of {of_what} done within, ms")
    # Beyond the 99th percentile a curve is flat, and would squeeze all that differs.
    marks = ticks(max(float(np.quantile(taken, 0.99)) for _, taken in curves) * 1.05)
    scale = (WIDTH_PX - left - 30) / marks[-1]
    _axes(drawing, left, bottom, [(left + m * scale, f"{m:g}") for m in marks])
    for at, (_, taken) in enumerate(curves):
        shares = np.linspace(0, 1, 101)
        points = [
            (left + min(ms, marks[-1]) * scale, bottom - share * _PLOT_PX)
            for ms, share in zip(np.quantile(taken, shares).tolist(), shares.tolist(), strict=True)
        ]
        drawing.line(points, COLOURS[at % len(COLOURS)], width=2)
    named = [(name, COLOURS[at % len(COLOURS)]) for at, (name, _) in enumerate(curves)]
    return _with_names(drawing, named)


def latency_against_recall(reports: Sequence[LatencyReport]) -> Drawing | None:
    """Return a dot for each report whose photos had a truth; None where none has."""
    found = [r for r in reports if r.recall is not None and "total_array" in r.stages]
    if not found:
        return None
    drawing, left, bottom = _sheet("Share of photos within 100 m, by median ms of a fix")
    marks = ticks(max(r.stages["total_array"].p50_ms for r in found) * 1.05)
    scale = (WIDTH_PX - left - 30) / marks[-1]
    _axes(drawing, left, bottom, [(left + m * scale, f"{m:g}") for m in marks])
    named = []
    for at, report in enumerate(found):
        ms, recall = report.stages["total_array"].p50_ms, report.recall
        share = 0.0 if recall is None else recall.within_100m
        colour = COLOURS[at % len(COLOURS)]
        name = name_of(report)
        if report.precision not in name:
            name = f"{name}, {report.precision}"
        words = f"{name}: {100 * share:.0f} %, {ms:.2f} ms"
        drawing.dot(left + ms * scale, bottom - share * _PLOT_PX, colour, title=words)
        named.append((words, colour))
    return _with_names(drawing, named)


def card(reports: Sequence[LatencyReport]) -> str:
    """Return all plots on one sheet, as an SVG file."""
    plots = [p for p in (stage_bars(reports), distribution(reports)) if p is not None]
    against = latency_against_recall(reports)
    plots += [] if against is None else [against]
    sheet = Drawing(WIDTH_PX, sum(plot.height for plot in plots))
    y = 0.0
    for plot in plots:
        sheet.place(plot, y)
        y += plot.height
    return sheet.svg(title="Latency by device")


def _bars(report: LatencyReport) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Yield name, median of the total, and medians of the parts, which need not add up to it."""
    medians = {name: stage.p50_ms for name, stage in report.stages.items()}
    name = name_of(report)
    if "total_array" not in medians:
        yield f"{name}: encoder", medians["encode"], {"encode": medians["encode"]}
        return
    for source, parts in (("array", _ARRAY), ("jpeg", _JPEG)):
        own, total_ms = {part: medians[part] for part in parts}, medians[f"total_{source}"]
        own["rest"] = max(0.0, total_ms - sum(own.values()))
        yield f"{name}: {source.replace('jpeg', 'JPEG')}", total_ms, own


def _main_samples(report: LatencyReport) -> tuple[float, ...]:
    stages = report.stages
    return (stages.get("total_array") or next(iter(stages.values()))).samples_ms


def _sheet(title: str) -> tuple[Drawing, float, float]:
    """Return a sheet with a title, and where its axes cross."""
    drawing = Drawing(WIDTH_PX, _TOP_PX - 20 + _PLOT_PX + _FOOT_PX)
    drawing.text(8, 20, title, bold=True)
    return drawing, 60.0, _TOP_PX - 20 + _PLOT_PX


def _axes(drawing: Drawing, left: float, bottom: float, marks: Sequence[tuple[float, str]]) -> None:
    """Draw a grid: marks along x, shares along y."""
    right = WIDTH_PX - 30
    for percent in (0, 25, 50, 75, 100):
        y = bottom - percent / 100 * _PLOT_PX
        drawing.line([(left, y), (right, y)], INK if percent == 0 else GRID)
        drawing.text(left - 8, y + 4, f"{percent} %", anchor="end")
    for x, words in marks:
        drawing.line([(x, bottom), (x, bottom + 4)], INK)
        drawing.text(x, bottom + 20, words, anchor="middle")


def _with_names(drawing: Drawing, named: Sequence[tuple[str, str]]) -> Drawing:
    """Return the drawing with a line for each curve below."""
    for name, colour in named:
        drawing.rectangle(60, drawing.height - 8, 14, 10, colour)
        drawing.text(80, drawing.height + 2, _cut(name, WIDTH_PX - 90))
        drawing.height += 20
    return drawing


def _legend(drawing: Drawing, named: Sequence[tuple[str, str]], *, y: float) -> None:
    x = 8.0
    for name, colour in named:
        drawing.rectangle(x, y - 10, 12, 12, colour)
        drawing.text(x + 17, y, name)
        x += text_px(name) + 40


def _cut(words: str, width_px: float) -> str:
    """Return words that fit; their end, which tells the bars of a device apart, stays."""
    num = int(width_px / text_px("x"))
    return words if len(words) <= num else f"{words[: num - 9]}...{words[-6:]}"
