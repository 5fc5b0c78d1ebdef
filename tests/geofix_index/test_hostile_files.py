"""Files and queries that mean harm, through the public API: an error of ours, or a sound answer.

`make sanitize` runs this with a kernel that stops at the first byte read out of bounds.
"""

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geofix_index import (
    Box,
    CellIndex,
    CellUnion,
    Disk,
    ProductQuantizer,
    Region,
    Shard,
    ShardFormatError,
    build_shard,
)
from geofix_index import cells as s2
from tests.geofix_index.sample_cells import PARENT, some_cells

NUM_CELLS, NUM_BYTES = 75, 4
WORDS = st.sampled_from([0, 1, 2, 4, 8, 15, 16, 17, 30, 31, 32, 33, 64, 75, 96, 2**16, 2**32 - 1])
CHANGES = st.lists(st.tuples(st.integers(0, 60), WORDS), max_size=2)  # of words of a file
LENGTHS = st.one_of(st.none(), st.integers(0, 700))
MIDDLE = s2.latlon_from_cell(PARENT).tolist()
REGIONS: st.SearchStrategy[Region | None] = st.sampled_from(
    [
        None,
        Disk(MIDDLE[0], MIDDLE[1], 9000.0),
        Disk(MIDDLE[0], MIDDLE[1], 2e7),
        Box(-90.0, -180.0, 90.0, 180.0),
        CellUnion([PARENT]),
    ]
)
SIZES = st.sampled_from([0.0, 1e-45, 1e-20, 1.0, 1e15, 1e37, 3e38, np.inf, np.nan])


def tampered(data: bytes, changes: list[tuple[int, int]], length: int | None) -> bytes:
    """Return a file with other words in it, shortened or filled up."""
    found = bytearray(data)
    for word, value in changes:
        if 4 * word + 4 <= len(found):
            struct.pack_into("<I", found, 4 * word, value)
    return bytes(found) if length is None else bytes(found[:length].ljust(length, b"\1"))


@settings(max_examples=600)
@given(
    st.sampled_from([4, 8]),
    st.tuples(CHANGES, CHANGES),
    st.tuples(LENGTHS, LENGTHS, LENGTHS),
    REGIONS,
    SIZES,
    st.sampled_from([1, 10, 10**9]),
)
def test_a_tampered_shard_is_refused_or_searched_in_bounds(
    quantizers: dict[int, ProductQuantizer],
    bits: int,
    changes: tuple[list[tuple[int, int]], list[tuple[int, int]]],
    lengths: tuple[int | None, int | None, int | None],
    region: Region | None,
    size: float,
    k: int,
) -> None:
    cells = some_cells(PARENT, level=16, num=NUM_CELLS)
    pq_codes = np.random.default_rng(0).integers(0, 256, (NUM_CELLS, NUM_BYTES)).astype(np.uint8)
    files = build_shard(cells, pq_codes, quantizers[bits], parent=PARENT, kind="scan")
    book = tampered(quantizers[bits].to_bytes(), changes[0], lengths[0])
    try:
        quantizer = ProductQuantizer.from_bytes(book)
        shard = Shard.open(
            tampered(files.cells, changes[1], lengths[1]),
            tampered(files.payload, [], lengths[2]),
            quantizer,
        )
    except ShardFormatError:
        return
    query = np.full(quantizer.dim, size, np.float32)
    try:
        found = CellIndex(quantizer, [shard]).search(query, k=k, region=region)
    except ValueError as e:
        if "embedding holds" in str(e):
            return
        raise
    assert np.isfinite(found.scores).all()
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert np.isin(found.cells, shard.cells()).all()
    assert len(found.cells) <= min(k, len(shard))
    if region is None or isinstance(region, Box):
        assert len(found.cells) == min(k, len(shard))
