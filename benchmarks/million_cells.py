"""A million cells: build, open, search, and a prior that moves with every frame.

    python -m benchmarks.million_cells build/crops.npz

Builds packs of both kinds from the same codes and opens them as a device does. One thread, but for
the building; what is compared takes turns.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy starts its threads

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import geofix_index.cells as s2
from benchmarks.record import Value, write_record
from benchmarks.vector_sets import CROPS_ROOT, Floats, Rows, VectorSet, crop_cells, crops
from geofix.pack import RegionPack
from geofix_index import CellIndex, Disk
from geofix_index.index import GRAPH_FROM_CELLS

NUM_CELLS = 1_000_000
NUM_TIMED, NUM_PRIORS, NUM_OPENED = 300, 300, 20
TOP = 10
RADIUS_M, STEP_M = 5000.0, 1.0  # of the prior, and how far it moves from frame to frame
KINDS = ("scan", "usearch")
_MEANING = """{num:,} cells of S2 level 16 with learned codes of 256 dimensions: a tenth are crops
of real images, the others mixtures of two crops of an image. *Build*: train, encode and write a
pack, {cores} cores, with the codes mapped from a file; memory at its peak counts what is mapped of
it. *Open*: a pack whose hashes were checked before, then all its shards at once; in use they open
when they are first needed. *Best found*: the cell that an exhaustive search of the same pq codes
puts first. Searches: median from embedding to the ten best, one thread. *Prior*: a disk of
{radius:g} km, about {inside:,} cells, which moves {step:g} m from frame to frame, or stays; its
answers were those of the exhaustive search, restricted. *Positions to cells*: a million random."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", type=Path, help="of benchmarks.crops")
    arguments = parser.parse_args()
    data = crops(arguments.crops, NUM_CELLS)
    values = [Value("positions to cells", _cells_us(), "us a position")]
    with tempfile.TemporaryDirectory() as folder:
        codes = Path(folder) / "codes.npy"
        np.save(codes, data.codes)
        data = VectorSet(**{**vars(data), "codes": np.load(codes, mmap_mode="r")})
        packs = {}
        for kind in KINDS:
            packs[kind] = Path(folder) / f"{kind}.geofix"
            values += _build(codes, packs[kind], kind)
        for kind, pack in packs.items():
            values += _open(pack, kind)
        values += _search(packs, data)
        index = RegionPack.open(packs["scan"]).index()
        inside = len(index.cells_in(_disk(0)))
        for kind, pack in packs.items():
            values += _prior(pack, kind)
    write_record(
        "million_cells",
        title="A million cells",
        meaning=_MEANING.format(
            num=len(data.cells),
            cores=os.cpu_count(),
            radius=RADIUS_M / 1000,
            inside=round(inside, -2),
            step=STEP_M,
        ),
        values=values,
        command="python -m benchmarks.million_cells build/crops.npz",
    )


def _cells_us() -> float:
    rng = np.random.default_rng(0)
    num = 1_000_000
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, num))), rng.uniform(-180, 180, num)
    seconds = _median(lambda: s2.cell_from_latlon(lat, lon, level=16), repeat=5)
    return round(1e6 * seconds / num, 3)


def _build(codes: Path, pack: Path, kind: str) -> Iterator[Value]:
    """Build in a process of its own, whose memory counts alone."""
    with get_context("spawn").Pool(1) as pool:
        seconds, gib = pool.apply(_build_alone, (codes, pack, kind))
    size = pack.stat().st_size
    yield Value(f"{kind}: build", round(seconds, 1), "s")
    yield Value(f"{kind}: memory at its peak", round(gib, 2), "GiB")
    yield Value(f"{kind}: bytes a cell", round(size / NUM_CELLS, 1), "of the whole pack")


def _build_alone(codes: Path, pack: Path, kind: str) -> tuple[float, float]:
    from geofix_export.build import build_pack

    vectors = np.load(codes, mmap_mode="r")
    cells = crop_cells(len(vectors))
    start = time.perf_counter()
    build_pack(pack, cells=cells, cell_codes=vectors, index=kind)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _open(path: Path, kind: str) -> list[Value]:
    pack = RegionPack.open(path)
    pack.verify()
    values = [Value(f"{kind}: open", round(1e3 * _median(pack.index, repeat=NUM_OPENED), 2), "ms")]
    seconds = _median(lambda: _open_all(pack), repeat=NUM_OPENED)
    what = f"{kind}: open all {len(pack.manifest.shards)} shards"
    return [*values, Value(what, round(1e3 * seconds, 2), "ms")]


def _open_all(pack: RegionPack, graph_from_cells: int = GRAPH_FROM_CELLS) -> CellIndex:
    quantizer = pack.quantizer()
    shards = [pack.open_shard(shard, quantizer) for shard in pack.manifest.shards]
    return CellIndex(quantizer, shards, graph_from_cells=graph_from_cells)


def _exhaustive(path: Path) -> CellIndex:
    return _open_all(RegionPack.open(path), graph_from_cells=2 * NUM_CELLS)


def _search(packs: dict[str, Path], data: VectorSet) -> Iterator[Value]:
    """Compare free searches of both kinds, the exhaustive one, and faiss."""
    indexes = {kind: _searcher(RegionPack.open(path).index(), data) for kind, path in packs.items()}
    indexes["usearch, exhaustive"] = _searcher(_exhaustive(packs["usearch"]), data)
    indexes |= dict(_faiss(data))
    best: dict[str, list[int]] = {name: [] for name in indexes}
    seconds: dict[str, list[float]] = {name: [] for name in indexes}
    for number, query in enumerate(data.queries):
        for name, search in indexes.items():
            start = time.perf_counter()
            found = search(query)
            if number < NUM_TIMED:
                seconds[name].append(time.perf_counter() - start)
            best[name].append(int(found[0]))
    for name, times in seconds.items():
        yield Value(f"{name}: time", round(1e3 * float(np.median(times)), 2), "ms")
        right = data.is_right(np.array(best[name]))
        yield Value(f"{name}: right", round(float(right.mean()), 4), "")
    same = np.array(best["usearch"]) == np.array(best["usearch, exhaustive"])
    yield Value("usearch: best found", round(float(same.mean()), 4), "")


def _searcher(index: CellIndex, data: VectorSet) -> Callable[[Floats], Rows]:
    return lambda query: np.searchsorted(data.cells, index.search(query, k=TOP).cells)


def _faiss(data: VectorSet) -> Iterator[tuple[str, Callable[[Floats], Rows]]]:
    import faiss

    for factory, nprobe in (("OPQ64,PQ64x4fs", 0), ("OPQ64,IVF2048,PQ64x4fs", 128)):
        index: Any = faiss.index_factory(data.codes.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        index.train(np.ascontiguousarray(data.codes[::8]))
        for at in range(0, len(data.codes), 100_000):
            index.add(np.ascontiguousarray(data.codes[at : at + 100_000]))
        if nprobe:
            faiss.ParameterSpace().set_index_parameter(index, "nprobe", nprobe)
        faiss.omp_set_num_threads(1)
        yield f"faiss {factory}", _faiss_searcher(index)


def _faiss_searcher(index: Any) -> Callable[[Floats], Rows]:
    return lambda query: np.asarray(index.search(query[None], TOP)[1][0])


def _prior(path: Path, kind: str) -> Iterator[Value]:
    index, exhaustive = RegionPack.open(path).index(), _exhaustive(path)
    rng = np.random.default_rng(0)
    moving, still = [], []
    for frame in range(NUM_PRIORS):
        query = rng.standard_normal(index.quantizer.dim).astype(np.float32)
        disk, same_disk = _disk(frame), _disk(frame)
        start = time.perf_counter()
        found = index.search(query, k=TOP, region=disk)
        middle = time.perf_counter()
        index.search(query, k=TOP, region=same_disk)
        still.append(time.perf_counter() - middle)
        moving.append(middle - start)
        if frame % 30 == 0:
            cells = exhaustive.search(query, k=NUM_CELLS).cells
            if cells[_disk(frame).admits(cells)][:TOP].tolist() != found.cells.tolist():
                raise AssertionError("the answer is not the exhaustive one, restricted")
    for name, times in (("moves", moving), ("stays", still)):
        yield Value(f"{kind}: prior {name}", round(1e3 * float(np.median(times)), 3), "ms")
        share = round(1e3 * float(np.percentile(times, 90)), 3)
        yield Value(f"{kind}: prior {name}, 90th percentile", share, "ms")


def _disk(frame: int) -> Disk:
    """Return the prior of a frame: some metres further on from the middle of the cells."""
    lat, lon = s2.latlon_from_cell(CROPS_ROOT).tolist()
    return Disk(lat - 0.1 + frame * STEP_M / 111_195, lon, RADIUS_M)


def _median(call: Callable[[], Any], *, repeat: int) -> float:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
