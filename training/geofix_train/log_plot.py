"""The losses of a run over its steps, as a picture in the run folder."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

LOG, LOG_PLOT = "log.jsonl", "log.png"
# Okabe and Ito's palette; lines differ in dashes, too.
_LINES = {
    "loss": ("#000000", "-"),
    "ground_to_prototype": ("#e69f00", "--"),
    "ground_to_aerial": ("#56b4e9", "-."),
    "aerial_to_prototype": ("#009e73", ":"),
}
_NUM_WINDOWS = 40  # a line is smoothed over this part of a run, so that its trend shows

Floats = npt.NDArray[np.float64]


def read_log(run: Path) -> dict[str, tuple[Floats, Floats]]:
    """Return the steps and values of each loss of a run; a step without a loss is left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in (run / LOG).read_text().splitlines():
        content = json.loads(line)
        for name, value in content.items():
            if name != "step":
                found.setdefault(name, []).append((content["step"], value))
    return {name: (points[:, 0], points[:, 1]) for name, points in _arrays(found).items()}


def smooth(values: Floats, *, window: int) -> Floats:
    """Return the mean of the last `window` values at each, of fewer at the start, (N,)."""
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def draw_log(run: Path) -> bool:
    """Draw the losses of a run into its folder; return whether that was possible.

    It is not without matplotlib, without a step, or where the folder cannot be written: a picture
    is no reason for a run to fail.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    losses = read_log(run)
    if not losses:
        return False
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, (steps, values) in losses.items():
        colour, dashes = _LINES.get(name, ("#999999", "-"))
        window = max(1, len(values) // _NUM_WINDOWS)
        axes.plot(
            steps, smooth(values, window=window), color=colour, linestyle=dashes, lw=1.6, label=name
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss, smoothed")
    axes.grid(color="#d8d8d8", lw=0.6)
    axes.legend(frameon=False)
    try:
        figure.savefig(run / LOG_PLOT, dpi=120)
    except OSError:
        return False
    return True


def _arrays(found: dict[str, list[tuple[float, float]]]) -> dict[str, Floats]:
    return {name: np.array(points, np.float64) for name, points in found.items()}
