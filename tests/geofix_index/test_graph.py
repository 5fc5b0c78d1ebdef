import ctypes
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from geofix_index import CellIndex, Matches, ProductQuantizer, Shard, ShardFiles, build_shard
from tests.geofix_index.globe import unit
from tests.geofix_index.sample_cells import PARENT, some_cells

Floats = npt.NDArray[np.float32]
NUM_CELLS = 3000


@pytest.fixture(scope="module")
def large_shard(
    vectors: Floats, quantizers: dict[int, ProductQuantizer], library: ctypes.CDLL
) -> Shard:
    """Return a shard of 3,000 cells whose codes are clustered as the vectors are."""
    rng = np.random.default_rng(6)
    codes = vectors[rng.integers(len(vectors), size=NUM_CELLS)]
    codes = unit(codes + 0.1 * rng.standard_normal(codes.shape)).astype(np.float32)
    files = build_shard(
        some_cells(PARENT, level=16, num=NUM_CELLS),
        quantizers[8].encode(codes),
        quantizers[8],
        parent=PARENT,
    )
    return Shard.open(files.cells, files.payload, quantizers[8])


@pytest.fixture(scope="module")
def by_graph(large_shard: Shard, quantizers: dict[int, ProductQuantizer]) -> CellIndex:
    """Return an index that searches the shard's graph."""
    return CellIndex(quantizers[8], [large_shard], graph_from_cells=1)


@pytest.fixture(scope="module")
def by_scan(large_shard: Shard, quantizers: dict[int, ProductQuantizer]) -> CellIndex:
    """Return an index that scans the same shard."""
    return CellIndex(quantizers[8], [large_shard], graph_from_cells=NUM_CELLS + 1)


@pytest.fixture(scope="module")
def many_queries(vectors: Floats) -> Floats:
    """Return embeddings (150, 16) that resemble cell codes, as a photo's does."""
    jitter = np.random.default_rng(8).standard_normal((150, vectors.shape[1]))
    return unit(vectors[:150] + 0.1 * jitter).astype(np.float32)


def test_the_graph_finds_nearly_always_the_best(
    by_graph: CellIndex, by_scan: CellIndex, many_queries: Floats
) -> None:
    hits = 0
    for query in many_queries:
        found = by_graph.search(query, k=10)
        best = by_scan.search(query, k=10)
        assert found.scores[0] <= best.scores[0] + 1e-6
        hits += abs(found.scores[0] - best.scores[0]) < 1e-6
    assert hits >= 0.9 * len(many_queries)


def test_the_graph_scores_cells_as_the_scan_does(
    by_graph: CellIndex, large_shard: Shard, many_queries: Floats
) -> None:
    query = many_queries[0]
    found = by_graph.search(query, k=20)
    rows = np.searchsorted(large_shard.cells(), found.cells)
    scores = large_shard.scan(by_graph.quantizer.lookup_table(query), rows)
    assert found.scores == pytest.approx(scores, abs=1e-6)
    assert (found.scores[1:] <= found.scores[:-1]).all()


def test_the_graph_takes_tables_of_any_float_type(
    by_graph: CellIndex, large_shard: Shard, queries: Floats
) -> None:
    table = by_graph.quantizer.lookup_table(queries[0])
    wanted = large_shard.search(table, k=5, expansion=64)
    for other in (table.astype(float), np.asfortranarray(table)):
        found = large_shard.search(other, k=5, expansion=64)
        assert [x.tolist() for x in found] == [x.tolist() for x in wanted]


def test_the_threshold_chooses_between_graph_and_scan(
    large_shard: Shard,
    quantizers: dict[int, ProductQuantizer],
    queries: Floats,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def search(table: Floats, *, k: int, expansion: int) -> Matches:
        asked.append(k)
        return Matches(large_shard.cells(slice(k)), np.zeros(k, np.float32))

    monkeypatch.setattr(large_shard, "search", search)
    CellIndex(quantizers[8], [large_shard], graph_from_cells=NUM_CELLS).search(queries[0], k=3)
    assert asked == [3]
    CellIndex(quantizers[8], [large_shard], graph_from_cells=NUM_CELLS + 1).search(queries[0], k=4)
    numpy_only = CellIndex(quantizers[8], [large_shard], graph_from_cells=1, use_kernel=False)
    numpy_only.search(queries[0], k=5)
    assert asked == [3]


def test_more_than_all_cells_are_all_cells(
    graph_files: ShardFiles, quantizers: dict[int, ProductQuantizer], queries: Floats
) -> None:
    shard = Shard.open(graph_files.cells, graph_files.payload, quantizers[8])
    found = CellIndex(quantizers[8], [shard], graph_from_cells=1).search(queries[0], k=999)
    assert sorted(found.cells.tolist()) == shard.cells().tolist()


@pytest.mark.parametrize("name", ["by_graph", "by_scan"])
def test_four_threads_find_what_one_finds(
    request: pytest.FixtureRequest, name: str, many_queries: Floats
) -> None:
    index: CellIndex = request.getfixturevalue(name)
    wanted = [index.search(query, k=5) for query in many_queries]
    start = threading.Barrier(4)
    found: list[list[Matches]] = [[], [], [], []]

    def work(number: int) -> None:
        start.wait()
        # Each thread starts elsewhere, so that different queries meet.
        for at in range(len(many_queries)):
            query = many_queries[(at + 37 * number) % len(many_queries)]
            found[number].append(index.search(query, k=5))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, matches in enumerate(found):
        for at, match in enumerate(matches):
            want = wanted[(at + 37 * number) % len(many_queries)]
            assert match.cells.tolist() == want.cells.tolist()
            assert match.scores.tolist() == want.scores.tolist()


def test_a_graph_is_searched_by_one_thread_at_a_time(
    by_graph: CellIndex, large_shard: Shard, queries: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = []

    class SlowGraph:
        num_inside = 0

        def search(self, table: Floats, **_: int) -> Matches:
            self.num_inside += 1
            time.sleep(0.005)
            together.append(self.num_inside)
            self.num_inside -= 1
            return Matches(large_shard.cells(slice(1)), np.zeros(1, np.float32))

    monkeypatch.setattr(large_shard, "_graph", SlowGraph())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda query: by_graph.search(query, k=1), queries))
    assert together == [1] * len(queries)


def test_a_shard_without_a_graph_says_so(
    scan_files: ShardFiles, quantizers: dict[int, ProductQuantizer], queries: Floats
) -> None:
    shard = Shard.open(scan_files.cells, scan_files.payload, quantizers[8])
    table = quantizers[8].lookup_table(queries[0])
    with pytest.raises(ValueError, match="has no graph: use `scan`"):
        shard.search(table, k=1, expansion=1)


def test_a_graph_cannot_be_built_without_the_kernel(
    quantizers: dict[int, ProductQuantizer],
    cells: npt.NDArray[np.uint64],
    pq_codes: npt.NDArray[np.uint8],
    without_kernel: None,
) -> None:
    with pytest.raises(ValueError, match=r"needs the C kernel .* install a C compiler"):
        build_shard(cells, pq_codes, quantizers[8], parent=PARENT)
