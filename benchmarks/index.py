"""The on-device index beside faiss: recall, bytes a cell and time, on learned cell codes.

    pip install faiss-cpu
    python -m benchmarks.index RUN --land build/large_town/land_codes.safetensors

Cells of the large town and of the land around it, queried by the town's test photos. One thread;
queries go to all indexes in turns, so that a busy machine slows all of them.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy starts its threads

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import geofix_index.cells as s2
from benchmarks.land_codes import read_land_codes
from benchmarks.record import Value, write_record
from geofix_index import CellIndex, ProductQuantizer, Shard, ShardFiles, build_shard, tune
from geofix_index.sphere import great_circle_m
from geofix_train.cell_codes import Queries
from geofix_train.codes import encode_run, make_codes

PARENT_LEVEL = 10
NUM_QUERIES = 2000
NUM_TIMED = 300
TOP = 10
WITHIN_M = 100
NUM_SUBSPACES = 64  # of 4 bits: 32 bytes a cell
DRIVEN = "driven street"

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_MEANING = """{num_cells:,} learned cell codes of {dim} dimensions, {num_queries:,} test photos on
driven streets. *Found*: the best cell lies within 100 m of the photo. *As exact*: it is the one
that exact scores put first. Time: median from embedding to the ten best, one thread, in turns.
Bytes a cell with what says which cell it is; codebooks apart. *Tuned*: centroids learned from
validation photos, which have no part in the figures."""


@dataclass(frozen=True)
class Contender:
    """An index, by what it does with an embedding."""

    name: str
    bytes_per_cell: float
    search: Callable[[Floats], Rows]  # the rows of the best cells, best first


@dataclass(frozen=True)
class Data:
    """Cells and queries with known places."""

    cells: npt.NDArray[np.uint64]  # (N,) ascending
    codes: Floats  # (N, D)
    queries: Queries
    tuning: Queries


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run on the large town")
    parser.add_argument("--land", type=Path, required=True, help="of benchmarks.land_codes")
    arguments = parser.parse_args()
    data = read_data(arguments.run, arguments.land)
    contenders = [*_ours(data), *_faiss(data)]
    meaning = _MEANING.format(
        num_cells=len(data.cells), dim=data.codes.shape[1], num_queries=len(data.queries.latlon)
    )
    write_record(
        "index",
        title="The index beside faiss",
        meaning=meaning,
        values=list(_compare(data, contenders)),
        command="python -m benchmarks.index RUN --land build/large_town/land_codes.safetensors",
    )


def read_data(run: Path, land_codes: Path) -> Data:
    """Return the large town's codes among those of the land around it."""
    encoded = encode_run(run)
    codes = make_codes(encoded)
    land = read_land_codes(land_codes)
    around = ~land.is_town
    cells = np.concatenate([codes.cells, land.cells[around]])
    vectors = np.concatenate([codes.cell_codes, land.aerial[around]])
    order = np.argsort(cells)
    test = encoded.queries("test")
    driven = encoded.table.of_split("test").columns["slice_area"] == DRIVEN
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(driven))[:NUM_QUERIES]
    queries = Queries(test.embeddings[chosen], test.latlon[chosen])
    return Data(cells[order], vectors[order], queries, encoded.queries("val"))


def _ours(data: Data) -> Iterator[Contender]:
    quantizer = ProductQuantizer.train(data.codes, num_subspaces=NUM_SUBSPACES, bits=4)
    pq_codes = quantizer.encode(data.codes)
    own = s2.cell_from_latlon(*data.tuning.latlon.T, level=int(s2.level_of(data.cells[:1])[0]))
    rows = np.minimum(np.searchsorted(data.cells, own), len(data.cells) - 1)
    known = data.cells[rows] == own
    tuned = tune(quantizer, data.codes, data.tuning.embeddings[known], rows[known])
    for name, chosen in (("geofix scan", quantizer), ("geofix scan, tuned", tuned)):
        files = list(_shards(data, pq_codes, chosen))
        shards = [Shard.open(f.cells, f.payload, chosen) for f in files]
        num_bytes = sum(len(f.cells) + len(f.payload) for f in files)
        index = CellIndex(chosen, shards)
        yield Contender(name, num_bytes / len(data.cells), _searcher(index, data))


def _searcher(index: CellIndex, data: Data) -> Callable[[Floats], Rows]:
    def search(query: Floats) -> Rows:
        return np.searchsorted(data.cells, index.search(query, k=TOP).cells)

    return search


def _shards(
    data: Data, pq_codes: npt.NDArray[np.uint8], quantizer: ProductQuantizer
) -> Iterator[ShardFiles]:
    parents = s2.parent(data.cells, level=PARENT_LEVEL)
    for parent in np.unique(parents).tolist():
        own = parents == parent
        yield build_shard(data.cells[own], pq_codes[own], quantizer, parent=parent, kind="scan")


def _faiss(data: Data) -> Iterator[Contender]:
    import faiss

    faiss.omp_set_num_threads(1)
    dim, id_bytes = data.codes.shape[1], 8
    for factory in ("OPQ64,PQ64x4fs", "OPQ32,PQ32"):
        index: Any = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        index.train(data.codes)
        index.add(data.codes)
        yield Contender(f"faiss {factory}", 32 + id_bytes, _faiss_searcher(index))
    exact = faiss.IndexFlatIP(dim)
    exact.add(data.codes)
    yield Contender("exact", 4 * dim + id_bytes, _faiss_searcher(exact))


def _faiss_searcher(index: Any) -> Callable[[Floats], Rows]:
    def search(query: Floats) -> Rows:
        rows: Rows = index.search(query[None], TOP)[1][0]
        return rows

    return search


def _compare(data: Data, contenders: list[Contender]) -> Iterator[Value]:
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    best: dict[str, list[int]] = {contender.name: [] for contender in contenders}
    for number, query in enumerate(data.queries.embeddings):
        for contender in contenders:
            start = time.perf_counter()
            found = contender.search(query)
            if number < NUM_TIMED:
                seconds[contender.name].append(time.perf_counter() - start)
            best[contender.name].append(int(found[0]))
    centres = s2.latlon_from_cell(data.cells)
    exact = np.array(best["exact"])
    for contender in contenders:
        name, rows = contender.name, np.array(best[contender.name])
        error = great_circle_m(*data.queries.latlon.T, *centres[rows].T)
        yield Value(f"{name}: found", round(float((error <= WITHIN_M).mean()), 4), "")
        yield Value(f"{name}: as exact", round(float((rows == exact).mean()), 4), "")
        yield Value(f"{name}: time", round(1e3 * float(np.median(seconds[name])), 3), "ms")
        yield Value(f"{name}: bytes a cell", round(contender.bytes_per_cell, 1), "")


if __name__ == "__main__":
    main()
