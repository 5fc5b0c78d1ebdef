"""A report as tables, for a terminal and in Markdown, and the folder that holds it all."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofix_train.order import ORDER, ORDERED_AT_M, is_clear
from geofix_train.photo_slices import AREAS
from geofix_train.predictions import Predictions, errors_m
from geofix_train.report import DISTANCES_M, RANKS, recall_name, report

if TYPE_CHECKING:
    from geofix_train.evaluate import CellLayers

_DIFFERENCE = "recall_difference_at_m"
SLICED_AT_M = 100  # the distance of the tables of slices
_RANKED_AT_M = (100, 200)
_MAIN = "hybrid"  # the method whose seen photos the figures of slices are measured by
_SLICE_NOTES = {
    "heading": "No method is told the heading of the photo that it localizes: known and unknown "
    "tell photos apart, not what was made of the heading.",
    "hfov": "No method here is told the field of view of the photo that it localizes: a photo is "
    "brought to the encoder's size as it is.",
    "area": "seen: a training photo stands within 25 m; unseen: none does, but there are some in "
    "the cell of a prototype around the photo or in one that touches it; held-out: there are none "
    "there either.",
}
_MEANINGS = {
    "image_nn": "the place of the nearest training photo",
    "mean_prototypes": "class means, without learning",
    "prototypes": "learned prototypes alone",
    "aerial": "aerial embeddings alone",
    "hybrid_kappa_1": "aerial + prototype",
    "hybrid": "aerial + kappa x prototype, kappa chosen on validation photos",
    "on_device": "hybrid, compressed, as the SDK localizes with the finished pack",
}


def write_report(
    predictions: Predictions, out: Path, *, layers: "CellLayers | None" = None
) -> dict[str, Any]:
    """Write report.json, report.md and its pictures to a folder; return the figures.

    Args:
        predictions: to report on.
        out: the folder, made where absent.
        layers: for the maps of all cells, which predictions alone cannot give.
    """
    from geofix_train.plots import draw_plots

    figures = report(predictions)
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw_plots(predictions, out, layers=layers)
    (out / "report.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    (out / "report.md").write_text(markdown(figures, pictures=pictures))
    return figures


def table_text(predictions: Predictions) -> str:
    """Return recalls and median errors as a table for a terminal."""
    predictions = predictions.originals
    head = ["method", *(f"{d} m" for d in DISTANCES_M), "median", "seen 100 m", "unseen 100 m"]
    lines = [head]
    for method in predictions.answers:
        error = errors_m(predictions, method)
        place = predictions.slices["place"]
        parts = [error[place == name] for name in ("seen", "unseen")]
        lines.append(
            [
                method,
                *(f"{(error <= d).mean():.1%}" for d in DISTANCES_M),
                f"{np.median(error):.0f} m",
                *(f"{(part <= 100).mean():.1%}" if len(part) else "-" for part in parts),
            ]
        )
    return _columns(lines)


def markdown(figures: Mapping[str, Any], *, pictures: Mapping[str, str]) -> str:
    """Return a report as Markdown.

    Args:
        figures: what `report` returned.
        pictures: file name -> what it shows.
    """
    parts = [
        "# Evaluation\n",
        f"{figures['num_queries']:,} photos of {figures['num_sequences']:,} sequences. In brackets "
        "are 95 % intervals: what other sequences of this area could well have given.\n",
        "## Photos found within a distance, %\n",
        _recall_table(figures),
        _meanings(figures),
        *_order_sections(figures),
        "## Photos found among the best k cells, %\n",
        _rank_table(figures),
        *_slice_sections(figures["slices"]),
    ]
    if pictures:
        parts.append("## Pictures\n")
        parts += [f"![{text}]({name})\n\n*{text}.*\n" for name, text in pictures.items()]
    return "\n".join(parts)


def _recall_table(figures: Mapping[str, Any]) -> str:
    head = ["method", "database", *(f"{d} m" for d in DISTANCES_M), "median error, m"]
    rows = []
    for method, recalls in figures["recall_at_m"].items():
        intervals = figures["recall_at_m_interval95"][method]
        median, ends = (
            figures[name][method] for name in ("median_error_m", "median_error_m_interval95")
        )
        rows.append(
            [
                _code(method),
                _bytes(figures["database_bytes"][method]),
                *(_percent(recalls[d], intervals[d]) for d in recalls),
                f"{median:.0f}" + (f" [{ends[0]:.0f}, {ends[1]:.0f}]" if ends else ""),
            ]
        )
    return _table(head, rows)


def _order_sections(figures: Mapping[str, Any]) -> Iterable[str]:
    """Yield the table of the order of the methods, and what is sure of it, in words."""
    if not figures["differences"]:
        return
    yield "## The order of the methods\n"
    yield _order_table(figures)
    yield _bytes_text(figures)
    yield "How many more photos the first finds than the second, in points of a hundred photos:\n"
    yield _difference_table(figures["differences"])
    yield _clear_text(figures["differences"])


def _order_table(figures: Mapping[str, Any]) -> str:
    shares, all_bytes = figures["database_share_of_image_nn"], figures["database_bytes"]
    found = figures["recall_at_m"]
    methods = [*(m for m in ORDER if m in found), *(m for m in found if m not in ORDER)]
    rows = []
    for method in methods:
        recalls = [
            _percent(found[method][str(d)], figures["recall_at_m_interval95"][method][str(d)])
            for d in ORDERED_AT_M
        ]
        share = f"{shares[method]:.3g}" if shares else "-"
        rows.append([_code(method), *recalls, _bytes(all_bytes[method]), share])
    return _table(
        ["method", *(f"{d} m, %" for d in ORDERED_AT_M), "database", "of `image_nn`'s"], rows
    )


def _bytes_text(figures: Mapping[str, Any]) -> str:
    lines = ["Databases are vectors of float32, 4 bytes a number, alike for all methods"]
    if "on_device" in figures["database_bytes"]:
        lines.append(
            "; that of `on_device` is what ships, compressed: it counts against the float32 of "
            "`image_nn`, which could be compressed, too"
        )
    return "".join([*lines, ".\n"])


def _difference_table(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            _claim(difference),
            *(
                _points(difference[_DIFFERENCE][d], difference[f"{_DIFFERENCE}_interval95"][d])
                for d in difference[_DIFFERENCE]
            ),
        ]
        for difference in found
    ]
    return _table(["difference", *(f"{d} m" for d in ORDERED_AT_M)], rows)


def _clear_text(found: Sequence[Mapping[str, Any]]) -> str:
    """Return sentences on which differences are clear of zero."""
    lines = []
    for d in map(str, ORDERED_AT_M):
        clear, open_ = [], []
        for difference in found:
            share = difference[_DIFFERENCE][d]
            if is_clear(difference[f"{_DIFFERENCE}_interval95"][d]):
                clear.append(f"{_claim(difference)} ({'more' if share > 0 else 'fewer'} photos)")
            else:
                open_.append(_claim(difference))
        lines.append(
            f"* Within {d} m, clear of zero: {', '.join(clear) or 'none'}; "
            f"not told from zero: {', '.join(open_) or 'none'}.\n"
        )
    return "".join(lines)


def _claim(difference: Mapping[str, Any]) -> str:
    return f"{_code(difference['method'])} - {_code(difference['other'])}"


def _rank_table(figures: Mapping[str, Any]) -> str:
    columns = [(rank, d) for d in _RANKED_AT_M for rank in RANKS]
    rows = []
    for method in figures["recall_at_m"]:
        cells = []
        for rank, d in columns:
            share = figures[recall_name(rank)][method][str(d)]
            ends = figures[f"{recall_name(rank)}_interval95"][method][str(d)]
            cells.append(_percent(share, ends))
        rows.append([_code(method), *cells])
    return _table(["method", *(f"k = {rank}, {d} m" for rank, d in columns)], rows)


def _slice_sections(slices: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield a table for each slice that parts the photos, and a line for those that do not."""
    alike = []
    seen = _main_share(slices.get("place", {}).get("seen"))
    for name, by_value in slices.items():
        if len(by_value) == 1:
            alike.append(f"{name} {next(iter(by_value))}")
            continue
        yield f"## By {name}: found within {SLICED_AT_M} m, %\n"
        yield _slice_table(name, by_value, seen=seen)
        # A table's own areas have names of their own, which speak for themselves.
        if name in _SLICE_NOTES and (name != "area" or by_value.keys() <= set(AREAS)):
            yield f"{_SLICE_NOTES[name]}\n"
    if alike:
        yield f"All photos have: {', '.join(alike)}.\n"


def _slice_table(name: str, by_value: Mapping[str, Any], *, seen: float | None) -> str:
    """Return the table of a slice; its last column is over the share of seen photos, if known."""
    methods = list(next(iter(by_value.values()))["recall_at_m"])
    rows = []
    for value, figures in by_value.items():
        found = [
            _percent(
                figures["recall_at_m"][method][str(SLICED_AT_M)],
                figures["recall_at_m_interval95"][method][str(SLICED_AT_M)],
            )
            for method in methods
        ]
        if seen:
            found.append(f"{(_main_share(figures) or 0.0) / seen:.2f}")
        shown = value.replace("|", "\\|")
        rows.append([shown, f"{figures['num_queries']:,}", f"{figures['num_sequences']:,}", *found])
    of_seen = [f"{_code(_MAIN)}, of seen"] if seen else []
    return _table([name, "photos", "sequences", *map(_code, methods), *of_seen], rows)


def _main_share(figures: Mapping[str, Any] | None) -> float | None:
    """Return the share of photos that the main method finds, None without it."""
    if figures is None or _MAIN not in figures["recall_at_m"]:
        return None
    return float(figures["recall_at_m"][_MAIN][str(SLICED_AT_M)])


def _meanings(figures: Mapping[str, Any]) -> str:
    lines = [
        f"* {_code(method)}: {_MEANINGS[method]}"
        for method in figures["recall_at_m"]
        if method in _MEANINGS
    ]
    return "\n".join([*lines, ""])


def _percent(share: float, ends: Sequence[float] | None) -> str:
    text = f"{100 * share:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"


def _points(share: float, ends: Sequence[float] | None) -> str:
    """Return a difference of shares; with a digit more, since it is told from zero by its ends."""
    text = f"{100 * share:+.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"


def _bytes(num: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num >= size:
            return f"{num / size:.3g} {unit}"
    return f"{num} bytes"


def _code(name: str) -> str:
    return f"`{name}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left, that reads well as text, too."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(pairs)]
        for pairs in (zip(line, widths, strict=True) for line in lines)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (padded[0], rule, *padded[1:]))


def _columns(lines: Iterable[list[str]]) -> str:
    rows = list(lines)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
