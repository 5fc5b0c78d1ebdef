"""A pack of synthetic streets, and cameras that drive along them, for the tests of tracking.

A cell's code is a random unit vector of its own, unless it is told to look like another cell. What
a camera sees in a cell is the cell's code and noise: a single photo tells the cell, most of the
time, and nothing about where in the cell it was taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geofix import Fix, LatLon, Localizer, Motion, Tracker
from geofix.geo import east_north_m, latlon_from_east_north
from geofix.pack_writer import write_pack
from geofix.posterior import Calibration
from geofix_index import ProductQuantizer
from geofix_index import cells as s2
from tests.tiny_pack import CELL_LEVEL, ZURICH, make_shards

DIM = 64
EDGE_M = s2.mean_edge_m(CELL_LEVEL)
REACH_M = 1200.0
NOISE = 0.6  # length of the noise beside a code's
CALIBRATION = Calibration(temperature=0.06, elsewhere=0.5)

Floats = npt.NDArray[np.float64]
Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Streets:
    """Cells in a square, metres east and north of its middle."""

    cells: npt.NDArray[np.uint64]
    codes: npt.NDArray[np.float32]
    origin: LatLon

    @classmethod
    def make(cls, origin: LatLon = ZURICH) -> "Streets":
        """Return streets in a square of 2.4 km around a place, each cell with its own look."""
        ticks = np.arange(-REACH_M, REACH_M + 1, EDGE_M / 4)
        places = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        latlon = latlon_from_east_north(places, origin=origin)
        cells = np.unique(s2.cell_from_latlon(*latlon.T, level=CELL_LEVEL))
        codes = np.random.default_rng(0).standard_normal((len(cells), DIM))
        codes /= np.linalg.norm(codes, axis=1, keepdims=True)
        return cls(cells, codes.astype(np.float32), origin)

    def write(self, path: Path) -> Path:
        """Write a calibrated pack without an encoder."""
        quantizer = ProductQuantizer.train(self.codes, num_subspaces=DIM // 2, bits=4, seed=0)
        write_pack(
            path,
            pack_id="streets",
            title="Streets",
            quantizer=quantizer,
            shards=[files for _, files in make_shards(self.cells, self.codes, quantizer)],
            encoders=[],
            calibration=CALIBRATION,
        )
        return path

    def row_of(self, place: Floats) -> int:
        """Return the row of the cell at metres east and north of the middle."""
        cell = s2.cell_from_latlon(*self.latlon(place), level=CELL_LEVEL)
        row = int(np.searchsorted(self.cells, cell))
        assert self.cells[row] == cell, f"no cell at {place}"
        return row

    def latlon(self, place: Floats) -> Floats:
        """Return degrees of metres east and north of the middle."""
        return latlon_from_east_north(place, origin=self.origin)

    def seen_from(
        self, place: Floats, rng: np.random.Generator, *, noise: float = NOISE
    ) -> Embedding:
        """Return the embedding of a photo."""
        row = self.row_of(place)
        return self.noisy(self.codes[row], rng, noise=noise)

    def noisy(
        self, code: npt.NDArray[np.float32], rng: np.random.Generator, *, noise: float = NOISE
    ) -> Embedding:
        """Return the embedding of a photo of something that has a code."""
        seen = code + noise * rng.standard_normal(DIM) / np.sqrt(DIM)
        return np.asarray(seen / np.linalg.norm(seen), np.float32)

    def error_m(self, fix: Fix, place: Floats) -> float:
        """Return how far a fix is from metres east and north of the middle."""
        found = east_north_m(fix.latlon.lat, fix.latlon.lon, origin=self.origin)
        return float(np.hypot(*(found - place)))


def nothing(streets: Streets) -> Embedding:
    """Return the embedding of a covered camera: no cell's score comes near "elsewhere"."""
    axes = np.linalg.svd(streets.codes, full_matrices=False)[2]
    best = [float((streets.codes @ axis).max()) for axis in axes]
    return np.asarray(axes[int(np.argmin(best))], np.float32)


def along(corners: list[tuple[float, float]], *, step_m: float) -> Floats:
    """Return places (N, 2) on the way through corners, `step_m` apart."""
    points = np.array(corners, float)
    lengths = np.hypot(*np.diff(points, axis=0).T)
    at = np.arange(0, lengths.sum() + 1e-6, step_m)
    reached = np.concatenate([[0], np.cumsum(lengths)])
    return np.stack([np.interp(at, reached, points[:, axis]) for axis in (0, 1)], axis=-1)


def steps(way: Floats, rng: np.random.Generator, *, error: float = 0.05) -> Iterator[Motion | None]:
    """Yield what odometry says before each place of a way; None before the first."""
    yield None
    for step in np.diff(way, axis=0):
        noisy = step + error * np.hypot(*step) * rng.standard_normal(2)
        yield Motion.odometry(*noisy.tolist(), relative_error=error)


def drive(
    tracker: Tracker, photos: list[Embedding], motions: list[Motion | None], *, start: float = 0.0
) -> list[Fix]:
    """Return the fixes of photos that are a second apart."""
    moved = zip(photos, motions, strict=True)
    return [
        tracker.update(photo, time=start + second, motion=motion)
        for second, (photo, motion) in enumerate(moved)
    ]


def photos_of(
    streets: Streets, way: Floats, rng: np.random.Generator, *, noise: float = NOISE
) -> list[Embedding]:
    """Return the embeddings of photos along a way."""
    return [streets.seen_from(place, rng, noise=noise) for place in way]


def told(fix: Fix) -> Fix:
    """Return a fix without what its stages took."""
    return replace(fix, timings_ms={})


def open_streets(streets: Streets, folder: Path) -> Localizer:
    """Return a localizer of streets."""
    return Localizer.open(streets.write(folder / "streets.geofix"))
