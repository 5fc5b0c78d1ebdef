"""Pictures of an evaluation, as PNG; of all modules, this and log_plot need matplotlib.

Maps lie on a plane: metres east and north of the middle of what is shown. Colours stay apart for
all eyes, and in gray; only the map of prototypes needs three colours, for three numbers a cell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

import geofix_index.cells as s2
from geofix_index.sphere import EARTH_RADIUS_M
from geofix_train.bootstrap import Bootstrap
from geofix_train.predictions import Predictions, errors_m
from geofix_train.report import DISTANCES_M

if TYPE_CHECKING:
    from geofix_train.evaluate import CellLayers

MAIN_METHOD = "hybrid"
_DPI = 200
_INK, _PALE = "#303030", "#d8d8d8"
# Okabe and Ito's palette; lines differ in dashes, too.
_LINES = {
    "image_nn": ("#000000", "-"),
    "mean_prototypes": ("#999999", ":"),
    "prototypes": ("#e69f00", "--"),
    "aerial": ("#56b4e9", "-."),
    "hybrid_kappa_1": ("#cc79a7", (0, (1, 1))),
    "hybrid": ("#0072b2", "-"),
    "on_device": ("#d55e00", (0, (6, 2))),
}
_OTHER_LINE = ("#009e73", "-")
_SHOWN_M = np.arange(0.0, 1001.0, 10.0)

Floats = npt.NDArray[np.float64]


def draw_plots(
    predictions: Predictions, out: Path, *, layers: "CellLayers | None" = None
) -> dict[str, str]:
    """Draw all pictures into a folder; return what each file shows.

    Args:
        predictions: photos that were degraded are left out.
        out: a folder.
        layers: for the maps of prototypes and of one photo's scores.
    """
    originals = predictions.originals
    method = MAIN_METHOD if MAIN_METHOD in originals.answers else next(iter(originals.answers))
    draw_recall(originals, out / "recall.png", banded=method)
    draw_errors(originals, out / "errors.png", method=method)
    shown = {
        "recall.png": f"Photos found within a distance; the band is the 95 % interval of {method}",
        "errors.png": f"Where the photos were taken, and how far off {method} puts them",
    }
    if layers is not None:
        has_prototype = layers.prototypes.any(axis=1)
        if has_prototype.sum() > 2:
            draw_prototypes(
                layers.cells[has_prototype],
                layers.prototypes[has_prototype],
                out / "prototypes.png",
            )
            shown["prototypes.png"] = (
                "Prototypes of the cells, their three main components as red, green and blue: "
                "cells of like colour look alike to the encoder"
            )
        draw_scores(layers, originals, out / "scores.png", method=method)
        shown["scores.png"] = "How well each cell fits one photo, the one whose error is the median"
    return shown


def draw_recall(predictions: Predictions, path: Path, *, banded: str) -> None:
    """Draw the share of photos found over the distance, a line for each method.

    Args:
        predictions: of any methods.
        path: of the PNG.
        banded: the method whose interval is drawn, too.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    hits = errors_m(predictions, banded)[:, None] <= _SHOWN_M
    low, high = 100 * Bootstrap.of_sequences(predictions.sequence).of_shares(hits).T
    axes.fill_between(
        _SHOWN_M, low, high, color=_LINES.get(banded, _OTHER_LINE)[0], alpha=0.15, lw=0
    )
    for method in predictions.answers:
        colour, dashes = _LINES.get(method, _OTHER_LINE)
        found = 100 * (errors_m(predictions, method)[:, None] <= _SHOWN_M).mean(axis=0)
        width = 2.2 if method == banded else 1.5
        axes.plot(_SHOWN_M, found, color=colour, linestyle=dashes, lw=width, label=method)
    axes.set(xlim=(0, 1000), ylim=(0, 100))
    axes.set_xlabel("distance, m")
    axes.set_ylabel("photos found within it, %")
    axes.set_xticks(range(0, 1001, 100))
    axes.set_yticks(range(0, 101, 10))
    axes.grid(color=_PALE, lw=0.6)
    axes.legend(loc="lower right", frameon=True, framealpha=0.95, edgecolor=_PALE)
    _save(figure, path)


def draw_errors(predictions: Predictions, path: Path, *, method: str) -> None:
    """Draw a dot where each photo was taken, coloured by the error of a method."""
    errors = errors_m(predictions, method)
    xy = _Plane.around(predictions.latlon).xy(predictions.latlon)
    norm = BoundaryNorm([0, *DISTANCES_M], len(DISTANCES_M) + 1, extend="max")
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.08, 1, len(DISTANCES_M) + 1)))
    figure = Figure(figsize=(7.0, 5.8), layout="constrained")
    axes = figure.add_subplot()
    order = np.argsort(errors)  # the worst on top
    east, north = xy[order].T
    dots = axes.scatter(
        east,
        north,
        c=errors[order],
        cmap=colours,
        norm=norm,
        s=16,
        edgecolors=_INK,
        linewidths=0.3,
    )
    _label_map(axes)
    bar = figure.colorbar(dots, ax=axes, shrink=0.85, spacing="uniform")
    bar.set_label(f"error of {method}, m")
    _save(figure, path)


def draw_prototypes(
    cells: npt.NDArray[np.uint64], prototypes: npt.NDArray[np.float32], path: Path
) -> None:
    """Draw cells in the colours of their prototypes' three main components.

    Args:
        cells: (N,), at least 3.
        prototypes: (N, D).
        path: of the PNG.
    """
    centred = prototypes - prototypes.mean(axis=0)
    _, scale, directions = np.linalg.svd(centred, full_matrices=False)
    parts = centred @ directions[:3].T
    low, high = np.quantile(parts, [0.02, 0.98], axis=0)
    colours = np.clip((parts - low) / np.maximum(high - low, 1e-9), 0, 1)
    colours = np.pad(colours, ((0, 0), (0, 3 - colours.shape[1])), constant_values=0.5)
    kept = (scale[:3] ** 2).sum() / max((scale**2).sum(), 1e-12)
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    axes = figure.add_subplot()
    polygons = PolyCollection(
        _polygons(cells, _Plane.around(s2.latlon_from_cell(cells))),
        facecolors=colours,
        edgecolors="white",
        linewidths=0.6,
    )
    axes.add_collection(polygons)
    axes.autoscale_view()
    _label_map(axes)
    axes.set_title(f"three components hold {kept:.0%} of the variance", fontsize=10, color=_INK)
    _save(figure, path)


def draw_scores(layers: "CellLayers", predictions: Predictions, path: Path, *, method: str) -> None:
    """Draw cells coloured by how well they fit one photo, with truth and answer, and the photo."""
    plane = _Plane.around(s2.latlon_from_cell(layers.cells))
    truth = plane.xy(predictions.latlon[[layers.row]])[0]
    answer = plane.xy(predictions.answers[method].latlon[[layers.row]])[0]
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    photo, axes = figure.subplots(1, 2, width_ratios=(1, 1.5))
    polygons = PolyCollection(
        _polygons(layers.cells, plane), cmap="cividis", edgecolors="white", linewidths=0.4
    )
    polygons.set_array(layers.scores)
    axes.add_collection(polygons)
    axes.autoscale_view()
    axes.plot(*np.stack([truth, answer]).T, color="white", lw=2.6)
    axes.plot(*np.stack([truth, answer]).T, color=_INK, lw=1.2)
    for place, marker, label in ((truth, "o", "truth"), (answer, "X", "answer")):
        axes.plot(
            *place, marker, color="#d55e00" if marker == "X" else "white", markersize=11,
            markeredgecolor="black", markeredgewidth=1.4, label=label,
        )  # fmt: skip
    _label_map(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    figure.colorbar(polygons, ax=axes, shrink=0.85).set_label("score (inner product)")
    photo.imshow(layers.photo)
    photo.set_axis_off()
    error = errors_m(predictions[np.array([layers.row])], method)[0]
    photo.set_title(f"the photo; {method} is {error:.0f} m off", fontsize=10, color=_INK)
    _save(figure, path)


@dataclass(frozen=True)
class _Plane:
    """From degrees to metres east and north of a place; true near it."""

    lat: float
    lon: float

    @classmethod
    def around(cls, latlon: Floats) -> "_Plane":
        """Return the plane around the middle of places (N, 2), also across the antimeridian."""
        first = latlon[0, 1]
        east = _wrapped(latlon[:, 1] - first)
        lat = (latlon[:, 0].min() + latlon[:, 0].max()) / 2
        return cls(float(lat), float(first + (east.min() + east.max()) / 2))

    def xy(self, latlon: Floats) -> Floats:
        """Return places (..., 2) in metres (..., 2)."""
        east = np.radians(_wrapped(latlon[..., 1] - self.lon)) * np.cos(np.radians(self.lat))
        north = np.radians(latlon[..., 0] - self.lat)
        return np.asarray(EARTH_RADIUS_M * np.stack([east, north], axis=-1))


def _wrapped(lon: Floats) -> Floats:
    return np.asarray((lon + 180.0) % 360.0 - 180.0)


def _polygons(cells: npt.NDArray[np.uint64], plane: _Plane) -> list[Floats]:
    """Return the corners of each cell, (4, 2) metres."""
    return list(plane.xy(s2.vertices(cells)))


def _label_map(axes: Axes) -> None:
    axes.set_aspect("equal")
    axes.set_xlabel("east, m")
    axes.set_ylabel("north, m")
    axes.tick_params(labelsize=9)


def _save(figure: Figure, path: Path) -> None:
    # Maps keep their proportions, which may leave margins, or push labels beyond the sheet.
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", pad_inches=0.1)
