"""Loads the C kernel, where there is one; the NumPy twin of each function stands beside it.

The kernel is found by its file, not as a Python extension, so one build serves all versions.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

KERNEL_VERSION = 5
BLOCK = 32  # cells of a block
MAX_SHORTLIST = 512  # sub-quantizers at most
_DISK_RUNS = 4096  # room for the runs of a disk at first; a second try has enough
_LIBRARY = Path(__file__).with_name("geofix_kernel.so")

Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Cells = npt.NDArray[np.uint64]


@lru_cache(maxsize=1)
def load_kernel() -> ctypes.CDLL | None:
    """Return the kernel, or None where it was not built or has another interface."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError:
        return None
    library.geofix_kernel_version.restype = ctypes.c_int
    if library.geofix_kernel_version() != KERNEL_VERSION:
        return None
    number, size, array = ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p
    library.geofix_scan.argtypes = [array, number, number, array, array, size, array]
    library.geofix_scan.restype = None
    library.geofix_shortlist.argtypes = [array, number, array, array, size, size, array, array]
    library.geofix_shortlist.restype = size
    library.geofix_disk.argtypes = [
        array, size, number, array, ctypes.c_double, ctypes.c_double, array, array, size
    ]  # fmt: skip
    library.geofix_disk.restype = size
    library.geofix_assign.argtypes = [
        array, array, size, array, array, number, number, number, ctypes.c_float, number, array
    ]  # fmt: skip
    library.geofix_assign.restype = None
    library.geofix_instructions.restype = ctypes.c_char_p
    for setter in (library.geofix_set_query, library.geofix_set_products):
        setter.argtypes, setter.restype = [array, number, number], None
    return library


def kernel_version() -> int | None:
    """Return the version of the loaded kernel, None where search runs in NumPy."""
    return None if load_kernel() is None else KERNEL_VERSION


def instructions() -> str:
    """Return what free searches of 4-bit codes run on: "avx2", "neon", "portable" or "numpy"."""
    library = load_kernel()
    if library is None:
        return "numpy"
    name: bytes = library.geofix_instructions()
    return name.decode()


def scan(
    table: Floats,
    pq_codes: PQCodes,
    rows: Rows | None = None,
    *,
    bits: int,
    use_kernel: bool = True,
) -> Floats:
    """Return the scores (N,) of pq codes (all, where `rows` is None) under a look-up table.

    Args:
        table: (M, 2^bits).
        pq_codes: (R, bytes).
        rows: (N,), each from 0 to R - 1.
        bits: 4 or 8.
        use_kernel: False scans in NumPy.

    Raises:
        ValueError: a table of another shape.
        IndexError: a row that there is not.
    """
    if table.shape != (pq_codes.shape[1] * 8 // bits, 2**bits):
        raise ValueError(
            f"table has shape {table.shape}, want {(pq_codes.shape[1] * 8 // bits, 2**bits)}"
        )
    if rows is not None and len(rows) and not 0 <= rows.min() <= rows.max() < len(pq_codes):
        raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(pq_codes)} pq codes")
    library = load_kernel() if use_kernel else None
    if library is None:
        return scan_numpy(table, pq_codes if rows is None else pq_codes[rows], bits=bits)
    table = np.ascontiguousarray(table, np.float32)
    pq_codes = np.ascontiguousarray(pq_codes)
    scores = np.empty(len(pq_codes if rows is None else rows), np.float32)
    rows = None if rows is None else np.ascontiguousarray(rows, np.int64)
    library.geofix_scan(
        table.ctypes.data, len(table), bits, pq_codes.ctypes.data,
        None if rows is None else rows.ctypes.data, len(scores), scores.ctypes.data,
    )  # fmt: skip
    return scores


def scan_numpy(table: Floats, pq_codes: PQCodes, *, bits: int) -> Floats:
    """Return what `scan` returns, to the last bit: one sub-quantizer after the other."""
    scores = np.zeros(len(pq_codes), np.float32)
    for m, row in enumerate(table):
        scores += row[entries(pq_codes, m, bits=bits)]
    return scores


def to_blocks(pq_codes: PQCodes) -> PQCodes:
    """Return 4-bit pq codes (N, B) in transposed blocks (ceil(N / 32), B, 32), filled up with 0."""
    num, num_bytes = pq_codes.shape
    whole = np.zeros((-(-num // BLOCK) * BLOCK, num_bytes), np.uint8)
    whole[:num] = pq_codes
    return np.ascontiguousarray(whole.reshape(-1, BLOCK, num_bytes).swapaxes(1, 2))


def from_blocks(blocks: PQCodes, num: int) -> PQCodes:
    """Return the pq codes (N, B) of blocks."""
    return np.ascontiguousarray(blocks.swapaxes(1, 2)).reshape(-1, blocks.shape[1])[:num]


def scan_blocks(table: Floats, blocks: PQCodes, rows: Rows) -> Floats:
    """Return the scores of rows (N,) of blocks, as `scan` gives them, under a table (M, 16)."""
    if table.shape != (2 * blocks.shape[1], 16):
        raise ValueError(f"table has shape {table.shape}, want {(2 * blocks.shape[1], 16)}")
    return scan_numpy(table, blocks[rows // BLOCK, :, rows % BLOCK], bits=4)


class Shortlist:
    """Finds the cells of many blocks that can be among the k best; for 4-bit pq codes.

    Not without the kernel, nor for more than `MAX_SHORTLIST` sub-quantizers.
    """

    def __init__(
        self, library: ctypes.CDLL, addresses: npt.NDArray[np.uintp], masks: npt.NDArray[np.uint32]
    ) -> None:
        """Take where blocks start (N,) and which of their cells count, bit by bit (N,).

        The blocks must stay where they are while this is used.
        """
        self._library = library
        self._addresses, self._masks = addresses, masks

    def search(self, table: Floats, k: int) -> tuple[Rows, Floats]:
        """Return cells, as numbers of blocks times 32 plus places in them, and their scores.

        Among them are the k best, and all cells that score as high as the last of these; they are
        all cells, ascending, where there are no more than k.

        Args:
            table: (M, 16), of as many sub-quantizers as the blocks are of.
            k: at least 1.
        """
        table = np.ascontiguousarray(table, np.float32)
        total = len(self._masks) * BLOCK
        rows, scores = np.empty(total, np.uint32), np.empty(total, np.float32)
        num = self._library.geofix_shortlist(
            table.ctypes.data, len(table), self._addresses.ctypes.data,
            self._masks.ctypes.data, len(self._masks), min(k, total),
            rows.ctypes.data, scores.ctypes.data,
        )  # fmt: skip
        return rows[:num].astype(np.int64), scores[:num].copy()


def disk(
    library: ctypes.CDLL,
    parents: Cells,
    level: int,
    centre: npt.NDArray[np.float64],
    *,
    arc: float,
    limit: float,
) -> tuple[Cells, Cells]:
    """Return runs of the parents' descendants that lie in a disk, by their first and last leaf.

    Args:
        library: the kernel.
        parents: (N,) ascending, none inside another, none finer than `level`.
        level: of the descendants.
        centre: (3,) unit vector.
        arc: radius in radians.
        limit: square of its chord, infinite for pi and more.
    """
    parents = np.ascontiguousarray(parents, np.uint64)
    centre = np.ascontiguousarray(centre, np.float64)
    room = _DISK_RUNS
    while True:
        first, last = np.empty((2, room), np.uint64)
        num = library.geofix_disk(
            parents.ctypes.data, len(parents), level, centre.ctypes.data, arc, limit,
            first.ctypes.data, last.ctypes.data, room,
        )  # fmt: skip
        if num <= room:
            return first[:num], last[:num]
        room = num


def assign(
    library: ctypes.CDLL,
    vectors: Floats,
    directions: Floats,
    centroids: Floats,
    squares: Floats,
    *,
    weight: float,
    num_sweeps: int,
) -> PQCodes:
    """Return the centroid of each subspace of each vector, (N, M); see `score_aware.assign`.

    Args:
        library: the kernel.
        vectors: (N, D), rotated.
        directions: (N, D), of unit length.
        centroids: (M, K, D / M).
        squares: (M, K), their inner products with themselves.
        weight: of the error along a vector.
        num_sweeps: over the subspaces.
    """
    columns = np.ascontiguousarray(centroids.swapaxes(1, 2))
    arrays = [np.ascontiguousarray(a, np.float32) for a in (vectors, directions, columns, squares)]
    chosen = np.empty((len(vectors), len(centroids)), np.uint8)
    library.geofix_assign(
        arrays[0].ctypes.data, arrays[1].ctypes.data, len(vectors), arrays[2].ctypes.data,
        arrays[3].ctypes.data, *columns.shape, weight, num_sweeps, chosen.ctypes.data,
    )  # fmt: skip
    return chosen


def entries(pq_codes: PQCodes, subspace: int, *, bits: int) -> PQCodes:
    """Return the centroid numbers (N,) of one sub-quantizer."""
    if bits == 8:
        return pq_codes[:, subspace]
    pair = pq_codes[:, subspace // 2]
    return np.asarray(pair >> 4 if subspace % 2 else pair & 15, np.uint8)


@contextmanager
def query(library: ctypes.CDLL, table: Floats, *, bits: int) -> Iterator[None]:
    """Make `table` the calling thread's query while the context lasts."""
    table = np.ascontiguousarray(table, np.float32)
    library.geofix_set_query(table.ctypes.data, len(table), bits)
    try:
        yield
    finally:
        library.geofix_set_query(None, 0, bits)


@contextmanager
def products(library: ctypes.CDLL, centroids: Floats, *, bits: int) -> Iterator[None]:
    """Let the symmetric metric compare with `centroids` (M, 2^bits, d) while the context lasts."""
    table = np.ascontiguousarray(np.einsum("mad,mbd->mab", centroids, centroids), np.float32)
    library.geofix_set_products(table.ctypes.data, len(table), bits)
    try:
        yield
    finally:
        library.geofix_set_products(None, 0, bits)


def metric_address(library: ctypes.CDLL, name: str) -> int:
    """Return the address of one of the kernel's metrics, as USearch wants it."""
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    if address is None:
        raise RuntimeError(f"the kernel has no function {name}")
    return address
