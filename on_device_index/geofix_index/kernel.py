"""Loads the C kernel, where there is one; the NumPy twin of each function stands beside it.

The kernel is found by its file, not as a Python extension, so one build serves all versions.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KERNEL_VERSION = 2
BLOCK = 32  # cells of a block
MAX_SHORTLIST = 512  # sub-quantizers at most
_LIBRARY = Path(__file__).with_name("geofix_kernel.so")
_FLOATS = ctypes.POINTER(ctypes.c_float)
_BYTES = ctypes.POINTER(ctypes.c_uint8)
_ROWS = ctypes.POINTER(ctypes.c_uint32)

Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


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
    size = ctypes.c_uint32
    library.geofix_scan.argtypes = [_FLOATS, size, size, _BYTES, ctypes.c_size_t, _FLOATS]
    library.geofix_scan.restype = None
    library.geofix_scan_blocks.argtypes = [
        _FLOATS, size, _BYTES, _ROWS, ctypes.c_size_t, _FLOATS
    ]  # fmt: skip
    library.geofix_scan_blocks.restype = None
    library.geofix_shortlist.argtypes = [
        _FLOATS, size, ctypes.c_void_p, _ROWS, ctypes.c_size_t, ctypes.c_size_t, _ROWS, _FLOATS
    ]  # fmt: skip
    library.geofix_shortlist.restype = ctypes.c_size_t
    library.geofix_instructions.restype = ctypes.c_char_p
    for setter in (library.geofix_set_query, library.geofix_set_products):
        setter.argtypes, setter.restype = [_FLOATS, size, size], None
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


def scan(table: Floats, pq_codes: PQCodes, *, bits: int, use_kernel: bool = True) -> Floats:
    """Return the scores (N,) of pq codes (N, bytes) under a look-up table (M, 2^bits)."""
    if table.shape != (pq_codes.shape[1] * 8 // bits, 2**bits):
        raise ValueError(
            f"table has shape {table.shape}, want {(pq_codes.shape[1] * 8 // bits, 2**bits)}"
        )
    library = load_kernel() if use_kernel else None
    if library is None:
        return scan_numpy(table, pq_codes, bits=bits)
    table = np.ascontiguousarray(table, np.float32)
    pq_codes = np.ascontiguousarray(pq_codes)
    scores = np.empty(len(pq_codes), np.float32)
    library.geofix_scan(
        _pointer(table, _FLOATS), len(table), bits, _pointer(pq_codes, _BYTES), len(pq_codes),
        _pointer(scores, _FLOATS),
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


def scan_blocks(table: Floats, blocks: PQCodes, rows: Rows, *, use_kernel: bool = True) -> Floats:
    """Return the scores of rows (N,) of blocks, as `scan` gives them, under a table (M, 16)."""
    if table.shape != (2 * blocks.shape[1], 16):
        raise ValueError(f"table has shape {table.shape}, want {(2 * blocks.shape[1], 16)}")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(blocks) * BLOCK:
        raise ValueError(f"rows reach from {rows.min()} to {rows.max()}, beyond the blocks")
    library = load_kernel() if use_kernel else None
    if library is None:
        return scan_numpy(table, blocks[rows // BLOCK, :, rows % BLOCK], bits=4)
    table = np.ascontiguousarray(table, np.float32)
    rows = np.ascontiguousarray(rows, np.uint32)
    scores = np.empty(len(rows), np.float32)
    library.geofix_scan_blocks(
        _pointer(table, _FLOATS), len(table), _pointer(blocks, _BYTES), _pointer(rows, _ROWS),
        len(rows), _pointer(scores, _FLOATS),
    )  # fmt: skip
    return scores


class Shortlist:
    """Finds the cells of many shards that can be among the k best; for 4-bit pq codes in blocks.

    Not without the kernel, nor for more than `MAX_SHORTLIST` sub-quantizers.
    """

    def __init__(self, library: ctypes.CDLL, shards: Sequence[tuple[PQCodes, int]]) -> None:
        """Take the blocks of each shard, contiguous, and how many cells they hold."""
        self._library = library
        self._blocks = [blocks for blocks, _ in shards]  # kept: their addresses are below
        self._addresses = np.array([blocks.ctypes.data for blocks in self._blocks], np.uintp)
        self._num_cells = np.array([num for _, num in shards], np.uint32)
        self.starts = np.concatenate([[0], np.cumsum(self._num_cells, dtype=np.int64)])

    def search(self, table: Floats, k: int) -> tuple[Rows, Floats]:
        """Return rows, counted through all shards, and their scores.

        Among them are the k best, and all cells that score as high as the last of these.
        """
        if table.shape != (2 * self._blocks[0].shape[1], 16):
            raise ValueError(f"table has shape {table.shape}, which is not the shards'")
        table = np.ascontiguousarray(table, np.float32)
        total = int(self.starts[-1])
        rows, scores = np.empty(total, np.uint32), np.empty(total, np.float32)
        num = self._library.geofix_shortlist(
            _pointer(table, _FLOATS), len(table), self._addresses.ctypes.data,
            _pointer(self._num_cells, _ROWS), len(self._blocks), min(k, total),
            _pointer(rows, _ROWS), _pointer(scores, _FLOATS),
        )  # fmt: skip
        return rows[:num].astype(np.int64), scores[:num].copy()


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
    library.geofix_set_query(_pointer(table, _FLOATS), len(table), bits)
    try:
        yield
    finally:
        library.geofix_set_query(None, 0, bits)


@contextmanager
def products(library: ctypes.CDLL, centroids: Floats, *, bits: int) -> Iterator[None]:
    """Let the symmetric metric compare with `centroids` (M, 2^bits, d) while the context lasts."""
    table = np.ascontiguousarray(np.einsum("mad,mbd->mab", centroids, centroids), np.float32)
    library.geofix_set_products(_pointer(table, _FLOATS), len(table), bits)
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


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(kind)
