"""S2 cells in NumPy: from positions to ids and back, families, neighbours, interpolation weights.

Ids are uint64 as in S2 (face, Hilbert curve, quadratic projection); 0 is never a cell. Positions
are WGS84 degrees, latitude first. Everything takes arrays of any shape and gives arrays of the
same shape, except where a function says that it takes one cell.

The geometry follows S2 (s2geometry.io): https://s2geometry.io/devguide/s2cell_hierarchy
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_index.curve import MAX_LEVEL as MAX_LEVEL  # part of this module, too
from geofix_index.curve import bit_of_level, cell_from_face_ij, face_ij
from geofix_index.sphere import EARTH_RADIUS_M, unit_vectors

Cells = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MAX_SIZE = 1 << MAX_LEVEL
_JUST_OUTSIDE = 1 + 2.0**-52  # of a cube face, whose u and v end at 1: the next float64
_ONE = np.uint64(1)


def cell_from_latlon(lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike, *, level: int) -> Cells:
    """Return the cells of `level` that contain the positions.

    Raises:
        ValueError: a latitude beyond 90 degrees, a longitude beyond 180, a value that is not
            finite (the message names the first), or a level that is none.
    """
    _check_level(level)
    face, u, v = _face_uv(*_xyz(*_checked(lat_deg, lon_deg)))
    i, j = (_ij_from_st(_st_from_uv(t)) for t in (u, v))
    return cell_from_face_ij(face, i, j, level)


def latlon_from_cell(cells: npt.ArrayLike) -> Floats:
    """Return the centres, (..., 2) degrees."""
    return _latlon(*_xyz_from_face_uv(*_centre_uv(_checked_cells(cells))))


def centre_vectors(cells: npt.ArrayLike) -> Floats:
    """Return the centres as unit vectors, (3, ...)."""
    face, u, v = _centre_uv(_checked_cells(cells))
    return np.stack(_xyz_from_face_uv(face, u, v)) / np.sqrt(1 + u * u + v * v)


def vertices(cells: npt.ArrayLike) -> Floats:
    """Return the four corners in counter-clockwise order, (..., 4, 2) degrees."""
    face, i, j, size = _face_ij(_checked_cells(cells))
    corners = []
    for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
        s, t = ((k + d * size) / _MAX_SIZE for k, d in ((i, di), (j, dj)))
        corners.append(_latlon(*_xyz_from_face_uv(face, _uv_from_st(s), _uv_from_st(t))))
    return np.stack(corners, axis=-2)


def area_m2(cells: npt.ArrayLike) -> Floats:
    """Return the areas on the sphere: of the two triangles that a diagonal makes of each cell.

    The spherical excess of a triangle is 2 atan2(a . b x c, 1 + a.b + b.c + c.a) (Van Oosterom and
    Strackee, 1983).
    """
    corners = unit_vectors(*np.moveaxis(vertices(cells), -1, 0))
    a, b, c, d = (corners[..., i, :] for i in range(4))
    excess = [
        2 * np.arctan2(
            (p * np.cross(q, r)).sum(axis=-1),
            1 + (p * q).sum(axis=-1) + (q * r).sum(axis=-1) + (r * p).sum(axis=-1),
        )
        for p, q, r in ((a, b, c), (a, c, d))
    ]  # fmt: skip
    return np.asarray(EARTH_RADIUS_M**2 * (excess[0] + excess[1]))


def level_of(cells: npt.ArrayLike) -> Ints:
    """Return the level of each cell."""
    ids = _checked_cells(cells)
    _, exponent = np.frexp(_lowest_bit(ids).astype(np.float64))  # exact for a power of two
    return MAX_LEVEL - (exponent.astype(np.int64) - 1) // 2


def parent(cells: npt.ArrayLike, *, level: int) -> Cells:
    """Return the ancestors at `level`; raise ValueError where a cell is coarser than that."""
    _check_level(level)
    ids = _checked_cells(cells)
    bit = bit_of_level(level)
    if (_lowest_bit(ids) > bit).any():
        worst = int(level_of(ids).min())
        raise ValueError(f"a cell of level {worst} has no parent at level {level}")
    return np.asarray((ids & ~(bit - _ONE) & ~bit) | bit)


def leaf_range(cells: npt.ArrayLike) -> tuple[Cells, Cells]:
    """Return the first and the last leaf inside each cell, both inclusive."""
    ids = _checked_cells(cells)
    reach = _lowest_bit(ids) - _ONE
    return ids - reach, ids + reach


def descendant_range(cells: npt.ArrayLike, *, level: int) -> tuple[Cells, Cells]:
    """Return the first and the last descendant at `level` of each cell, both inclusive."""
    _check_level(level)
    ids = _checked_cells(cells)
    bit = bit_of_level(level)
    if (_lowest_bit(ids) < bit).any():
        raise ValueError(f"a cell finer than level {level} has no descendants there")
    reach = _lowest_bit(ids) - bit
    return ids - reach, ids + reach


def descendants(cells: npt.ArrayLike, *, level: int) -> Cells:
    """Return all descendants at `level`, sorted, one flat array; cells must not overlap."""
    first, last = descendant_range(np.sort(np.ravel(np.asarray(cells, np.uint64))), level=level)
    step = bit_of_level(level) << _ONE
    counts = ((last - first) // step + _ONE).astype(np.int64)
    start = np.repeat(first, counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(start + number.astype(np.uint64) * step)


def token_from_cell(cell: int) -> str:
    """Return S2's short text form of one cell: hexadecimal without trailing zeros."""
    return f"{int(_checked_cells(cell)):016x}".rstrip("0")


def cell_from_token(token: str) -> int:
    """Return the cell of a token; raise ValueError where it is none."""
    digits = token.ljust(16, "0")
    if not token or len(digits) != 16 or any(c not in "0123456789abcdef" for c in digits):
        raise ValueError(f"cell token is {token!r}, want 1 to 16 hexadecimal digits, lower case")
    return int(_checked_cells(int(digits, 16)))


_AROUND = [(di, dj) for di in (-1, 0, 1) for dj in (-1, 0, 1) if (di, dj) != (0, 0)]


def neighbours(cells: npt.ArrayLike) -> Cells:
    """Return the cells around each cell at its own level, (..., 8).

    In the order of (i, j) offsets (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0),
    (1, 1) on the cell's face. At a corner of the cube, where three faces meet, one is 0.
    """
    ids = _checked_cells(cells)
    face, i, j, size = _face_ij(ids)
    di, dj = np.array(_AROUND).T
    i, j = (k[..., None] + step * size[..., None] for k, step in ((i, di), (j, dj)))
    leaf = _cell_wrapped(face[..., None], i, j, size[..., None])
    bit = _lowest_bit(ids)[..., None]
    return np.where(leaf == 0, leaf, (leaf & ~(bit - _ONE) & ~bit) | bit)


def mean_edge_m(level: int) -> float:
    """Return the edge of a square of a level's mean cell area: 281 m at 15, 141 m at 16."""
    _check_level(level)
    return EARTH_RADIUS_M * math.sqrt(4 * math.pi / 6) / float(2**level)


def bilinear_cells(
    lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike, *, level: int
) -> tuple[Cells, Floats]:
    """Return the 2 x 2 cells whose centres surround each position, and their bilinear weights.

    Taken in the continuous (i, j) coordinates of the position's cube face. Beyond an edge of the
    face the neighbouring face's cell stands in. At a corner of the cube there is no fourth cell:
    it is 0 with weight 0, and the rest is renormalized.

    Returns:
        Cells (..., 4) and weights (..., 4), which sum to 1.
    """
    _check_level(level)
    face, u, v = _face_uv(*_xyz(*_checked(lat_deg, lon_deg)))
    size = 1 << (MAX_LEVEL - level)
    x, y = (_st_from_uv(t) * (1 << level) - 0.5 for t in (u, v))
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, up = x - column, y - row
    cells, weights = [], []
    for di, dj in ((0, 0), (1, 0), (0, 1), (1, 1)):
        leaf = _cell_wrapped(face, (column + di) * size, (row + dj) * size, size)
        bit = bit_of_level(level)
        cells.append(np.where(leaf == 0, leaf, (leaf & ~(bit - _ONE) & ~bit) | bit))
        weight = (right if di else 1 - right) * (up if dj else 1 - up)
        weights.append(np.where(leaf == 0, 0.0, weight))
    stacked = np.stack(weights, axis=-1)
    return np.stack(cells, axis=-1), stacked / stacked.sum(axis=-1, keepdims=True)


def _check_level(level: int) -> None:
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"level is {level}, want 0 to {MAX_LEVEL}")


def _checked(lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> tuple[Floats, Floats]:
    lat, lon = np.broadcast_arrays(np.asarray(lat_deg, float), np.asarray(lon_deg, float))
    good = (np.abs(lat) <= 90) & (np.abs(lon) <= 180)  # False for NaN, too
    if not good.all():
        first = int(np.flatnonzero(~good.ravel())[0])
        raise ValueError(
            f"position {first} is lat {lat.ravel()[first]}, lon {lon.ravel()[first]}: "
            "want degrees, lat -90 to 90, lon -180 to 180"
        )
    return lat, lon


def _checked_cells(cells: npt.ArrayLike) -> Cells:
    ids = np.asarray(cells, np.uint64)
    bit = _lowest_bit(ids)
    is_cell = (ids >> np.uint64(61) < 6) & ((bit & np.uint64(0x1555555555555555)) != 0)
    if not is_cell.all():
        first = int(np.flatnonzero(~is_cell.ravel())[0])
        raise ValueError(f"cell {first} is {int(ids.ravel()[first]):#x}, which is no S2 cell id")
    return ids


def _lowest_bit(ids: Cells) -> Cells:
    return np.asarray(ids & np.add(~ids, _ONE))  # "+" would warn where the only id is 0


def _centre_uv(ids: Cells) -> tuple[Ints, Floats, Floats]:
    """Return the face and, on it, u and v of each cell's centre."""
    face, i, j, size = _face_ij(ids)
    # The centre of a cell in units of half a leaf; exact in float64.
    s, t = ((2 * k + size) / (2 * _MAX_SIZE) for k in (i, j))
    return face, _uv_from_st(s), _uv_from_st(t)


def _xyz(lat_deg: Floats, lon_deg: Floats) -> tuple[Floats, Floats, Floats]:
    lat, lon = np.radians(lat_deg), np.radians(lon_deg)
    cos_lat = np.cos(lat)
    return np.cos(lon) * cos_lat, np.sin(lon) * cos_lat, np.sin(lat)


def _latlon(x: Floats, y: Floats, z: Floats) -> Floats:
    lat, lon = np.arctan2(z, np.sqrt(x * x + y * y)), np.arctan2(y, x)
    return np.asarray(np.degrees(np.stack([lat, lon], axis=-1)))


def _face_uv(x: Floats, y: Floats, z: Floats) -> tuple[Ints, Floats, Floats]:
    """Project points to the cube: the face, and u and v from -1 to 1 on it."""
    xyz = np.stack([x, y, z])
    axis = _main_axis(xyz)
    main = np.choose(axis, xyz)
    face = axis + 3 * (main < 0)
    u = np.choose(face, [y, -x, -x, z, z, -y]) / main
    v = np.choose(face, [z, z, -y, y, -x, -x]) / main
    return face, u, v


def _main_axis(xyz: Floats) -> Ints:
    """Return the axis of the largest component; among equals S2 prefers z to y to x."""
    a, b, c = np.abs(xyz)
    return np.where(a > b, np.where(a > c, 0, 2), np.where(b > c, 1, 2)).astype(np.int64)


def _xyz_from_face_uv(face: Ints, u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    one = np.ones_like(u)
    if np.size(face) and (face == face.flat[0]).all():  # a region seldom has several
        a, b = u, v
        on_face = (
            (one, a, b),
            (-a, one, b),
            (-a, -b, one),
            (-one, -b, -a),
            (b, -one, -a),
            (b, a, -one),
        )
        return on_face[int(face.flat[0])]
    return (
        np.choose(face, [one, -u, -u, -one, v, v]),
        np.choose(face, [u, one, -v, -v, -one, u]),
        np.choose(face, [v, v, one, -u, -u, -one]),
    )


def _st_from_uv(u: Floats) -> Floats:
    """S2's quadratic projection, which makes cells of one level nearly equal in area."""
    root = 0.5 * np.sqrt(1 + 3 * np.abs(u))
    return np.asarray(np.where(u >= 0, root, 1 - root))


def _uv_from_st(s: Floats) -> Floats:
    return np.asarray(np.where(s >= 0.5, (4 * s * s - 1) / 3, (1 - 4 * (1 - s) * (1 - s)) / 3))


def _ij_from_st(s: Floats) -> Ints:
    return np.clip(np.floor(_MAX_SIZE * s), 0, _MAX_SIZE - 1).astype(np.int64)


def _face_ij(ids: Cells) -> tuple[Ints, Ints, Ints, Ints]:
    """Return each cell's face, its first leaf along i and along j, and its edge in leaves."""
    level = level_of(ids)
    face, i, j = face_ij(ids, level=int(level.max(initial=0)))
    size = np.asarray(np.int64(1) << (MAX_LEVEL - level))
    return face, i & -size, j & -size, size


def _cell_wrapped(face: Ints, i: Ints, j: Ints, size: Any) -> Cells:
    """Return the cell of `size` leaves at (i, j), which may lie beyond the face's edge, or a part.

    Returns 0 where the cell would lie beyond a corner of the cube.
    """
    out_i, out_j = (i < 0) | (i >= _MAX_SIZE), (j < 0) | (j >= _MAX_SIZE)
    if not (out_i.any() or out_j.any()):
        finest = MAX_LEVEL + 1 - int(np.min(size)).bit_length()
        return cell_from_face_ij(np.broadcast_to(face, np.shape(i)), i, j, finest)
    # Just outside the edge, in the middle of the cell along it (as S2 does it, on the plane that
    # continues the face); there the projection to the neighbouring face keeps the position. Half a
    # leaf outside would be too far: near a corner of the cube it shifts cells of level 29 and 30.
    a, b = (
        np.where(out, np.clip(k, -1, _MAX_SIZE), k + np.asarray(size) // 2)
        for k, out in ((i, out_i), (j, out_j))
    )
    u, v = (
        np.clip((2 * k + 1 - _MAX_SIZE) / _MAX_SIZE, -_JUST_OUTSIDE, _JUST_OUTSIDE) for k in (a, b)
    )
    other, u, v = _face_uv(*_xyz_from_face_uv(face, u, v))
    wrapped = [_ij_from_st(0.5 * (t + 1)) for t in (u, v)]
    outside = out_i | out_j
    leaf = cell_from_face_ij(
        np.where(outside, other, face),
        np.where(outside, wrapped[0], np.clip(a, 0, _MAX_SIZE - 1)),
        np.where(outside, wrapped[1], np.clip(b, 0, _MAX_SIZE - 1)),
        MAX_LEVEL,
    )
    return np.where(out_i & out_j, np.uint64(0), leaf)
