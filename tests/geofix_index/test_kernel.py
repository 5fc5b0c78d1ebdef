import ctypes
import math
import os
import shutil
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix_index import Disk, ProductQuantizer, kernel, kernel_version
from geofix_index import cells as s2
from geofix_index.sphere import EARTH_RADIUS_M
from tests.geofix_index.globe import latlon_around, random_latlon

Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]


def random_scan(seed: int, *, bits: int, num_bytes: int, num: int) -> tuple[Floats, PQCodes]:
    """Return a look-up table and pq codes."""
    rng = np.random.default_rng(seed)
    shape = (num_bytes * 8 // bits, 2**bits)
    # Entries differ so much in size that another order of additions would give other bits.
    table = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
    return table.astype(np.float32), rng.integers(0, 256, (num, num_bytes)).astype(np.uint8)


def test_the_kernel_is_there_where_a_c_compiler_is() -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform == "win32" or os.environ.get("GEOFIX_KERNEL") == "skip":
        pytest.skip("nothing to build the kernel with")
    assert kernel_version() == 5


@pytest.mark.parametrize("bits", [4, 8])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 70))
def test_both_scans_agree_to_the_last_bit(
    library: ctypes.CDLL, bits: int, seed: int, num_bytes: int, num: int
) -> None:
    table, pq_codes = random_scan(seed, bits=bits, num_bytes=num_bytes, num=num)
    by_kernel = kernel.scan(table, pq_codes, bits=bits)
    assert by_kernel.shape == (num,)
    assert by_kernel.tobytes() == kernel.scan_numpy(table, pq_codes, bits=bits).tobytes()


@pytest.mark.parametrize("bits", [4, 8])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 70), st.integers(0, 70))
def test_a_scan_of_rows_is_that_of_all_restricted(
    library: ctypes.CDLL, bits: int, seed: int, num_bytes: int, num: int, num_rows: int
) -> None:
    table, pq_codes = random_scan(seed, bits=bits, num_bytes=num_bytes, num=num)
    rows = np.random.default_rng(seed).integers(0, num, num_rows)
    wanted = kernel.scan(table, pq_codes, bits=bits)[rows]
    assert kernel.scan(table, pq_codes, rows, bits=bits).tobytes() == wanted.tobytes()
    in_numpy = kernel.scan(table, pq_codes, rows, bits=bits, use_kernel=False)
    assert in_numpy.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("use_kernel", [True, False])
@pytest.mark.parametrize("wrong", [-1, 20, 2**40])
def test_a_row_that_there_is_not_is_an_error(use_kernel: bool, wrong: int) -> None:
    table, pq_codes = random_scan(2, bits=8, num_bytes=4, num=20)
    with pytest.raises(IndexError, match="of 20 pq codes"):
        kernel.scan(table, pq_codes, np.array([3, wrong]), bits=8, use_kernel=use_kernel)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_score_is_added_in_the_order_of_sub_quantizers(bits: int) -> None:
    table, pq_codes = random_scan(1, bits=bits, num_bytes=6, num=9)
    for row, score in zip(pq_codes.tolist(), kernel.scan(table, pq_codes, bits=bits), strict=True):
        halves = row if bits == 8 else [half for byte in row for half in (byte & 15, byte >> 4)]
        total = np.float32(0)
        for line, chosen in zip(table, halves, strict=True):
            total += line[chosen]
        assert score == total


def test_a_scan_takes_views_and_read_only_bytes() -> None:
    table, pq_codes = random_scan(2, bits=8, num_bytes=4, num=20)
    wanted = kernel.scan(table, pq_codes, bits=8)
    read_only = np.frombuffer(pq_codes.tobytes(), np.uint8).reshape(pq_codes.shape)
    assert kernel.scan(table, read_only, bits=8).tolist() == wanted.tolist()
    assert kernel.scan(table, pq_codes[::2], bits=8).tolist() == wanted[::2].tolist()
    assert kernel.scan(np.asfortranarray(table), pq_codes, bits=8).tolist() == wanted.tolist()


def test_without_a_kernel_a_scan_runs_in_numpy(without_kernel: None) -> None:
    table, pq_codes = random_scan(3, bits=4, num_bytes=4, num=20)
    wanted = kernel.scan_numpy(table, pq_codes, bits=4)
    assert kernel_version() is None
    assert kernel.scan(table, pq_codes, bits=4).tolist() == wanted.tolist()


def test_a_kernel_with_another_interface_is_not_used(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "KERNEL_VERSION", 1)
    assert kernel.load_kernel.__wrapped__() is None


def test_blocks_are_transposed_and_filled_up() -> None:
    pq_codes = np.arange(35 * 3, dtype=np.uint8).reshape(35, 3)
    blocks = kernel.to_blocks(pq_codes)
    assert blocks.shape == (2, 3, 32)
    for cell, column in ((0, 0), (31, 2), (32, 1), (34, 2)):
        assert blocks[cell // 32, column, cell % 32] == pq_codes[cell, column]
    assert not blocks[1, :, 3:].any()
    assert kernel.from_blocks(blocks, 35).tolist() == pq_codes.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 90))
def test_blocks_are_scored_as_rows_are(seed: int, num_bytes: int, num: int) -> None:
    table, pq_codes = random_scan(seed, bits=4, num_bytes=num_bytes, num=num)
    rows = np.random.default_rng(seed).integers(0, num, 20)
    wanted = kernel.scan_numpy(table, pq_codes, bits=4)[rows].tobytes()
    assert kernel.scan_blocks(table, kernel.to_blocks(pq_codes), rows).tobytes() == wanted


def shortlisted(
    library: ctypes.CDLL,
    table: Floats,
    pq_codes: PQCodes,
    k: int,
    counts: npt.NDArray[np.bool_] | None = None,
) -> tuple[list[int], Floats]:
    """Return the rows of a short list, after what must be true of every one.

    Blocks lie apart from each other in memory, the last first.
    """
    blocks = kernel.to_blocks(pq_codes)
    apart = np.zeros((2 * len(blocks), *blocks.shape[1:]), np.uint8)
    apart[::-2] = blocks
    starts = apart.ctypes.data + np.arange(2 * len(blocks))[::-2] * blocks[0].size
    counting = np.zeros(len(blocks) * 32, bool)
    counting[: len(pq_codes)] = True if counts is None else counts
    masks = np.packbits(counting, bitorder="little").view("<u4")
    found = kernel.Shortlist(library, starts.astype(np.uintp), masks).search(table, k)
    rows, scores = found
    exact = kernel.scan_numpy(table, pq_codes, bits=4)
    assert scores.tobytes() == exact[rows].tobytes()
    assert (np.diff(rows) > 0).all()
    assert counting[rows].all()
    candidates = np.flatnonzero(counting)
    least = np.sort(exact[candidates])[::-1][min(k, len(candidates)) - 1]
    assert set(candidates[exact[candidates] >= least]) <= set(rows.tolist())
    return rows.tolist(), exact


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1.0, 1e6])
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 33),
    st.integers(1, 1500),
    st.integers(1, 60),
    st.sampled_from([0.01, 0.5, 1.0]),
)
def test_the_best_cells_are_on_the_short_list(
    library: ctypes.CDLL,
    spread: float,
    seed: int,
    num_bytes: int,
    num: int,
    k: int,
    share: float,
) -> None:
    rng = np.random.default_rng(seed)
    table = (1.0 + spread * rng.standard_normal((2 * num_bytes, 16))).astype(np.float32)
    pq_codes = rng.integers(0, 256, (num, num_bytes)).astype(np.uint8)
    counts = rng.random(num) < share
    counts[rng.integers(num)] = True
    rows, _ = shortlisted(library, table, pq_codes, k, counts)
    assert len(rows) >= min(k, int(counts.sum()))


def test_entries_that_differ_wildly_in_size_hide_no_cell(library: ctypes.CDLL) -> None:
    for seed in range(20):
        table, pq_codes = random_scan(seed, bits=4, num_bytes=8, num=700)
        rows, exact = shortlisted(library, table, pq_codes, 5)
        assert int(exact.argmax()) in rows


@pytest.mark.parametrize("value", [0.0, 3e38, -3e38, 1e-45])
def test_a_table_at_the_edge_of_float_hides_no_cell(library: ctypes.CDLL, value: float) -> None:
    table = np.zeros((4, 16), np.float32)
    table[::2, 3] = value
    table[1, 5] = -value
    pq_codes = np.random.default_rng(0).integers(0, 256, (400, 2)).astype(np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        rows, _ = shortlisted(library, table, pq_codes, 7)
        assert len(rows) >= 7


def test_a_short_list_is_short(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    table = rng.standard_normal((64, 16)).astype(np.float32)
    pq_codes = rng.integers(0, 256, (20_000, 32)).astype(np.uint8)
    rows, _ = shortlisted(library, table, pq_codes, 10)
    assert len(rows) < 200


def test_cells_that_all_score_the_same_are_all_on_the_short_list(library: ctypes.CDLL) -> None:
    table = np.random.default_rng(4).standard_normal((8, 16)).astype(np.float32)
    rows, _ = shortlisted(library, table, np.full((3_000, 4), 0x5A, np.uint8), 10)
    assert rows == list(range(3_000))


def test_what_fills_up_the_last_block_is_never_found(library: ctypes.CDLL) -> None:
    table = np.zeros((2, 16), np.float32)
    table[:, 0] = 1.0  # of the filling alone
    rows, _ = shortlisted(library, table, np.full((33, 1), 0x11, np.uint8), 4)
    assert rows == list(range(33))


@pytest.mark.parametrize("level", [0, 1, 9, 16, 29, 30])
def test_distances_to_centres_agree_with_numpy_to_the_last_bit(
    library: ctypes.CDLL, level: int
) -> None:
    cells = s2.cell_from_latlon(*random_latlon(300, seed=level).T, level=level)
    x, y, z = s2.centre_vectors(cells)
    point = np.array([0.6, -0.48, 0.64])
    chord2 = (x - point[0]) ** 2 + (y - point[1]) ** 2 + (z - point[2]) ** 2
    for row, limit in enumerate(chord2.tolist()):
        for least, wanted in ((limit, 1), (math.nextafter(limit, 0), 0)):
            found = kernel.disk(library, cells[row : row + 1], level, point, arc=1.0, limit=least)
            assert len(found[0]) == wanted


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(0, 24), st.integers(0, 6))
def test_a_disk_holds_the_descendants_whose_centre_lies_in_it(
    library: ctypes.CDLL, seed: int, level: int, depth: int
) -> None:
    rng = np.random.default_rng(seed)
    lat, lon = random_latlon(1, seed=seed)[0]
    middle = s2.cell_from_latlon(lat, lon, level=level)
    parents = np.unique([middle, *s2.neighbours(middle)[:: int(rng.integers(1, 4))]])
    parents = parents[parents != 0]
    away = np.minimum(s2.mean_edge_m(level) * rng.uniform(0, 3), 2e7)
    place = latlon_around(lat, lon, distances_rad=[away / EARTH_RADIUS_M], bearings_rad=[seed])[0]
    radius_m = s2.mean_edge_m(level) * 10 ** rng.uniform(-1.5, 1)
    disk = Disk(float(place[0]), float(place[1]), radius_m)
    first, last = kernel.disk(
        library, parents, level + depth, disk.centre, arc=disk.arc, limit=disk.chord2
    )
    cells = s2.descendants(parents, level=level + depth)
    assert (first <= last).all()
    assert (last[:-1] < first[1:]).all()
    inside = np.searchsorted(first, cells, side="right") > np.searchsorted(last, cells)
    assert inside.tolist() == disk.admits(cells).tolist()
    assert len(np.unique(s2.parent(first | np.uint64(1), level=level))) <= len(parents)
    assert (s2.parent(first, level=level) == s2.parent(last, level=level)).all()


def test_a_disk_of_many_runs_comes_whole(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(47.37, 8.54, 3000.0)
    parents = s2.cell_from_latlon([47.37], [8.54], level=8)
    arguments = (library, parents, 17, disk.centre)
    wanted = kernel.disk(*arguments, arc=disk.arc, limit=disk.chord2)
    assert len(wanted[0]) > 20
    for room in (0, 1, len(wanted[0]) - 1, len(wanted[0])):
        monkeypatch.setattr(kernel, "_DISK_RUNS", room)
        found = kernel.disk(*arguments, arc=disk.arc, limit=disk.chord2)
        assert [run.tolist() for run in found] == [run.tolist() for run in wanted]


def test_a_parent_finer_than_the_cells_stands_for_itself(library: ctypes.CDLL) -> None:
    leaf = s2.cell_from_latlon([47.37], [8.54], level=30)
    first, last = kernel.disk(library, leaf, 16, np.array([1.0, 0, 0]), arc=4.0, limit=math.inf)
    assert first.tolist() == last.tolist() == leaf.tolist()


def test_instructions_are_named(library: ctypes.CDLL) -> None:
    assert kernel.instructions() in ("avx2", "neon", "portable")


def test_without_a_kernel_instructions_are_numpys(without_kernel: None) -> None:
    assert kernel.instructions() == "numpy"


def test_the_asymmetric_metric_is_one_minus_the_score(
    library: ctypes.CDLL, quantizer: ProductQuantizer, vectors: Floats
) -> None:
    pq_codes = quantizer.encode(vectors[:30])
    table = quantizer.lookup_table(vectors[99])
    metric = _metric(library, "geofix_asymmetric")
    with kernel.query(library, table, bits=quantizer.bits):
        distances = [metric(b"", row.tobytes()) for row in pq_codes]
    scores = kernel.scan_numpy(table, pq_codes, bits=quantizer.bits)
    assert distances == (np.float32(1) - scores).tolist()


def test_the_symmetric_metric_is_one_minus_the_inner_product(
    library: ctypes.CDLL, quantizer: ProductQuantizer, vectors: Floats
) -> None:
    pq_codes = quantizer.encode(vectors[:12])
    metric = _metric(library, "geofix_symmetric")
    with kernel.products(library, quantizer.centroids, bits=quantizer.bits):
        distances = [[metric(a.tobytes(), b.tobytes()) for b in pq_codes] for a in pq_codes]
    rebuilt = quantizer.decode(pq_codes)
    assert np.array(distances) == pytest.approx(1 - rebuilt @ rebuilt.T, abs=1e-5)


def _metric(library: ctypes.CDLL, name: str) -> Callable[[bytes, bytes], float]:
    kind = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_char_p, ctypes.c_char_p)
    return kind(kernel.metric_address(library, name))
