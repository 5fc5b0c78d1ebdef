"""Plots of what a fix says of itself: reliability, risk against coverage, ROC curves."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.sdk_figures import BINS, Fixes, roc, wilson

_DPI = 110
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)))
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#303030")


def draw_trust(
    seen: Fixes, others: Mapping[str, Fixes], strange: Mapping[str, Fixes], out: Path
) -> None:
    """Draw reliability, risk and coverage, and the ROC of "unknown" side by side.

    Args:
        seen: of photos like those that were calibrated with.
        others: of other places, by name.
        strange: of pictures that show no place of the pack, by name.
        out: a PNG.
    """
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_reliability(left, seen)
    _draw_risk(middle, {"seen streets": seen, **others})
    _draw_unknown(right, seen, strange)
    figure.savefig(out, dpi=_DPI)


def draw_conflict(right: Mapping[str, Fixes], wrong: Mapping[str, Fixes], out: Path) -> None:
    """Draw the ROC of wrong priors, a curve for each name that both have."""
    figure = Figure(figsize=(4, 3.4), layout="constrained")
    axes = figure.subplots()
    for at, name in enumerate(right):
        false, true = roc(wrong[name].factor, right[name].factor)
        axes.plot(false, true, label=name, color=_COLOURS[at], linestyle=_STYLES[at])
    axes.axvline(0.02, color="#999999", linewidth=0.8)
    axes.set(
        xlabel="right priors taken to be wrong", ylabel="wrong priors noticed", xlim=(0, 0.3),
        ylim=(0, 1),
    )  # fmt: skip
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(out, dpi=_DPI)


def _draw_reliability(axes: Axes, fixes: Fixes) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for low, high in BINS:
        own = fixes[(fixes.confidence >= low) & (fixes.confidence < high)]
        if len(own) < 20:
            continue
        found, num = int(own.is_right.sum()), len(own)
        bottom, top = wilson(found, num)
        middle = found / num
        axes.errorbar(
            float(own.confidence.mean()), middle, yerr=[[middle - bottom], [top - middle]],
            fmt="o", color=_COLOURS[0], capsize=3,
        )  # fmt: skip
    axes.set(xlabel="confidence", ylabel="right", xlim=(0, 1), ylim=(0, 1), title="Seen streets")


def _draw_risk(axes: Axes, sets: Mapping[str, Fixes]) -> None:
    for at, (name, fixes) in enumerate(sets.items()):
        answered, risk = risk_coverage(fixes)
        axes.plot(answered, risk, label=name, color=_COLOURS[at], linestyle=_STYLES[at])
    axes.set(
        xlabel="photos answered, the surest first", ylabel="more than 100 m off", ylim=(0, 1.05),
        title="Risk against coverage",
    )  # fmt: skip
    axes.legend(fontsize=8)


def _draw_unknown(axes: Axes, seen: Fixes, strange: Mapping[str, Fixes]) -> None:
    right = seen[seen.error_m <= 100]
    for at, (name, fixes) in enumerate(strange.items()):
        false, true = roc(fixes.elsewhere, right.elsewhere)
        axes.plot(false, true, label=name, color=_COLOURS[at], linestyle=_STYLES[at])
    axes.axvline(0.05, color="#999999", linewidth=0.8)
    axes.set(
        xlabel="right photos called unknown", ylabel="others called unknown", xlim=(0, 0.3),
        ylim=(0, 1.02), title='"Unknown"',
    )  # fmt: skip
    axes.legend(fontsize=8, loc=(0.4, 0.58))


def risk_coverage(fixes: Fixes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return shares answered, and the share of these that are more than 100 m off."""
    order = np.argsort(-fixes.confidence, kind="stable")
    wrong = np.cumsum(fixes.error_m[order] > 100)
    num = np.arange(1, len(order) + 1)
    return num / len(order), wrong / num
