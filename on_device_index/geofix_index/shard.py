"""A shard: the compressed cells of one S2 parent, sorted by cell id, in two files.

* The cells file says which descendants of the parent are there, as offsets along the Hilbert curve.
* The payload holds their pq codes in the same order. For kind "scan" that is all; with 4 bits they
  lie in transposed blocks, of which processors score 32 cells at once. For kind "usearch" it is a
  USearch index, whose file starts with the matrix of its vectors, so that the same bytes serve the
  graph and the exact search of any run of cells.

docs/shard_spec.md describes both. Bytes may come from anywhere, so everything that NumPy reads is
checked here; a USearch payload must be checked by its hash before it comes here, since USearch
itself crashes on damaged files.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geofix_index import cells as s2
from geofix_index import kernel
from geofix_index.errors import ShardFormatError
from geofix_index.forks import ForkSafeLock
from geofix_index.graph import Graph, build_graph
from geofix_index.quantizer import ProductQuantizer

KINDS = ("scan", "usearch")
MAX_DEPTH = 16  # levels from parent to cells, so that an offset fits into 32 bits

_MAGIC = b"GFXCELLS"
_VERSION = 2
_HEADER = struct.Struct("<8sIIQIIII")  # magic, version, kind, parent, level, cells, bytes, zero
_MATRIX_AT = 8  # in a USearch file, after the numbers of rows and columns (u32 each)

Cells = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
PQCodes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ShardFiles:
    """The two files of a shard."""

    kind: str
    cells: bytes
    payload: bytes


def build_shard(
    cells: Cells,
    pq_codes: PQCodes,
    quantizer: ProductQuantizer,
    *,
    parent: int,
    kind: str = "usearch",
) -> ShardFiles:
    """Return the files of a shard; the same input gives the same bytes.

    Args:
        cells: (N,) ascending, of one level, descendants of `parent`.
        pq_codes: (N, bytes) by `quantizer`.
        quantizer: whose centroids the graph is built with.
        parent: the S2 cell that holds them all.
        kind: "usearch" or "scan".

    Raises:
        ValueError: arrays that do not fit together, cells that are not as described, or "usearch"
            without the C kernel, which its graph is built with.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, want 'usearch' or 'scan'")
    offsets, level = _offsets(cells, parent)
    pq_codes = np.ascontiguousarray(pq_codes, np.uint8)
    if pq_codes.shape != (len(cells), quantizer.bytes_per_cell):
        raise ValueError(
            f"pq_codes has shape {pq_codes.shape}, want ({len(cells)}, {quantizer.bytes_per_cell})"
        )
    header = _HEADER.pack(
        _MAGIC, _VERSION, KINDS.index(kind), parent, level, *pq_codes.shape, 0
    )  # fmt: skip
    if kind == "usearch":
        payload = build_graph(cells, pq_codes, quantizer)
    elif quantizer.bits == 4:
        payload = kernel.to_blocks(pq_codes).tobytes()
    else:
        payload = pq_codes.tobytes()
    return ShardFiles(kind, header + offsets.tobytes(), payload)


class Shard:
    """An opened shard. Its arrays are views of the bytes it was opened from."""

    def __init__(
        self,
        *,
        kind: str,
        parent: int,
        level: int,
        offsets: npt.NDArray[np.unsignedinteger],
        stored: PQCodes,
        bits: int,
        graph: Graph | None,
    ) -> None:
        self.kind = kind  # "usearch" or "scan"
        self.parent = parent
        self.level = level
        self._stored = stored  # (N, bytes), or in blocks
        self._offsets = offsets
        self._bits = bits
        self._graph = graph
        self._lock = ForkSafeLock()
        self._first = int(s2.descendant_range(parent, level=level)[0])
        self._step = 2 << (2 * (s2.MAX_LEVEL - level))  # between ids of neighbours on the curve

    @classmethod
    def open(
        cls,
        cells: bytes | memoryview,
        payload: bytes | memoryview,
        quantizer: ProductQuantizer,
        *,
        use_kernel: bool = True,
    ) -> "Shard":
        """Open a shard in place; the bytes must stay as they are while it is used.

        Args:
            cells: the cells file.
            payload: the other file.
            quantizer: that made the pq codes.
            use_kernel: False searches in NumPy, exhaustively.

        Raises:
            ShardFormatError: files that contradict themselves, each other, or the quantizer.
        """
        kind, parent, level, num_cells, num_bytes = _read_header(cells)
        if num_bytes != quantizer.bytes_per_cell:
            raise ShardFormatError(
                f"a shard of {num_bytes} bytes a cell, the codebook has {quantizer.bytes_per_cell}"
            )
        offsets = _read_offsets(cells, num_cells, depth=level - int(s2.level_of(parent)))
        stored = _read_payload(payload, kind, (num_cells, num_bytes), bits=quantizer.bits)
        shard = cls(
            kind=kind,
            parent=parent,
            level=level,
            offsets=offsets,
            stored=stored,
            bits=quantizer.bits,
            graph=Graph.open(payload, num_bytes) if kind == "usearch" and use_kernel else None,
        )
        if shard._graph is not None:
            shard._self_test(quantizer)
        return shard

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def pq_codes(self) -> PQCodes:
        """The pq codes, (N, bytes); of blocks a copy."""
        blocks = self.blocks
        return self._stored if blocks is None else kernel.from_blocks(blocks, len(self))

    @property
    def blocks(self) -> PQCodes | None:
        """The pq codes in blocks (ceil(N / 32), bytes, 32); None where they are in rows."""
        return self._stored if self._stored.ndim == 3 else None

    @property
    def has_graph(self) -> bool:
        """Whether `search` can answer."""
        return self._graph is not None

    def cells(self, rows: Rows | slice = slice(None)) -> Cells:
        """Return the cell ids of rows."""
        offsets = self._offsets[rows].astype(np.uint64)
        return np.asarray(offsets * np.uint64(self._step) + np.uint64(self._first))

    def cell(self, row: int) -> int:
        """Return the cell id of a row; quicker than `cells` for one."""
        return self._first + int(self._offsets[row]) * self._step

    def masked_blocks(
        self, rows: Rows | None
    ) -> tuple[npt.NDArray[np.uintp], npt.NDArray[np.uint32], Rows]:
        """Return the blocks that hold rows, ascending (all rows, where None), for the kernel.

        Returns:
            Where each block starts in memory, a mask of the rows in it, bit by bit, and the row of
            its first cell.
        """
        if self.blocks is None:
            raise ValueError("this shard's pq codes are not in blocks")
        rows = np.arange(len(self)) if rows is None else rows
        number = rows // kernel.BLOCK
        starts = np.concatenate([[0], np.flatnonzero(number[1:] != number[:-1]) + 1])
        bits = np.uint32(1) << (rows % kernel.BLOCK).astype(np.uint32)
        first = self._stored.ctypes.data
        addresses = first + number[starts] * self._stored[0].size
        masks = np.bitwise_or.reduceat(bits, starts)
        return addresses.astype(np.uintp), masks, number[starts] * kernel.BLOCK

    def rows_inside(self, first: Cells, last: Cells) -> Rows:
        """Return the rows whose cells lie in runs of leaves.

        Args:
            first: the first leaf of each run, ascending; runs are made of whole blocks inside the
                parent, none finer than the shard's cells, and do not overlap.
            last: the last leaf of each.
        """
        start, step = np.uint64(self._first - self._step // 2), np.uint64(self._step)
        begin = np.searchsorted(self._offsets, (first - start) // step, side="left")
        end = np.searchsorted(self._offsets, (last - start) // step, side="right")
        counts = end - begin
        skipped = np.repeat(begin - (np.cumsum(counts) - counts), counts)
        return skipped + np.arange(len(skipped))

    def scan(
        self, table: npt.NDArray[np.float32], rows: Rows | None = None, *, use_kernel: bool = True
    ) -> npt.NDArray[np.float32]:
        """Return the exact scores of rows (all, where None) under a query's look-up table."""
        if self.blocks is not None:
            rows = np.arange(len(self)) if rows is None else rows
            return kernel.scan_blocks(table, self.blocks, rows)
        return kernel.scan(table, self._stored, rows, bits=self._bits, use_kernel=use_kernel)

    def search(
        self, table: npt.NDArray[np.float32], *, k: int, expansion: int
    ) -> tuple[Cells, npt.NDArray[np.float32]]:
        """Return up to `k` cells and their scores, best first, by the graph, which may miss some.

        Args:
            table: the query's look-up table.
            k: how many cells.
            expansion: how many candidates the search keeps; more find more and take longer.
        """
        if self._graph is None:
            raise ValueError("this shard has no graph: use `scan`")
        with self._lock:  # the graph's search works in buffers of its own, one set for all threads
            return self._graph.search(table, k=k, bits=self._bits, expansion=expansion)

    def _self_test(self, quantizer: ProductQuantizer) -> None:
        """Search for the first cell: the graph must score it, and call it, as its pq code does.

        USearch forgets a metric of ours whenever it loads, without a word; then nothing matches.
        """
        table = quantizer.lookup_table(quantizer.decode(self.pq_codes[:1])[0])
        cells, scores = self.search(table, k=1, expansion=1)
        if len(cells) != 1:
            raise ShardFormatError("the graph of a shard finds nothing")
        row = int(np.searchsorted(self.cells(), cells[0]))
        if row == len(self) or self.cells()[row] != cells[0]:
            raise ShardFormatError(f"the graph of a shard knows cell {cells[0]:#x}, its list not")
        wanted = self.scan(table, np.array([row]))[0]
        if not abs(scores[0] - wanted) <= 1e-4 * max(1.0, abs(wanted)):
            raise ShardFormatError(f"the graph scores a cell {scores[0]}, its pq code {wanted}")


def _offsets(cells: Cells, parent: int) -> tuple[npt.NDArray[np.unsignedinteger], int]:
    """Return how far along the curve each cell stands, and the cells' level."""
    cells = np.asarray(cells, np.uint64)
    if cells.ndim != 1 or len(cells) == 0 or (cells[1:] <= cells[:-1]).any():
        raise ValueError("cells of a shard: want at least one, ascending")
    levels = s2.level_of(cells)
    level, depth = int(levels[0]), int(levels[0] - s2.level_of(parent))
    if (levels != level).any() or not 0 <= depth <= MAX_DEPTH:
        raise ValueError(f"cells of a shard: want one level, 0 to {MAX_DEPTH} below the parent's")
    first, last = s2.descendant_range(parent, level=level)
    if cells[0] < first or cells[-1] > last:
        raise ValueError(f"a cell lies outside the shard's parent {s2.token_from_cell(parent)}")
    step = np.uint64(2 << (2 * (s2.MAX_LEVEL - level)))
    return ((cells - first) // step).astype(_offset_type(depth)), level


def _offset_type(depth: int) -> str:
    """Return the smallest type for the offsets of cells that many levels below their parent."""
    return "<u2" if depth <= 8 else "<u4"


def _read_header(cells: bytes | memoryview) -> tuple[str, int, int, int, int]:
    if len(cells) < _HEADER.size:
        raise ShardFormatError(f"a cells file of {len(cells)} bytes has no room for its header")
    magic, version, kind, parent, level, num_cells, num_bytes, zero = _HEADER.unpack(
        cells[: _HEADER.size]
    )
    if magic != _MAGIC:
        raise ShardFormatError(f"a cells file starts with {_MAGIC!r}, this with {magic!r}")
    if version != _VERSION:
        raise ShardFormatError(f"shard version {version}, this reader knows {_VERSION}")
    if kind >= len(KINDS) or zero != 0 or num_cells == 0:
        raise ShardFormatError(f"a shard of kind {kind} with {num_cells} cells")
    try:
        depth = level - int(s2.level_of(parent))
    except ValueError as e:
        raise ShardFormatError(f"a shard's parent: {e}") from e
    if not (level <= s2.MAX_LEVEL and 0 <= depth <= MAX_DEPTH):
        raise ShardFormatError(f"cells of level {level} under {s2.token_from_cell(parent)}")
    return KINDS[kind], parent, level, num_cells, num_bytes


def _read_offsets(
    cells: bytes | memoryview, num_cells: int, *, depth: int
) -> npt.NDArray[np.unsignedinteger]:
    dtype = np.dtype(_offset_type(depth))
    wanted = _HEADER.size + num_cells * dtype.itemsize
    if len(cells) != wanted:
        raise ShardFormatError(f"a cells file of {len(cells)} bytes, its header says {wanted}")
    offsets = np.frombuffer(cells, dtype, offset=_HEADER.size)
    if (offsets[1:] <= offsets[:-1]).any() or int(offsets[-1]) >= 4**depth:
        raise ShardFormatError("the cells of a shard are not ascending inside their parent")
    return offsets


def _read_payload(
    payload: bytes | memoryview, kind: str, shape: tuple[int, int], *, bits: int
) -> PQCodes:
    """Return the pq codes of a payload in place, of kind "scan" with 4 bits in blocks."""
    start = 0 if kind == "scan" else _MATRIX_AT
    in_blocks = kind == "scan" and bits == 4
    stored = (-(-shape[0] // kernel.BLOCK), shape[1], kernel.BLOCK) if in_blocks else shape
    size = math.prod(stored)
    if len(payload) < start + size or (kind == "scan" and len(payload) != size):
        raise ShardFormatError(f"a payload of {len(payload)} bytes for {shape[0]} x {shape[1]}")
    if kind == "usearch" and struct.unpack_from("<II", payload) != shape:
        raise ShardFormatError("a shard's USearch file and its cells file differ in size")
    return np.frombuffer(payload, np.uint8, size, start).reshape(stored)
