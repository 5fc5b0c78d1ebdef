"""Learned vectors with real queries and known answers, to measure an index with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from benchmarks.crops import read_crops
from benchmarks.land_codes import read_land_codes
from geofix_index.sphere import great_circle_m
from geofix_train.codes import encode_run, make_codes

NUM_QUERIES = 2000
CROPS_ROOT = s2.cell_from_token("4791")  # crops have no place: they get cells of level 16 in here
DRIVEN = "driven street"
SEED = 0

Cells = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class VectorSet:
    """Cells, their codes, and queries."""

    cells: Cells  # (N,) ascending
    codes: Floats  # (N, D)
    queries: Floats  # (Q, D)
    is_right: Callable[[Rows], Mask]  # whether each query's answer (Q,) is right
    tuning: Floats  # (T, D) other queries
    tuning_own: Rows  # (T,) their cells


def large_town(run: Path, land_codes: Path) -> VectorSet:
    """Return the large town's codes among those of the land around it; right is within 100 m."""
    encoded = encode_run(run)
    codes = make_codes(encoded)
    land = read_land_codes(land_codes)
    around = ~land.is_town
    cells = np.concatenate([codes.cells, land.cells[around]])
    vectors = np.concatenate([codes.cell_codes, land.aerial[around]])
    order = np.argsort(cells)
    cells, vectors = cells[order], vectors[order]
    test, tuning = encoded.queries("test"), encoded.queries("val")
    driven = encoded.table.of_split("test").columns["slice_area"] == DRIVEN
    asked = np.random.default_rng(SEED).permutation(np.flatnonzero(driven))[:NUM_QUERIES]
    own = s2.cell_from_latlon(*tuning.latlon.T, level=int(s2.level_of(cells[:1])[0]))
    rows = np.minimum(np.searchsorted(cells, own), len(cells) - 1)
    known = cells[rows] == own
    is_right = _within(100, test.latlon[asked], s2.latlon_from_cell(cells))
    return VectorSet(
        cells, vectors, test.embeddings[asked], is_right, tuning.embeddings[known], rows[known]
    )


def union_square(path: Path, *, own_is_there: bool) -> VectorSet:
    """Return map codes and panorama codes of Manhattan; right is within 25 m.

    Args:
        path: unionsquare5k.npz.
        own_is_there: half of the queries, whose locations are in the database with all others.
            False makes cells of even rows and queries of odd rows, some 10 m from the nearest.
    """
    latlon, codes, embeddings = read_union_square(path)
    cells = s2.cell_from_latlon(*latlon.T, level=26)
    order = np.argsort(cells)
    order = order if own_is_there else order[order % 2 == 0]
    row_of = np.full(len(cells), -1)
    row_of[order] = np.arange(len(order))
    shuffled = np.random.default_rng(SEED).permutation(len(cells))
    half = len(cells) // 2
    asked = shuffled[:half] if own_is_there else np.arange(1, len(cells), 2)
    tuning = shuffled[half:] if own_is_there else np.arange(0, len(cells), 2)
    is_right = _within(25, latlon[asked], latlon[order])
    return VectorSet(
        cells[order], codes[order], embeddings[asked], is_right, embeddings[tuning], row_of[tuning]
    )


def read_union_square(path: Path) -> tuple[npt.NDArray[np.float64], Floats, Floats]:
    """Return places (N, 2), their map codes and their panorama codes, row by row."""
    with np.load(path) as file:
        latlon = np.stack([file["lat"], file["lon"]], axis=1)
        codes, embeddings = (_unit(file[f"mes_dgcnn2to3_{kind}_code"]) for kind in ("map", "image"))
    return latlon, codes, embeddings


def crops(path: Path, num_cells: int) -> VectorSet:
    """Return crops of images; right is the crop that the query shows.

    Beyond the crops there are, mixtures of two crops of an image stand in, next to the first.

    Args:
        path: of `benchmarks.crops`.
        num_cells: about; a multiple of the number of crops, or fewer.
    """
    read = read_crops(path)
    num = len(read.crops)
    each = max(1, round(num_cells / num))
    rng = np.random.default_rng(SEED)
    rows = np.arange(num)[:num_cells]
    parts = [read.crops[rows]]
    for _ in range(each - 1):
        near = np.clip(rows + rng.integers(-100, 101, num), 0, num - 1)
        share = rng.uniform(0.3, 0.7, (num, 1)).astype(np.float32)
        parts.append(_unit(share * read.crops + (1 - share) * read.crops[near]))
    codes = np.stack(parts, axis=1).reshape(-1, read.crops.shape[1])
    known = read.own < len(rows)
    queries, own = read.queries[known], read.own[known] * each
    asked = np.random.default_rng(SEED).permutation(len(queries))
    test, tuning = asked[:NUM_QUERIES], asked[NUM_QUERIES:]
    return VectorSet(
        crop_cells(len(codes)),
        codes,
        queries[test],
        lambda found: found == own[test],
        queries[tuning],
        own[tuning],
    )


def crop_cells(num: int) -> Cells:
    """Return the cells that stand for so many crops."""
    return s2.descendants([CROPS_ROOT], level=16)[:num]


def _within(
    metres: float, places: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]
) -> Callable[[Rows], Mask]:
    def is_right(found: Rows) -> Mask:
        return np.asarray(great_circle_m(*places.T, *centres[found].T) <= metres)

    return is_right


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
