"""Search against brute force, over shards at the awkward places of the globe."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix_index import (
    Box,
    CellIndex,
    CellUnion,
    Disk,
    Matches,
    ProductQuantizer,
    Region,
    Shard,
    ShardFiles,
    ShardFormatError,
    build_shard,
)
from geofix_index import cells as s2
from geofix_index.index import ShardSource
from tests.geofix_index.globe import CORNER_LAT
from tests.geofix_index.sample_cells import PARENT, some_cells

Cells = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

PLACES = [
    (47.37, 8.54),
    (-17.0, 180.0),  # the antimeridian
    (90.0, 0.0),
    (-90.0, 0.0),
    (45.0, 180.0),  # an edge of the cube and the antimeridian
    (CORNER_LAT, 45.0),  # a corner of the cube
    (-33.9, -70.6),
]
SHARD_LEVEL, CELL_LEVEL, CELLS_A_SHARD = 12, 17, 25


@pytest.fixture(scope="module")
def shards(quantizers: dict[int, ProductQuantizer]) -> list[Shard]:
    """Return some 60 shards, those around each place."""
    middles = s2.cell_from_latlon(*np.array(PLACES).T, level=SHARD_LEVEL)
    parents = np.unique([*middles, *s2.neighbours(middles).ravel()])
    rng = np.random.default_rng(9)
    found = []
    for parent in parents[parents != 0].tolist():
        cells = some_cells(parent, level=CELL_LEVEL, num=CELLS_A_SHARD, seed=parent % 1009)
        pq_codes = rng.integers(0, 256, (CELLS_A_SHARD, 4)).astype(np.uint8)
        files = build_shard(cells, pq_codes, quantizers[8], parent=parent, kind="scan")
        found.append(Shard.open(files.cells, files.payload, quantizers[8]))
    return found


@pytest.fixture(scope="module")
def index(shards: list[Shard], quantizers: dict[int, ProductQuantizer]) -> CellIndex:
    """Return an index of all shards, given in reverse."""
    return CellIndex(quantizers[8], shards[::-1])


@pytest.fixture(scope="module")
def all_cells(shards: list[Shard]) -> Cells:
    """Return the cells of all shards."""
    return np.concatenate([shard.cells() for shard in shards])


@pytest.fixture(scope="module")
def brute_force(
    shards: list[Shard], all_cells: Cells, quantizers: dict[int, ProductQuantizer]
) -> Callable[[Floats, int, Region | None], Matches]:
    """Return a search that scores each cell, asks the region about each, and sorts."""
    pq_codes = np.concatenate([shard.pq_codes for shard in shards])

    def search(query: Floats, k: int, region: Region | None) -> Matches:
        table = quantizers[8].lookup_table(query)
        scores = np.zeros(len(all_cells), np.float32)
        for m, line in enumerate(table):
            scores += line[pq_codes[:, m]]
        keep = np.ones(len(all_cells), bool) if region is None else region.admits(all_cells)
        ranked = sorted(zip((-scores[keep]).tolist(), all_cells[keep].tolist(), strict=True))[:k]
        cells = np.array([cell for _, cell in ranked], np.uint64)
        return Matches(cells, np.array([-score for score, _ in ranked], np.float32))

    return search


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """Draw a region at one of the places: some 10 m to a hemisphere wide."""
    lat, lon = draw(st.sampled_from(PLACES))
    size_m = 10.0 ** draw(st.floats(1, 7))
    size_deg = min(size_m / 111_195, 170.0)
    north = lat + size_deg * draw(st.floats(-1, 1))
    east = lon + size_deg * draw(st.floats(-1, 1)) / max(math.cos(math.radians(lat)), 0.01)
    lat, lon = max(-90.0, min(90.0, north)), (east + 180) % 360 - 180
    kind = draw(st.sampled_from(["disk", "box", "cells"]))
    if kind == "disk":
        return Disk(lat, lon, size_m)
    if kind == "box":
        return Box(
            max(-90.0, lat - size_deg),
            (lon - size_deg + 180) % 360 - 180,
            min(90.0, lat + size_deg),
            (lon + size_deg + 180) % 360 - 180,
        )
    levels = draw(st.lists(st.integers(4, 20), min_size=1, max_size=3))
    return CellUnion([int(s2.cell_from_latlon(lat, lon, level=level)) for level in levels])


def assert_same(found: Matches, wanted: Matches) -> None:
    """Check cells and scores, to the last bit."""
    assert found.cells.tolist() == wanted.cells.tolist()
    assert found.scores.tolist() == wanted.scores.tolist()


def test_scores_are_inner_products_with_decoded_cells(
    index: CellIndex, shards: list[Shard], all_cells: Cells, queries: Floats
) -> None:
    decoded = index.quantizer.decode(np.concatenate([shard.pq_codes for shard in shards]))
    for query in queries:
        exact = dict(zip(all_cells.tolist(), (decoded @ query).tolist(), strict=True))
        found = index.search(query, k=30)
        assert found.scores == pytest.approx([exact[c] for c in found.cells.tolist()], abs=1e-5)
        assert found.scores == pytest.approx(sorted(exact.values(), reverse=True)[:30], abs=1e-5)


@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_a_free_search_equals_brute_force(
    index: CellIndex,
    brute_force: Callable[[Floats, int, Region | None], Matches],
    queries: Floats,
    k: int,
) -> None:
    for query in queries:
        assert_same(index.search(query, k=k), brute_force(query, k, None))


@settings(max_examples=300)
@given(regions(), st.integers(1, 40))
def test_a_search_in_a_region_equals_brute_force_there(
    index: CellIndex,
    shards: list[Shard],
    all_cells: Cells,
    brute_force: Callable[[Floats, int, Region | None], Matches],
    region: Region,
    k: int,
) -> None:
    query = np.cos(np.arange(16) * k).astype(np.float32)
    wanted = all_cells[region.admits(all_cells)].tolist()
    # A small index that was searched everywhere keeps its cells; another one looks for them.
    new = CellIndex(index.quantizer, shards)
    index.search(query, k=1)
    for each in (index, new):
        assert_same(each.search(query, k=k, region=region), brute_force(query, k, region))
        assert each.cells_in(region).tolist() == wanted
    inside, everywhere = new.search_both(query, k=k, region=region, k_everywhere=2 * k)
    assert_same(inside, brute_force(query, k, region))
    assert_same(everywhere, brute_force(query, 2 * k, None))


@pytest.fixture(scope="module", params=[("scan",), ("usearch",), ("scan", "usearch")])
def many_shards(
    request: pytest.FixtureRequest, quantizers: dict[int, ProductQuantizer]
) -> list[Shard]:
    """Return neighbouring shards with 4-bit codes, whose scans lie in blocks."""
    rng = np.random.default_rng(3)
    shards = []
    for number, parent in enumerate(s2.descendants(PARENT, level=10).tolist()):
        cells = some_cells(parent, level=16, num=70)
        pq_codes = rng.integers(0, 256, (70, 4)).astype(np.uint8)
        kind = request.param[number % len(request.param)]
        files = build_shard(cells, pq_codes, quantizers[4], parent=parent, kind=kind)
        shards.append(Shard.open(files.cells, files.payload, quantizers[4]))
    return shards


@pytest.mark.parametrize("graph_from_cells", [1, 1_000_000])
def test_both_searches_at_once_are_the_two_searches(
    many_shards: list[Shard],
    quantizers: dict[int, ProductQuantizer],
    queries: Floats,
    graph_from_cells: int,
) -> None:
    shards = many_shards
    index = CellIndex(quantizers[4], shards, graph_from_cells=graph_from_cells)
    part = CellUnion([shards[1].parent, int(shards[2].cells()[0])])
    for region in (part, CellUnion([PARENT]), CellUnion([])):
        inside, everywhere = index.search_both(queries[0], k=90, region=region, k_everywhere=9)
        assert_same(inside, index.search(queries[0], k=90, region=region))
        assert_same(everywhere, index.search(queries[0], k=9))


@pytest.mark.parametrize("use_kernel", [True, False])
def test_a_large_index_which_keeps_no_cells_finds_the_same(
    many_shards: list[Shard],
    quantizers: dict[int, ProductQuantizer],
    queries: Floats,
    monkeypatch: pytest.MonkeyPatch,
    use_kernel: bool,
) -> None:
    few = CellUnion([many_shards[1].parent, int(many_shards[2].cells()[0])])

    def answers() -> list[Matches]:
        index = CellIndex(quantizers[4], many_shards, use_kernel=use_kernel)
        found = []
        for k in (1, 9, 90):  # of few cells each is named alone, many shard by shard
            found.append(index.search(queries[0], k=k))
            for region in (few, CellUnion([PARENT]), CellUnion([])):
                found += index.search_both(queries[0], k=k, region=region, k_everywhere=9)
        return found

    small = answers()
    monkeypatch.setattr("geofix_index.index._SMALL_UP_TO", 0)
    monkeypatch.setattr("geofix_index.index._FEW", 0)
    for found, wanted in zip(answers(), small, strict=True):
        assert_same(found, wanted)


@pytest.mark.parametrize("kind", ["scan", "usearch"])
def test_equals_come_in_the_order_of_cells_from_a_lone_shard_too(
    quantizers: dict[int, ProductQuantizer], queries: Floats, kind: str
) -> None:
    cells, pq_codes = some_cells(PARENT, level=16, num=40), np.full((40, 4), 7, np.uint8)
    files = build_shard(cells, pq_codes, quantizers[8], parent=PARENT, kind=kind)
    shard = Shard.open(files.cells, files.payload, quantizers[8])
    index = CellIndex(quantizers[8], [shard], graph_from_cells=1)
    found = index.search(queries[0], k=8).cells.tolist()
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("region", "lons"),
    [
        (Disk(-17.0, 180.0, 3000), "both signs"),
        (Disk(-17.0, -180.0, 3000), "both signs"),
        (Box(-17.02, 179.98, -16.98, -179.98), "both signs"),
        (Disk(90.0, 123.0, 3000), "both signs"),
        (Disk(-17.0, 179.95, 3000), "positive"),
    ],
)
def test_a_region_across_the_antimeridian_finds_cells_on_both_sides(
    index: CellIndex, queries: Floats, region: Region, lons: str
) -> None:
    found = index.search(queries[0], k=1000, region=region)
    signs = {float(sign) for sign in np.sign(s2.latlon_from_cell(found.cells)[:, 1])}
    assert signs == ({-1.0, 1.0} if lons == "both signs" else {1.0})


@pytest.mark.parametrize(("lat", "lon"), PLACES[4:6])
def test_a_region_at_the_edge_of_a_face_finds_cells_on_each_face(
    index: CellIndex, queries: Floats, lat: float, lon: float
) -> None:
    found = index.search(queries[0], k=1000, region=Disk(lat, lon, 4000))
    num_faces = 3 if lat == CORNER_LAT else 2
    assert len(set((found.cells >> np.uint64(61)).tolist())) == num_faces


def test_the_numpy_path_finds_the_same(
    index: CellIndex, shards: list[Shard], queries: Floats
) -> None:
    in_numpy = CellIndex(index.quantizer, shards, use_kernel=False)
    for query in queries:
        for region in (None, Disk(47.37, 8.54, 3000)):
            wanted = index.search(query, k=20, region=region)
            assert_same(in_numpy.search(query, k=20, region=region), wanted)


def test_among_equal_scores_the_smaller_cell_comes_first(
    quantizers: dict[int, ProductQuantizer], queries: Floats
) -> None:
    shards = []
    for parent in s2.descendants(PARENT, level=10).tolist():
        cells = some_cells(parent, level=16, num=10)
        pq_codes = np.tile(np.array([[1, 2, 3, 4], [9, 8, 7, 6]], np.uint8), (5, 1))
        files = build_shard(cells, pq_codes, quantizers[8], parent=parent, kind="scan")
        shards.append(Shard.open(files.cells, files.payload, quantizers[8]))
    all_cells = np.concatenate([shard.cells() for shard in shards])
    best = int(shards[0].scan(quantizers[8].lookup_table(queries[0]))[:2].argmax())
    found = CellIndex(quantizers[8], shards[::-1]).search(queries[0], k=23)
    assert len(set(found.scores.tolist())) == 2
    assert found.cells.tolist() == [*all_cells[best::2], *all_cells[1 - best :: 2][:3]]


def test_a_region_without_cells_gives_no_matches(index: CellIndex, queries: Floats) -> None:
    for region in (Disk(0, 0, 1000), Disk(47.37, 8.54, 0.001), CellUnion([])):
        found = index.search(queries[0], k=5, region=region)
        assert len(found.cells) == len(found.scores) == len(index.cells_in(region)) == 0
        assert found.cells.dtype == np.uint64
        assert found.scores.dtype == np.float32


def test_shards_that_overlap_are_an_error(index: CellIndex, shards: list[Shard]) -> None:
    with pytest.raises(ValueError, match="shards overlap"):
        CellIndex(index.quantizer, [*shards, shards[1]])


def test_shards_of_cells_of_several_levels_are_an_error(
    scan_files: ShardFiles, quantizers: dict[int, ProductQuantizer]
) -> None:
    shard = Shard.open(scan_files.cells, scan_files.payload, quantizers[8])
    other = ShardSource(s2.cell_from_token("479aac") + (1 << 41), 15, len(shard), lambda: shard)
    with pytest.raises(ValueError, match=r"levels \[15, 16\], want one"):
        CellIndex(quantizers[8], [shard, other])


def test_an_index_without_shards_finds_nothing(
    quantizers: dict[int, ProductQuantizer], queries: Floats
) -> None:
    empty = CellIndex(quantizers[8], [])
    assert len(empty.search(queries[0], k=5).cells) == 0
    region = Disk(0, 0, 1e7)
    assert len(empty.search(queries[0], k=5, region=region).cells) == 0
    for found in empty.search_both(queries[0], k=5, region=region, k_everywhere=5):
        assert len(found.cells) == 0


def test_bad_arguments_are_refused(index: CellIndex, queries: Floats) -> None:
    with pytest.raises(ValueError, match="k is 0, want at least 1"):
        index.search(queries[0], k=0)
    for k, k_everywhere, name in ((0, 1, "k"), (1, 0, "k_everywhere")):
        with pytest.raises(ValueError, match=f"^{name} is 0, want at least 1"):
            index.search_both(queries[0], k=k, region=Disk(0, 0, 1), k_everywhere=k_everywhere)
    with pytest.raises(ValueError, match=r"shape \(12, 16\), want \(16,\)"):
        index.search(queries, k=1)
    with pytest.raises(TypeError, match=r"region is \(47.0, 8.0\), want a Disk, a Box"):
        index.search(queries[0], k=1, region=(47.0, 8.0))  # type: ignore[arg-type]


def test_a_shard_is_opened_once_and_only_when_touched(
    shards: list[Shard], index: CellIndex
) -> None:
    opened: list[int] = []

    def source(shard: Shard) -> ShardSource:
        def open_shard() -> Shard:
            opened.append(shard.parent)
            return shard

        return ShardSource(shard.parent, shard.level, len(shard), open_shard)

    lazy = CellIndex(index.quantizer, [source(shard) for shard in shards])
    query = np.ones(16, np.float32)
    assert opened == []
    lazy.search(query, k=1, region=Disk(0, 0, 1000))
    assert opened == []
    south = Disk(-90, 0, 1000)
    lazy.search(query, k=1, region=south)
    assert 1 <= len(opened) <= 9
    assert all(s2.latlon_from_cell(opened)[:, 0] < -89)
    lazy.search(query, k=1, region=south)
    assert_same(lazy.search(query, k=9), index.search(query, k=9))
    assert sorted(opened) == [shard.parent for shard in shards]


def test_a_damaged_shard_is_an_error_at_each_search(
    scan_files: ShardFiles, quantizers: dict[int, ProductQuantizer], queries: Floats
) -> None:
    source = ShardSource(PARENT, 16, 1, lambda: Shard.open(scan_files.cells, b"", quantizers[8]))
    lazy = CellIndex(quantizers[8], [source])
    for _ in range(2):
        with pytest.raises(ShardFormatError, match="a payload of 0 bytes"):
            lazy.search(queries[0], k=1)
