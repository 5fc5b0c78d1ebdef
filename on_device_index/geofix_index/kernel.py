"""Loads the C kernel, where there is one; the NumPy twin of each function stands beside it.

The kernel is found by its file, not as a Python extension, so one build serves all versions.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KERNEL_VERSION = 1
_LIBRARY = Path(__file__).with_name("geofix_kernel.so")
_FLOATS = ctypes.POINTER(ctypes.c_float)
_BYTES = ctypes.POINTER(ctypes.c_uint8)

Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]


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
    for setter in (library.geofix_set_query, library.geofix_set_products):
        setter.argtypes, setter.restype = [_FLOATS, size, size], None
    return library


def kernel_version() -> int | None:
    """Return the version of the loaded kernel, None where search runs in NumPy."""
    return None if load_kernel() is None else KERNEL_VERSION


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
