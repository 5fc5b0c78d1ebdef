"""Damaged shards are refused with ShardFormatError and nothing else.

Nothing here changes what USearch reads: it crashes on damaged files, which is why a payload is
hashed before it is opened. Of a USearch file only what `Shard.open` itself checks is changed.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix_index import ProductQuantizer, Shard, ShardFiles, ShardFormatError, build_shard, graph
from geofix_index import cells as s2
from tests.geofix_index.sample_cells import PARENT, some_cells

HEADER_BYTES = 40
FLIPS = st.lists(
    st.tuples(st.integers(0, HEADER_BYTES - 1) | st.integers(0, 159), st.integers(1, 255)),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def quantizer(quantizers: dict[int, ProductQuantizer]) -> ProductQuantizer:
    """Return the one that the shards were made with."""
    return quantizers[8]


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    """Return a copy with other bytes at an offset."""
    return data[:offset] + value + data[offset + len(value) :]


def u32(value: int) -> bytes:
    """Return a number as the file holds it."""
    return struct.pack("<I", value)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"GFXCBOOK", "starts with b'GFXCELLS', this with b'GFXCBOOK'"),
        (8, u32(1), "shard version 1, this reader knows 2"),
        (8, u32(0), "shard version 0"),
        (12, u32(2), "kind 2"),
        (16, struct.pack("<Q", 0), "parent: cell 0 is 0x0"),
        (16, struct.pack("<Q", PARENT + 2), "no S2 cell"),
        (16, struct.pack("<Q", s2.cell_from_token("479aa9")), "ascending inside their parent"),
        (24, u32(8), "cells of level 8 under 479aac"),
        (24, u32(26), "cells of level 26 under 479aac"),
        (24, u32(2**32 - 1), "cells of level 4294967295"),
        (24, u32(12), "ascending inside their parent"),  # offsets up to 4^7 - 1
        (24, u32(18), "its header says 280"),  # wider offsets
        (28, u32(0), "0 cells"),
        (28, u32(59), "its header says 158"),
        (28, u32(2**32 - 1), "its header says"),
        (32, u32(3), "3 bytes a cell, the codebook has 4"),
        (36, u32(1), "kind"),
        (40, b"\xff\xff", "ascending"),
        (42, b"\0\0", "ascending"),  # the first again
        (44, b"\0\0", "ascending"),
        (158, b"\xff\xff", "ascending inside their parent"),
    ],
)
def test_each_field_of_the_cells_file_is_checked(
    files: ShardFiles, quantizer: ProductQuantizer, offset: int, value: bytes, message: str
) -> None:
    with pytest.raises(ShardFormatError, match=message):
        Shard.open(changed(files.cells, offset, value), files.payload, quantizer)


def test_levels_beyond_30_are_refused(
    quantizer: ProductQuantizer, pq_codes: npt.NDArray[np.uint8]
) -> None:
    parent = int(s2.descendant_range(PARENT, level=20)[0])
    cells = some_cells(parent, level=30, num=9)
    files = build_shard(cells, pq_codes[:9], quantizer, parent=parent, kind="scan")
    with pytest.raises(ShardFormatError, match="cells of level 31 under"):
        Shard.open(changed(files.cells, 24, u32(31)), files.payload, quantizer)


def test_the_kind_must_fit_the_payload(files: ShardFiles, quantizer: ProductQuantizer) -> None:
    other = {"scan": 1, "usearch": 0}[files.kind]
    with pytest.raises(ShardFormatError, match=r"payload|differ in size"):
        Shard.open(changed(files.cells, 12, u32(other)), files.payload, quantizer)


@pytest.mark.parametrize("length", [0, 8, HEADER_BYTES - 1, HEADER_BYTES, -2, -1])
def test_a_truncated_cells_file_is_refused(
    files: ShardFiles, quantizer: ProductQuantizer, length: int
) -> None:
    with pytest.raises(ShardFormatError, match=r"a cells file of \d+ bytes"):
        Shard.open(files.cells[:length], files.payload, quantizer)


def test_a_cells_file_with_more_behind_it_is_refused(
    files: ShardFiles, quantizer: ProductQuantizer
) -> None:
    with pytest.raises(ShardFormatError, match="its header says 160"):
        Shard.open(files.cells + b"\0", files.payload, quantizer)


@given(FLIPS)
def test_flipped_bits_of_a_cells_file_raise_nothing_else(
    files: ShardFiles, quantizer: ProductQuantizer, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(files.cells)
    for at, bits in flips:
        data[at] ^= bits
    try:
        shard = Shard.open(bytes(data), files.payload, quantizer)
    except ShardFormatError:
        return
    cells = shard.cells()
    assert (cells[1:] > cells[:-1]).all()
    assert (s2.parent(cells, level=int(s2.level_of(shard.parent))) == shard.parent).all()


@pytest.mark.parametrize("length", [0, 7, 239, 241])
def test_a_scan_payload_of_another_length_is_refused(
    scan_files: ShardFiles, quantizer: ProductQuantizer, length: int
) -> None:
    payload = (scan_files.payload + b"\0")[:length]
    with pytest.raises(ShardFormatError, match=f"a payload of {length} bytes for 60 x 4"):
        Shard.open(scan_files.cells, payload, quantizer)


@pytest.mark.parametrize("length", [0, 7, 8, 247])
def test_a_graph_payload_too_short_for_its_matrix_is_refused(
    graph_files: ShardFiles, quantizer: ProductQuantizer, length: int
) -> None:
    with pytest.raises(ShardFormatError, match=f"a payload of {length} bytes for 60 x 4"):
        Shard.open(graph_files.cells, graph_files.payload[:length], quantizer)


@pytest.mark.parametrize(("offset", "value"), [(0, 59), (0, 2**32 - 1), (4, 5), (4, 0)])
def test_a_graph_payload_of_another_size_is_refused(
    graph_files: ShardFiles, quantizer: ProductQuantizer, offset: int, value: int
) -> None:
    payload = changed(graph_files.payload, offset, u32(value))
    with pytest.raises(ShardFormatError, match="differ in size"):
        Shard.open(graph_files.cells, payload, quantizer)


def test_a_graph_of_other_cells_is_refused(
    graph_files: ShardFiles, quantizer: ProductQuantizer
) -> None:
    sibling = struct.pack("<Q", s2.cell_from_token("479aa4"))
    with pytest.raises(ShardFormatError, match=r"knows cell .*, its list not"):
        Shard.open(changed(graph_files.cells, 16, sibling), graph_files.payload, quantizer)


class RefusingIndex:
    """A USearch index that opens nothing."""

    def view(self, payload: bytes) -> None:
        raise RuntimeError("Magic header mismatch")


def test_what_usearch_refuses_is_no_shard(
    graph_files: ShardFiles, quantizer: ProductQuantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_new_index", lambda *_: RefusingIndex())
    with pytest.raises(ShardFormatError, match="USearch cannot open a shard: Magic header"):
        Shard.open(graph_files.cells, graph_files.payload, quantizer)


class ForgetfulIndex:
    """A USearch index that keeps the metric it has after loading."""

    def __init__(self, index: Any) -> None:
        self.__dict__["index"] = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "metric":
            setattr(self.index, name, value)


def test_a_forgotten_metric_is_noticed(
    graph_files: ShardFiles, quantizer: ProductQuantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_index = graph._new_index
    monkeypatch.setattr(graph, "_new_index", lambda *args: ForgetfulIndex(new_index(*args)))
    with pytest.raises(ShardFormatError, match="the graph scores a cell"):
        Shard.open(graph_files.cells, graph_files.payload, quantizer)


def test_without_a_kernel_a_graph_is_not_opened(
    graph_files: ShardFiles, quantizer: ProductQuantizer, without_kernel: None
) -> None:
    shard = Shard.open(graph_files.cells, graph_files.payload, quantizer)
    assert not shard.has_graph
