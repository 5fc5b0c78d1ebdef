"""The on-device index beside faiss and USearch: recall, bytes a cell and time, on learned vectors.

    python -m benchmarks.index --large-town RUN --land build/large_town/land_codes.safetensors
    python -m benchmarks.index --crops build/crops.npz
    python -m benchmarks.index --union-square unionsquare5k.npz

One thread; queries go to all indexes in turns, so that a busy machine slows all of them.
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
from benchmarks import vector_sets
from benchmarks.record import Value, write_record
from benchmarks.vector_sets import Floats, Rows, VectorSet
from geofix_index import CellIndex, ProductQuantizer, Shard, build_shard, tune
from geofix_index.index import GRAPH_FROM_CELLS
from geofix_index.shard import MAX_DEPTH

SHARD_LEVEL = {"scan": 10, "usearch": 8}  # as packs have
NUM_TIMED = 300
TOP = 10
NUM_CROPS = 200_000
ID_BYTES = 8  # of faiss and USearch
EXACT = "exact, float32"
EXHAUSTIVE = "exhaustive"
_MEANING = """{cells:,} {what} of {dim} dimensions, {queries:,} queries. *Found*: the best cell is
right: {right}. *As exact*: it is the one that exact scores put first. Time: median from embedding
to the ten best, one thread, in turns; *to the fast scan*: divided by that of faiss
{fast}. *Exhaustive*: without the graph. Bytes a cell with what says which cell it is; codebooks
apart.{more}"""
_TUNED = """ *Tuned*: centroids learned from other queries, which have no part in the figures."""


@dataclass(frozen=True)
class Contender:
    """An index, by what it does with an embedding."""

    name: str
    bytes_per_cell: float
    search: Callable[[Floats], Rows]  # the rows of the best cells, best first


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large-town", type=Path, metavar="RUN", help="a run on the large town")
    parser.add_argument("--land", type=Path, help="of benchmarks.land_codes, for the large town")
    parser.add_argument("--crops", type=Path, help="of benchmarks.crops")
    parser.add_argument("--union-square", type=Path, metavar="NPZ")
    arguments = parser.parse_args()
    if arguments.large_town:
        data = vector_sets.large_town(arguments.large_town, arguments.land)
        _record(
            "index_large_town",
            "The index beside others: a town in its land",
            list(_compare(data, [*_at_32_bytes(data), *_at_16_bytes(data), *_others(data)])),
            _describe(data, "cell codes", "within 100 m of the photo", "OPQ64,PQ64x4fs", _TUNED),
            "--large-town RUN --land build/large_town/land_codes.safetensors",
        )
    if arguments.crops:
        data = vector_sets.crops(arguments.crops, NUM_CROPS)
        _record(
            "index_crops",
            "The index beside others: crops of real images",
            list(_compare(data, [*_at_32_bytes(data), *_at_16_bytes(data), *_others(data)])),
            _describe(
                data,
                "crops of street photos and aerial tiles, and as many mixtures of two,",
                "the crop that the query shows, moved, lit otherwise, as a JPEG",
                "OPQ64,PQ64x4fs",
                _TUNED,
            ),
            "--crops build/crops.npz",
        )
    if arguments.union_square:
        values = []
        for there, name in ((True, "own there"), (False, "own removed")):
            data = vector_sets.union_square(arguments.union_square, own_is_there=there)
            values += list(_compare(data, [*_of_few_bytes(data), _exact(data)], f"{name}, "))
        _record(
            "index_union_square",
            "The index beside others: Manhattan",
            values,
            _describe(data, "map codes", "within 25 m of the panorama", "OPQ16,PQ16x4fs", _TUNED)
            + " *Own there*: all 5,000 locations are in the database, half of the panoramas are "
            "asked; *own removed*: every other location is in the database, the panoramas of the "
            "rest are asked.",
            "--union-square unionsquare5k.npz",
        )


def _describe(data: VectorSet, what: str, right: str, fast: str, more: str) -> str:
    num, dim = data.codes.shape
    return _MEANING.format(
        cells=num, dim=dim, queries=len(data.queries), what=what, right=right, fast=fast, more=more
    )


def _record(name: str, title: str, values: list[Value], meaning: str, options: str) -> None:
    command = f"python -m benchmarks.index {options}"
    write_record(name, title=title, meaning=meaning, values=values, command=command)


def _at_32_bytes(data: VectorSet) -> Iterator[Contender]:
    yield from _ours(data, "scan", 64, 4)
    yield from _ours(data, "usearch", 32, 8)
    yield _faiss(data, "OPQ64,PQ64x4fs", 32)
    yield _faiss(data, "OPQ32,PQ32", 32)


def _at_16_bytes(data: VectorSet) -> Iterator[Contender]:
    yield from _ours(data, "scan", 32, 4, tuned=True)
    yield _faiss(data, "OPQ32,PQ32x4fs", 16)


def _others(data: VectorSet) -> Iterator[Contender]:
    yield _faiss(data, "OPQ32,IVF512,PQ64x4fs", 32, nprobe=128)
    for dtype in ("i8", "f16"):
        yield _usearch(data, dtype)
    yield _exact(data)


def _of_few_bytes(data: VectorSet) -> Iterator[Contender]:
    for num_bytes in (4, 8):
        yield from _ours(data, "scan", 2 * num_bytes, 4, tuned=True)
    yield from _ours(data, "usearch", 8, 8)
    yield _faiss(data, "OPQ8,PQ8x4fs", 4)
    yield _faiss(data, "OPQ16,PQ16x4fs", 8)
    yield _faiss(data, "OPQ8,PQ8", 8)


def _ours(
    data: VectorSet, kind: str, num_subspaces: int, bits: int, *, tuned: bool = False
) -> Iterator[Contender]:
    quantizer = ProductQuantizer.train(data.codes, num_subspaces=num_subspaces, bits=bits)
    pq_codes = quantizer.encode(data.codes)
    name = f"geofix {kind}, {num_subspaces} x {bits} bits"
    yield _our_index(data, name, kind, pq_codes, quantizer)
    if kind == "usearch":
        yield _our_index(data, f"{name}, {EXHAUSTIVE}", kind, pq_codes, quantizer)
    if tuned:
        better = tune(quantizer, data.codes, data.tuning, data.tuning_own)
        yield _our_index(data, f"{name}, tuned", kind, pq_codes, better)


def _our_index(
    data: VectorSet,
    name: str,
    kind: str,
    pq_codes: npt.NDArray[np.uint8],
    quantizer: ProductQuantizer,
) -> Contender:
    finest = int(s2.level_of(data.cells[:1])[0])
    parents = s2.parent(data.cells, level=max(SHARD_LEVEL[kind], finest - MAX_DEPTH))
    shards, num_bytes = [], 0
    for parent in np.unique(parents).tolist():
        own = parents == parent
        files = build_shard(data.cells[own], pq_codes[own], quantizer, parent=parent, kind=kind)
        shards.append(Shard.open(files.cells, files.payload, quantizer))
        num_bytes += len(files.cells) + len(files.payload)
    graph_from = 2 * len(data.cells) if name.endswith(EXHAUSTIVE) else GRAPH_FROM_CELLS
    index = CellIndex(quantizer, shards, graph_from_cells=graph_from)

    def search(query: Floats) -> Rows:
        return np.searchsorted(data.cells, index.search(query, k=TOP).cells)

    return Contender(name, num_bytes / len(data.cells), search)


def _faiss(data: VectorSet, factory: str, num_bytes: int, *, nprobe: int = 0) -> Contender:
    import faiss

    index: Any = faiss.index_factory(data.codes.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index.train(data.codes)
    index.add(data.codes)
    faiss.omp_set_num_threads(1)
    if nprobe:
        faiss.ParameterSpace().set_index_parameter(index, "nprobe", nprobe)

    def search(query: Floats) -> Rows:
        rows: Rows = index.search(query[None], TOP)[1][0]
        return rows

    return Contender(f"faiss {factory}", num_bytes + ID_BYTES, search)


def _usearch(data: VectorSet, dtype: str) -> Contender:
    from usearch.index import Index

    index = Index(ndim=data.codes.shape[1], metric="ip", dtype=dtype)
    index.add(np.arange(len(data.codes)), data.codes)

    def search(query: Floats) -> Rows:
        return np.asarray(index.search(query, TOP, threads=1).keys, np.int64)

    return Contender(f"usearch {dtype}", index.serialized_length / len(data.codes), search)


def _exact(data: VectorSet) -> Contender:
    def search(query: Floats) -> Rows:
        scores = data.codes @ query
        best = np.argpartition(scores, -TOP)[-TOP:]
        return np.asarray(best[np.argsort(-scores[best], kind="stable")])

    return Contender(EXACT, 4 * data.codes.shape[1] + ID_BYTES, search)


def _compare(data: VectorSet, contenders: list[Contender], prefix: str = "") -> Iterator[Value]:
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    best: dict[str, list[int]] = {contender.name: [] for contender in contenders}
    for number, query in enumerate(data.queries):
        for contender in contenders:
            start = time.perf_counter()
            found = contender.search(query)
            if number < NUM_TIMED:
                seconds[contender.name].append(time.perf_counter() - start)
            best[contender.name].append(int(found[0]))
    exact = np.array(best[EXACT])
    fast = next(float(np.median(times)) for name, times in seconds.items() if name.endswith("4fs"))
    for contender in contenders:
        name, rows = contender.name, np.array(best[contender.name])
        median = float(np.median(seconds[name]))
        label = f"{prefix}{name}"
        yield Value(f"{label}: found", round(float(data.is_right(rows).mean()), 4), "")
        yield Value(f"{label}: as exact", round(float((rows == exact).mean()), 4), "")
        yield Value(f"{label}: time", round(1e3 * median, 3), "ms")
        yield Value(f"{label}: to the fast scan", round(median / fast, 2), "x")
        yield Value(f"{label}: bytes a cell", round(contender.bytes_per_cell, 1), "")


if __name__ == "__main__":
    main()
