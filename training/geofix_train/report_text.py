"""A report in Markdown, and the folder that holds it all; report_summary is the short one."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geofix_train.against import Against, compare
from geofix_train.order import ORDER, ORDERED_AT_M, is_clear
from geofix_train.predictions import ORIGINAL, Predictions
from geofix_train.report import DISTANCES_M, RANKS, recall_name, report
from geofix_train.report_summary import SLICED_AT_M
from geofix_train.report_words import (
    FEW,
    FEW_SEQUENCES,
    METHODS,
    bytes_text,
    code_text,
    codes_text,
    hybrid_text,
    is_few,
    markdown_table,
    metres_text,
    percent_text,
    photos_text,
    points_text,
    values_text,
)

if TYPE_CHECKING:
    from geofix_train.evaluate import CellLayers

_DIFFERENCE = "recall_difference_at_m"
_RANKED_AT_M = (100, 200)
_MAIN = "hybrid"  # the method whose seen photos the figures of slices are measured by
_SLICE_NOTES = {
    "heading": "No method is told the heading of the photo that it localizes: known and unknown "
    "tell photos apart, not what was made of the heading.",
    "hfov": "No method here is told the field of view of the photo that it localizes: a photo is "
    "brought to the encoder's size as it is.",
}


def write_report(
    predictions: Predictions,
    out: Path,
    *,
    layers: "CellLayers | None" = None,
    against: Against | None = None,
) -> dict[str, Any]:
    """Write report.json, report.md and its pictures to a folder; return the figures.

    Args:
        predictions: to report on.
        out: the folder, made where absent.
        layers: for the maps of all cells, which predictions alone cannot give.
        against: other predictions of the same photos, to be compared with.

    Raises:
        PredictionsError: `against` is of other photos.
    """
    from geofix_train.plots import draw_plots

    compared = {} if against is None else {"against": compare(predictions, against)}
    figures = {**report(predictions), **compared}
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw_plots(predictions, out, layers=layers)
    (out / "report.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
    (out / "report.md").write_text(markdown(figures, pictures=pictures))
    return figures


def markdown(figures: Mapping[str, Any], *, pictures: Mapping[str, str]) -> str:
    """Return a report as Markdown.

    Args:
        figures: what `report` returned.
        pictures: file name -> what it shows.
    """
    parts = [
        "# Evaluation\n",
        f"Cell codes: {codes_text(figures['codes'])}.\n",
        f"{photos_text(figures)}. In brackets are 95 % intervals: what other sequences of this "
        "area could well have given.\n",
        "## Photos found within a distance, %\n",
        _recall_table(figures),
        _meanings(figures),
        *_order_sections(figures),
        *_against_sections(figures.get("against")),
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
                code_text(method),
                bytes_text(figures["database_bytes"][method]),
                *(percent_text(recalls[d], intervals[d]) for d in recalls),
                metres_text(median, ends),
            ]
        )
    return markdown_table(head, rows)


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


def _against_sections(against: Mapping[str, Any] | None) -> Iterable[str]:
    """Yield how the methods do against those of other predictions."""
    if against is None:
        return
    yield f"## Against {against['name']}\n"
    yield f"Cell codes there: {codes_text(against['codes'])}.\n"
    yield (
        "How many more photos each method finds here than there, in points of a hundred photos, "
        "both drawn on the same sequences:\n"
    )
    yield _difference_table(against["differences"], head="method")
    yield _clear_text(against["differences"])


def _order_table(figures: Mapping[str, Any]) -> str:
    shares, all_bytes = figures["database_share_of_image_nn"], figures["database_bytes"]
    found = figures["recall_at_m"]
    methods = [*(m for m in ORDER if m in found), *(m for m in found if m not in ORDER)]
    rows = []
    for method in methods:
        recalls = [
            percent_text(found[method][str(d)], figures["recall_at_m_interval95"][method][str(d)])
            for d in ORDERED_AT_M
        ]
        share = f"{shares[method]:.3g}" if shares else "-"
        rows.append([code_text(method), *recalls, bytes_text(all_bytes[method]), share])
    return markdown_table(
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


def _difference_table(found: Sequence[Mapping[str, Any]], *, head: str = "difference") -> str:
    rows = [
        [
            _claim(difference),
            *(
                points_text(difference[_DIFFERENCE][d], difference[f"{_DIFFERENCE}_interval95"][d])
                for d in difference[_DIFFERENCE]
            ),
        ]
        for difference in found
    ]
    return markdown_table([head, *(f"{d} m" for d in ORDERED_AT_M)], rows)


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
    """Return what is compared: two methods, or a method with itself in other predictions."""
    method = code_text(difference["method"])
    if "other" in difference:
        return f"{method} - {code_text(difference['other'])}"
    return method if difference["look"] == ORIGINAL else f"{method}, {difference['look']}"


def _rank_table(figures: Mapping[str, Any]) -> str:
    columns = [(rank, d) for d in _RANKED_AT_M for rank in RANKS]
    rows = []
    for method in figures["recall_at_m"]:
        cells = []
        for rank, d in columns:
            share = figures[recall_name(rank)][method][str(d)]
            ends = figures[f"{recall_name(rank)}_interval95"][method][str(d)]
            cells.append(percent_text(share, ends))
        rows.append([code_text(method), *cells])
    return markdown_table(["method", *(f"k = {rank}, {d} m" for rank, d in columns)], rows)


def _slice_sections(slices: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield a table for each slice that parts the photos, and a line for those that do not."""
    alike = []
    seen = _main_share(slices.get("place", {}).get("seen"))
    for name, by_value in slices.items():
        if len(by_value) == 1:
            (value,) = by_value
            meaning = values_text(name, by_value)
            alike.append(f"{name} {meaning or value}")
            continue
        yield f"## By {name}: found within {SLICED_AT_M} m, %\n"
        yield _slice_table(name, by_value, seen=seen)
        notes = (values_text(name, by_value), _SLICE_NOTES.get(name), _few_text(by_value))
        for note in (*notes, _OF_SEEN if seen else ""):
            if note:
                yield f"{note.rstrip('.')}.\n"
    if alike:
        yield f"All photos have: {', '.join(alike)}.\n"


_OF_SEEN = "of seen: the share that is found, divided by that of seen photos"


def _slice_table(name: str, by_value: Mapping[str, Any], *, seen: float | None) -> str:
    """Return the table of a slice; its last column is over the share of seen photos, if known."""
    methods = list(next(iter(by_value.values()))["recall_at_m"])
    rows = []
    for value, figures in by_value.items():
        found = [
            percent_text(
                figures["recall_at_m"][method][str(SLICED_AT_M)],
                figures["recall_at_m_interval95"][method][str(SLICED_AT_M)],
            )
            for method in methods
        ]
        if seen:
            found.append(f"{(_main_share(figures) or 0.0) / seen:.2f}")
        shown = value.replace("|", "\\|")
        num_sequences = f"{figures['num_sequences']:,}" + (f" ({FEW})" if is_few(figures) else "")
        rows.append([shown, f"{figures['num_queries']:,}", num_sequences, *found])
    of_seen = [f"{code_text(_MAIN)}, of seen"] if seen else []
    return markdown_table([name, "photos", "sequences", *map(code_text, methods), *of_seen], rows)


def _few_text(by_value: Mapping[str, Any]) -> str:
    """Return what "few" means, "" where there is none."""
    if not any(map(is_few, by_value.values())):
        return ""
    return f"{FEW}: fewer than {FEW_SEQUENCES} sequences, whose intervals say little"


def _main_share(figures: Mapping[str, Any] | None) -> float | None:
    """Return the share of photos that the main method finds, None without it."""
    if figures is None or _MAIN not in figures["recall_at_m"]:
        return None
    return float(figures["recall_at_m"][_MAIN][str(SLICED_AT_M)])


def _meanings(figures: Mapping[str, Any]) -> str:
    meanings = {**METHODS, "hybrid": hybrid_text(figures["codes"])}
    lines = [
        f"* {code_text(method)}: {meanings[method]}"
        for method in figures["recall_at_m"]
        if method in meanings
    ]
    return "\n".join([*lines, ""])
