from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_index import ProductQuantizer, Shard, ShardFiles, build_shard
from geofix_index import cells as s2
from tests.geofix_index.sample_cells import PARENT, some_cells

Cells = npt.NDArray[np.uint64]
PQCodes = npt.NDArray[np.uint8]

HEADER_BYTES = 40


@pytest.mark.parametrize("level", [9, 10, 17, 18, 25], ids="level {}".format)
@pytest.mark.parametrize("kind", ["scan", "usearch"])
def test_a_shard_comes_back(
    quantizer: ProductQuantizer,
    pq_codes: PQCodes,
    kind: str,
    level: int,
    request: pytest.FixtureRequest,
) -> None:
    if kind == "usearch":
        request.getfixturevalue("library")
    num = min(4 ** (level - 9), len(pq_codes))
    cells = some_cells(PARENT, level=level, num=num)
    files = build_shard(cells, pq_codes[:num], quantizer, parent=PARENT, kind=kind)
    offset_bytes = 2 if level <= 17 else 4
    assert len(files.cells) == HEADER_BYTES + num * offset_bytes
    shard = Shard.open(memoryview(files.cells), memoryview(files.payload), quantizer)
    assert (shard.parent, shard.level, len(shard)) == (PARENT, level, num)
    assert shard.has_graph == (kind == "usearch")
    assert shard.cells().tolist() == cells.tolist()
    assert shard.cells(np.array([num - 1, 0])).tolist() == [cells[-1], cells[0]]
    assert shard.pq_codes.tolist() == pq_codes[:num].tolist()


def test_the_same_input_gives_the_same_bytes(
    files: ShardFiles, cells: Cells, pq_codes: PQCodes, quantizers: dict[int, ProductQuantizer]
) -> None:
    again = build_shard(
        cells.copy(), pq_codes.copy(), quantizers[8], parent=PARENT, kind=files.kind
    )
    assert again == files


def test_known_bytes(quantizers: dict[int, ProductQuantizer]) -> None:
    cells = np.array([0x479AA9, 0x479AAD, 0x479AAF], np.uint64) << np.uint64(40)  # not 479aab
    pq_codes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    files = build_shard(cells, pq_codes, quantizers[4], parent=PARENT, kind="scan")
    assert files.cells == bytes.fromhex(
        "47465843 454c4c53"  # GFXCELLS
        "02000000 00000000"  # version 2, kind 0
        "00000000 00ac9a47"  # parent
        "0a000000 03000000 04000000 00000000"  # level 10, 3 cells, 4 bytes a cell, zero
        "0000 0200 0300"
    )
    rows = b"".join(bytes([i, 4 + i, 8 + i]).ljust(32, b"\0") for i in range(4))
    assert files.payload == rows  # one block, transposed
    files = build_shard(cells, pq_codes, quantizers[8], parent=PARENT, kind="scan")
    assert files.payload == bytes(range(12))


def test_scores_are_those_of_the_rows(
    files: ShardFiles, quantizers: dict[int, ProductQuantizer], queries: npt.NDArray[np.float32]
) -> None:
    shard = Shard.open(files.cells, files.payload, quantizers[8])
    table = quantizers[8].lookup_table(queries[0])
    scores = shard.scan(table)
    assert scores == pytest.approx(quantizers[8].decode(shard.pq_codes) @ queries[0], abs=1e-5)
    rows = np.array([5, 5, 59, 0])
    assert shard.scan(table, rows).tolist() == scores[rows].tolist()
    assert shard.scan(table, use_kernel=False).tolist() == scores.tolist()


@given(st.data())
def test_rows_inside_blocks_are_those_of_brute_force(
    scan_files: ShardFiles, quantizers: dict[int, ProductQuantizer], data: st.DataObject
) -> None:
    shard = Shard.open(scan_files.cells, scan_files.payload, quantizers[8])
    block_level = data.draw(st.integers(9, 16))
    near = s2.parent(shard.cells(), level=block_level)
    beside = s2.descendants(PARENT, level=min(block_level, 12))
    candidates = np.unique(np.concatenate([near, s2.parent(beside, level=min(block_level, 12))]))
    candidates = candidates[s2.level_of(candidates) == block_level]
    blocks = np.array(sorted(data.draw(st.sets(st.sampled_from(candidates.tolist())))), np.uint64)
    wanted = np.flatnonzero(np.isin(s2.parent(shard.cells(), level=block_level), blocks))
    assert shard.rows_inside(*s2.leaf_range(blocks)).tolist() == wanted.tolist()


def test_masked_blocks_name_rows_bit_by_bit(quantizers: dict[int, ProductQuantizer]) -> None:
    cells = some_cells(PARENT, level=16, num=70)
    pq_codes = np.random.default_rng(0).integers(0, 256, (70, 3)).astype(np.uint8)
    quantizer = ProductQuantizer(np.eye(6, dtype=np.float32), np.zeros((6, 16, 1), np.float32))
    files = build_shard(cells, pq_codes, quantizer, parent=PARENT, kind="scan")
    shard = Shard.open(files.cells, files.payload, quantizer)
    blocks = shard.blocks
    assert blocks is not None
    addresses, masks, first_row = shard.masked_blocks(np.array([0, 5, 31, 64, 69]))
    assert addresses.tolist() == [blocks[0].ctypes.data, blocks[2].ctypes.data]
    assert masks.tolist() == [1 | 1 << 5 | 1 << 31, 1 | 1 << 5]
    assert first_row.tolist() == [0, 64]
    assert shard.masked_blocks(None)[1].tolist() == [2**32 - 1, 2**32 - 1, 2**6 - 1]
    assert [shard.cell(row) for row in range(70)] == cells.tolist()


def test_rows_have_no_masked_blocks(
    scan_files: ShardFiles, quantizers: dict[int, ProductQuantizer]
) -> None:
    shard = Shard.open(scan_files.cells, scan_files.payload, quantizers[8])
    with pytest.raises(ValueError, match="not in blocks"):
        shard.masked_blocks(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hnsw"}, "kind is 'hnsw', want 'usearch' or 'scan'"),
        ({"cells": lambda cells: cells[::-1]}, "ascending"),
        ({"cells": lambda cells: np.repeat(cells[:30], 2)}, "ascending"),
        ({"cells": lambda cells: cells[:0]}, "at least one"),
        ({"cells": lambda cells: cells[None]}, "at least one, ascending"),
        ({"cells": lambda cells: np.append(cells[:-1], s2.leaf_range(cells)[1][-1])}, "one level"),
        ({"cells": lambda cells: cells + np.uint64(2)}, "no S2 cell"),
        ({"parent": s2.cell_from_token("479aa4")}, "outside the shard's parent 479aa4"),
        ({"parent": s2.cell_from_token("479aabfffc")}, "0 to 16 below"),
        ({"parent": 0}, "no S2 cell"),
        ({"pq_codes": lambda pq_codes: pq_codes[1:]}, r"shape \(59, 4\), want \(60, 4\)"),
        ({"pq_codes": lambda pq_codes: pq_codes[:, :3]}, r"shape \(60, 3\), want \(60, 4\)"),
    ],
)
def test_what_makes_no_shard_is_refused(
    cells: Cells,
    pq_codes: PQCodes,
    quantizers: dict[int, ProductQuantizer],
    change: dict[str, Any],
    message: str,
) -> None:
    made: dict[str, Any] = {"cells": cells, "pq_codes": pq_codes, "parent": PARENT, "kind": "scan"}
    for name, value in change.items():
        made[name] = value(made[name]) if callable(value) else value
    with pytest.raises(ValueError, match=message):
        build_shard(quantizer=quantizers[8], **made)


def test_cells_more_than_16_levels_down_are_refused(
    quantizers: dict[int, ProductQuantizer], pq_codes: PQCodes
) -> None:
    parent = int(s2.parent(PARENT, level=4))
    cells = some_cells(parent, level=20, num=3)
    files = build_shard(cells, pq_codes[:3], quantizers[8], parent=parent, kind="scan")
    assert Shard.open(files.cells, files.payload, quantizers[8]).cells().tolist() == cells.tolist()
    with pytest.raises(ValueError, match="0 to 16 below"):
        build_shard(some_cells(parent, level=21, num=3), pq_codes[:3], quantizers[8], parent=parent)
