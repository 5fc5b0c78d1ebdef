"""A report in short, for a terminal: the main figures with their intervals, each of them named."""

from collections.abc import Iterable, Mapping
from typing import Any

from geofix_train.order import ORDERED_AT_M
from geofix_train.predictions import ORIGINAL
from geofix_train.report import DISTANCES_M, LOOK
from geofix_train.report_words import (
    FEW,
    METHODS,
    VALUES,
    codes_text,
    columns,
    hybrid_text,
    is_few,
    metres_text,
    percent_text,
    photos_text,
    points_text,
)

SLICED_AT_M = 100  # the distance of the figures of slices
_PLACE = "place"

Figures = Mapping[str, Any]


def summary_text(figures: Figures) -> str:
    """Return the main figures of a report (see `report`) as tables for a terminal."""
    blocks = [f"cell codes: {codes_text(figures['codes'])}", _whole(figures)]
    parts = dict(_parts(figures["slices"]))
    if parts:
        blocks.append(_sliced(parts))
    if "against" in figures:
        blocks.append(_against(figures["against"]))
    return "\n\n".join(blocks)


def _whole(figures: Figures) -> str:
    """Return recalls, those of the main distances with intervals, and median errors."""
    lines = [["method", *(f"{d} m" for d in DISTANCES_M), "median error, m"]]
    for method, recalls in figures["recall_at_m"].items():
        ends = figures["recall_at_m_interval95"][method]
        lines.append(
            [
                method,
                *(
                    percent_text(share, ends[d] if int(d) in ORDERED_AT_M else None)
                    for d, share in recalls.items()
                ),
                metres_text(
                    figures["median_error_m"][method], figures["median_error_m_interval95"][method]
                ),
            ]
        )
    meanings = {**METHODS, "hybrid": hybrid_text(figures["codes"])}
    told = [f"{name}: {meanings[name]}" for name in figures["recall_at_m"] if name in meanings]
    title = f"{photos_text(figures)}; found within, % [95 % interval]"
    return "\n".join([title, columns(lines), *told])


def _parts(slices: Figures) -> Iterable[tuple[str, Figures]]:
    """Yield seen and unseen photos, then the degraded ones; all values have different names."""
    for name in (_PLACE, LOOK):
        for value, figures in slices.get(name, {}).items():
            if value != ORIGINAL:
                yield value, figures


def _sliced(parts: Figures) -> str:
    """Return what is found of each part of the photos, and what the parts are."""
    heads = [f"{value} ({FEW})" if is_few(figures) else value for value, figures in parts.items()]
    lines = [["method", *heads]]
    for method in next(iter(parts.values()))["recall_at_m"]:
        found = [
            percent_text(
                figures["recall_at_m"][method][str(SLICED_AT_M)],
                figures["recall_at_m_interval95"][method][str(SLICED_AT_M)],
            )
            for figures in parts.values()
        ]
        lines.append([method, *found])
    meanings = {**VALUES[_PLACE], **VALUES[LOOK]}
    told = [
        f"{value}: {meanings[value]} ({photos_text(figures)})" if value in meanings
        else f"{value}: {photos_text(figures)}"
        for value, figures in parts.items()
    ]  # fmt: skip
    return "\n".join([f"of these, within {SLICED_AT_M} m, %", columns(lines), *told])


def _against(against: Figures) -> str:
    """Return how many more photos each method finds than in other predictions."""
    lines = [["method", *(f"{d} m" for d in ORDERED_AT_M)]]
    for difference in against["differences"]:
        look, method = difference["look"], difference["method"]
        shares = difference["recall_difference_at_m"]
        ends = difference["recall_difference_at_m_interval95"]
        name = method if look == ORIGINAL else f"{method}, {look}"
        lines.append([name, *(points_text(share, ends[d]) for d, share in shares.items())])
    return (
        f"found more than in {against['name']}, in points of a hundred photos [paired 95 % "
        f"interval]\ncell codes there: {codes_text(against['codes'])}\n{columns(lines)}"
    )
