"""What does an update of a tracker cost among a million cells?

    python -m benchmarks.tracker_cells

Builds a pack of random codes, which costs a search as much as learned ones do, and drives through.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy starts its threads

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from benchmarks.record import Value, write_record
from benchmarks.vector_sets import crop_cells
from geofix import Localizer, Motion, Tracker
from geofix.geo import LatLon, latlon_from_east_north
from geofix_export import build_pack
from geofix_train.cell_codes import Queries

NUM_CELLS, DIM = 1_000_000, 128
NUM_QUERIES, NUM_UPDATES, NUM_WARMUP = 200, 300, 20
STEP_M, NOISE = 10.0, 0.8
_MEANING = f"""{NUM_CELLS:,} cells of S2 level 16 with random codes of {DIM} dimensions, scanned (no
graph), one thread; photos {STEP_M:g} m apart that see their cell's code and noise, with odometry.
*Search*: the best matches of all cells, and the cells of the track. *All else*: the filter and the
fix. *Free search*: `Localizer.search` of the same embeddings, in turns; what an update costs more
is the tracker's. Without odometry the track is wider."""

Codes = npt.NDArray[np.float32]


def main() -> None:
    """Measure and record."""
    rng = np.random.default_rng(0)
    cells = crop_cells(NUM_CELLS)
    codes = _unit(rng.standard_normal((NUM_CELLS, DIM), dtype=np.float32))
    rows = rng.integers(NUM_CELLS, size=NUM_QUERIES)
    queries = Queries(_seen(codes[rows], rng), s2.latlon_from_cell(cells[rows]))
    way = _way(cells)
    own = np.searchsorted(cells, s2.cell_from_latlon(*way.T, level=16))
    photos = _seen(codes[own], rng)
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / "million.geofix"
        build_pack(pack, cells=cells, cell_codes=codes, queries=queries, index="scan")
        with Localizer.open(pack) as localizer:
            values = [
                *_drive(localizer, photos, "with odometry", Motion.odometry(0.0, STEP_M)),
                *_drive(localizer, photos, "without odometry", None),
            ]
    title = "A tracker among a million cells"
    write_record("tracker_cells", title=title, meaning=_MEANING, values=values)


def _drive(localizer: Localizer, photos: Codes, name: str, motion: Motion | None) -> list[Value]:
    tracker = Tracker(localizer)
    timings = []
    for number, photo in enumerate(photos):
        fix = tracker.update(photo, time=number, motion=motion if number else None)
        alone = localizer.search(photo)
        timings.append(
            (fix.timings_ms["search"], fix.timings_ms["track"], alone.timings_ms["search"])
        )
    timings = timings[NUM_WARMUP:]
    values = []
    for number, stage in enumerate(("search", "all else", "free search")):
        ms = [timing[number] for timing in timings]
        values.append(Value(f"{name}, {stage}: median", round(float(np.median(ms)), 2), "ms"))
        values.append(Value(f"{name}, {stage}: 95 %", round(float(np.quantile(ms, 0.95)), 2), "ms"))
    return values


def _way(cells: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Return places on a line to the north through the middle of the cells."""
    middle = LatLon(*s2.latlon_from_cell(cells[NUM_CELLS // 2]).tolist())
    north_m = (np.arange(NUM_WARMUP + NUM_UPDATES) - NUM_UPDATES / 2) * STEP_M
    return latlon_from_east_north(
        np.stack([np.zeros_like(north_m), north_m], axis=-1), origin=middle
    )


def _seen(codes: Codes, rng: np.random.Generator) -> Codes:
    noise = NOISE * rng.standard_normal(codes.shape, dtype=np.float32) / np.float32(DIM**0.5)
    return _unit(codes + noise)


def _unit(vectors: Codes) -> Codes:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
