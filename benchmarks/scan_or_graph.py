"""From how many cells on is the graph of a shard faster than a scan? Sets GRAPH_FROM_CELLS.

    python -m benchmarks.scan_or_graph

Clustered synthetic codes of 128 dimensions in 32 bytes; searches of both kinds alternate, so that
they meet the same noise, and the ratio of their medians is quoted.
"""

import time

import numpy as np
import numpy.typing as npt

from benchmarks.record import Value, write_record
from geofix_index import ProductQuantizer, Shard, build_shard
from geofix_index import cells as s2
from geofix_index.index import EXPANSION, GRAPH_FROM_CELLS

DIM, NUM_SUBSPACES = 128, 32
SIZES = (4_096, 16_384, 32_768, 65_536)
NUM_QUERIES = 200


def main() -> None:
    """Measure and record."""
    rng = np.random.default_rng(0)
    vectors = _clustered(rng, max(SIZES))
    quantizer = ProductQuantizer.train(vectors[:8_192], num_subspaces=NUM_SUBSPACES)
    values: list[Value] = []
    for size in SIZES:
        scan_ms, graph_ms, recall = _compare(quantizer, vectors[:size], rng)
        values += [
            Value(f"{size:,} cells: scan", round(scan_ms, 3), "ms"),
            Value(f"{size:,} cells: graph", round(graph_ms, 3), "ms"),
            Value(f"{size:,} cells: scan / graph", round(scan_ms / graph_ms, 2), ""),
            Value(f"{size:,} cells: the graph finds the scan's best", recall, ""),
        ]
    write_record(
        "scan_or_graph",
        title="Scan or graph",
        meaning=f"One thread, {NUM_SUBSPACES} bytes a cell, expansion {EXPANSION}. A graph is "
        "faster from some 50,000 cells on, and may miss some of the best cells. It is used from "
        f"`GRAPH_FROM_CELLS` = {GRAPH_FROM_CELLS:,} on: below, a scan is exact and takes less "
        "than a millisecond.",
        values=values,
    )


def _clustered(rng: np.random.Generator, num: int) -> npt.NDArray[np.float32]:
    centres = rng.standard_normal((num // 16, DIM))
    vectors = centres[rng.integers(len(centres), size=num)] + 0.6 * rng.standard_normal((num, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def _compare(
    quantizer: ProductQuantizer, vectors: npt.NDArray[np.float32], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the medians of scan and graph in milliseconds, and the graph's recall@1."""
    parent = int(s2.cell_from_latlon(47.37, 8.54, level=7))
    cells = s2.descendants([parent], level=16)[: len(vectors)]
    files = build_shard(cells, quantizer.encode(vectors), quantizer, parent=parent)
    shard = Shard.open(files.cells, files.payload, quantizer)
    scans, graphs, same = [], [], 0
    for row in rng.integers(len(vectors), size=NUM_QUERIES):
        query = vectors[row] + 0.05 * rng.standard_normal(DIM).astype(np.float32)
        table = quantizer.lookup_table(query)
        start = time.perf_counter()
        best = int(shard.scan(table).argmax())
        middle = time.perf_counter()
        found, _ = shard.search(table, k=10, expansion=EXPANSION)
        graphs.append(time.perf_counter() - middle)
        scans.append(middle - start)
        same += int(found[0] == cells[best])
    return 1000 * float(np.median(scans)), 1000 * float(np.median(graphs)), same / NUM_QUERIES


if __name__ == "__main__":
    main()
