"""S2's Hilbert curve in NumPy: between a place on a face of the cube and a cell id.

A leaf, a cell of level 30, lies at (i, j) on its face, each from 0 to 2^30 - 1. An id is the face,
the leaf's position along the curve as far as the cell's level, a one, and zeros. Nothing is checked
here.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_LEVEL = 30

Cells = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_SWAP, _INVERT = 1, 2
_CHUNK_BITS = 4  # bits of i and of j that one look-up turns into Hilbert order
_ONE = np.uint64(1)


def cell_from_face_ij(face: Ints, i: Ints, j: Ints, level: int) -> Cells:
    """Return the ancestors at `level` of leaves (i, j)."""
    i, j = i.astype(np.uint64), j.astype(np.uint64)
    state = (face & _SWAP).astype(np.uint64)
    ids = face.astype(np.uint64) << np.uint64(60)
    mask = np.uint64((1 << _CHUNK_BITS) - 1)
    for chunk in range(7, 7 - _num_chunks(level), -1):
        shift = np.uint64(chunk * _CHUNK_BITS)
        key = state + (((i >> shift) & mask) << np.uint64(_CHUNK_BITS + 2))
        found = _POSITION[key + (((j >> shift) & mask) << np.uint64(2))]
        ids |= (found >> np.uint64(2)) << np.uint64(2 * chunk * _CHUNK_BITS)
        state = found & np.uint64(_SWAP | _INVERT)
    bit = bit_of_level(level)
    leaves = (ids << _ONE) | _ONE
    return np.asarray((leaves & ~(bit - _ONE) & ~bit) | bit)


def face_ij(ids: Cells, *, level: int) -> tuple[Ints, Ints, Ints]:
    """Return the face of each cell, and i and j of a leaf in it.

    Args:
        ids: cells.
        level: of the finest; what is below may be any leaf of the cell.
    """
    face = (ids >> np.uint64(61)).astype(np.int64)
    i, j = np.zeros_like(ids), np.zeros_like(ids)
    state = (face & _SWAP).astype(np.uint64)
    mask = np.uint64((1 << _CHUNK_BITS) - 1)
    for chunk in range(7, 7 - _num_chunks(level), -1):
        bits = 2 if chunk == 7 else _CHUNK_BITS
        take = np.uint64((1 << (2 * bits)) - 1)
        part = (ids >> np.uint64(2 * chunk * _CHUNK_BITS + 1)) & take
        found = _IJ[state + (part << np.uint64(2))]
        shift = np.uint64(chunk * _CHUNK_BITS)
        i += (found >> np.uint64(_CHUNK_BITS + 2)) << shift
        j += ((found >> np.uint64(2)) & mask) << shift
        state = found & np.uint64(_SWAP | _INVERT)
    return face, i.astype(np.int64), j.astype(np.int64)


def bit_of_level(level: int) -> np.uint64:
    """Return the lowest bit of the ids of a level."""
    return np.uint64(1 << (2 * (MAX_LEVEL - level)))


def _num_chunks(level: int) -> int:
    """Return how many chunks of the Hilbert curve a level takes; the highest holds 2 levels."""
    return 1 + (max(level, 2) - 2 + 3) // _CHUNK_BITS


def _tables() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the look-up tables between 4 + 4 bits of (i, j) and 8 bits of Hilbert position.

    An index holds the bits above the curve's orientation (2 bits), as in S2.
    """
    quarter_ij = ((0, 1, 3, 2), (0, 2, 3, 1), (3, 2, 0, 1), (3, 1, 0, 2))
    turn = (_SWAP, 0, 0, _INVERT | _SWAP)
    position = np.zeros(1 << (2 * _CHUNK_BITS + 2), np.uint64)
    ij = np.zeros_like(position)

    def visit(depth: int, i: int, j: int, start: int, pos: int, orientation: int) -> None:
        if depth == _CHUNK_BITS:
            key = (i << _CHUNK_BITS) + j
            position[(key << 2) + start] = (pos << 2) + orientation
            ij[(pos << 2) + start] = (key << 2) + orientation
            return
        for quarter in range(4):
            where = quarter_ij[orientation][quarter]
            visit(
                depth + 1,
                (i << 1) + (where >> 1),
                (j << 1) + (where & 1),
                start,
                (pos << 2) + quarter,
                orientation ^ turn[quarter],
            )

    for start in (0, _SWAP, _INVERT, _SWAP | _INVERT):
        visit(0, 0, 0, start, 0, start)
    return position, ij


_POSITION, _IJ = _tables()
