"""Product quantization of cell codes: a rotation, then each subspace coded by its centroids.

Optimized product quantization (Ge et al., CVPR 2013): rotation and centroids are learned in turns;
then centroids, and the choice among them, heed what an error does to scores (`score_aware`). Search
compares a float query with quantized codes (asymmetric), by inner product.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix_index.errors import ShardFormatError
from geofix_index.kernel import entries
from geofix_index.score_aware import assign, refine

_MAGIC = b"GFXCBOOK"
_VERSION = 1
_HEADER = struct.Struct("<8sIIII")  # magic, version, dim, number of subspaces, bits
_MAX_DIM = 65_536
_ROTATION_ROUNDS = 12
_KMEANS_ROUNDS = 2  # after each rotation: turning more often gains more than settling in between
_FINAL_ROUNDS = 6
_BLOCK = 16_384  # vectors that are encoded at once
_SAMPLE = 65_536  # vectors that are learned from, at most: 256 to a centroid

Floats = npt.NDArray[np.float32]
PQCodes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ProductQuantizer:
    """A trained quantizer. Vectors are rotated (x @ rotation), then coded part by part."""

    rotation: Floats  # (D, D), orthonormal
    centroids: Floats  # (M, 2^bits, D / M)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return len(self.rotation)

    @property
    def num_subspaces(self) -> int:
        """Number of sub-quantizers, M."""
        return len(self.centroids)

    @property
    def bits(self) -> int:
        """Bits a sub-quantizer gives, 4 or 8."""
        return 4 if self.centroids.shape[1] == 16 else 8

    @property
    def bytes_per_cell(self) -> int:
        """Length of a pq code."""
        return self.num_subspaces * self.bits // 8

    @classmethod
    def train(
        cls, vectors: Floats, *, num_subspaces: int, bits: int = 8, seed: int = 0
    ) -> "ProductQuantizer":
        """Learn a quantizer from vectors (N, D), or from a sample where they are many.

        Deterministic for a seed on one type of CPU (matrix products differ in the last bits
        between types).

        Raises:
            ValueError: D is no multiple of M, bits is not 4 or 8, M is odd with 4 bits, vectors
                that are not finite, or fewer vectors than centroids.
        """
        num, dim = _checked_shape(vectors)
        if bits not in (4, 8):
            raise ValueError(f"bits is {bits}, want 4 or 8")
        if num_subspaces < 1 or dim % num_subspaces or (bits == 4 and num_subspaces % 2):
            even = "an even divisor" if bits == 4 else "a divisor"
            raise ValueError(f"num_subspaces is {num_subspaces}, want {even} of {dim}")
        if num < 2**bits:
            raise ValueError(
                f"{num} vectors cannot fill {2**bits} centroids: "
                + ("use bits=4" if bits == 8 and num >= 16 else "want at least 16 vectors")
            )
        rng = np.random.default_rng(seed)
        if num > _SAMPLE:
            vectors = vectors[np.sort(rng.choice(num, _SAMPLE, replace=False))]
        vectors = _checked_vectors(vectors)
        rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
        centroids = _start(vectors @ rotation, num_subspaces, 2**bits, rng)
        for _ in range(_ROTATION_ROUNDS):
            rotated = vectors @ rotation
            centroids, nearest = _kmeans(rotated, centroids, rounds=_KMEANS_ROUNDS)
            rebuilt = _gather(centroids, nearest)
            left, _, right = np.linalg.svd(vectors.T @ rebuilt)  # orthogonal Procrustes
            rotation = np.ascontiguousarray(left @ right, np.float32)
        return cls(rotation, refine(vectors @ rotation, centroids, rounds=_FINAL_ROUNDS))

    def encode(self, vectors: Floats) -> PQCodes:
        """Return the pq codes (N, bytes) of vectors (N, D); the same on every processor."""
        num, _ = _checked_shape(vectors, dim=self.dim)
        parts = [self._encode_block(vectors, at) for at in range(0, num, _BLOCK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.bytes_per_cell), np.uint8)

    def _encode_block(self, vectors: Floats, at: int) -> PQCodes:
        block = _checked_vectors(vectors[at : at + _BLOCK], first=at)
        chosen = assign(_rotate(block, self.rotation), self.centroids)  # (N, M)
        if self.bits == 8:
            return chosen.astype(np.uint8)
        return (chosen[:, 0::2] | (chosen[:, 1::2] << 4)).astype(np.uint8)

    def decode(self, pq_codes: PQCodes) -> Floats:
        """Rebuild vectors (N, D) from pq codes (N, bytes)."""
        nearest = unpack(pq_codes, bits=self.bits)
        return np.asarray(_gather(self.centroids, nearest) @ self.rotation.T)

    def lookup_table(self, embedding: Floats) -> Floats:
        """Return the inner products (M, 2^bits) of an embedding's parts with the centroids.

        Raises:
            ValueError: an embedding of another length, or not finite, or too large for scores.
        """
        embedding = np.asarray(embedding, np.float32)
        if embedding.shape != (self.dim,):
            raise ValueError(f"embedding has shape {embedding.shape}, want ({self.dim},)")
        if not np.isfinite(embedding).all():
            raise ValueError("embedding holds NaN or infinity")
        with np.errstate(over="ignore", invalid="ignore"):
            parts = (embedding @ self.rotation).reshape(self.num_subspaces, -1, 1)
            table = np.ascontiguousarray(np.matmul(self.centroids, parts)[:, :, 0])
        # Sums of entries must stay finite, too.
        if not np.abs(table).max() < np.finfo(np.float32).max / self.num_subspaces:
            raise ValueError("embedding holds values so large that scores overflow")
        return table

    def to_bytes(self) -> bytes:
        """Return the codebook file; docs/shard_spec.md describes it."""
        header = _HEADER.pack(_MAGIC, _VERSION, self.dim, self.num_subspaces, self.bits)
        return (
            header + self.rotation.astype("<f4").tobytes() + self.centroids.astype("<f4").tobytes()
        )

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "ProductQuantizer":
        """Read a codebook file; raise ShardFormatError where it is none."""
        if len(data) < _HEADER.size:
            raise ShardFormatError(f"a codebook of {len(data)} bytes has no room for its header")
        magic, version, dim, num_subspaces, bits = _HEADER.unpack(data[: _HEADER.size])
        if magic != _MAGIC:
            raise ShardFormatError(f"a codebook starts with {_MAGIC!r}, this with {magic!r}")
        if version != _VERSION:
            raise ShardFormatError(f"codebook version {version}, this reader knows {_VERSION}")
        fits = bits in (4, 8) and 0 < num_subspaces <= dim <= _MAX_DIM and dim % num_subspaces == 0
        if not fits or (bits == 4 and num_subspaces % 2):
            raise ShardFormatError(f"codebook of {dim} dimensions, {num_subspaces} x {bits} bits")
        wanted = _HEADER.size + 4 * (dim * dim + dim * 2**bits)
        if len(data) != wanted:
            raise ShardFormatError(f"a codebook of {len(data)} bytes, its header says {wanted}")
        values = np.frombuffer(data, "<f4", offset=_HEADER.size)
        if not np.isfinite(values).all():
            raise ShardFormatError("a codebook with NaN or infinity")
        rotation = values[: dim * dim].reshape(dim, dim)
        return cls(rotation, values[dim * dim :].reshape(num_subspaces, 2**bits, -1))


def unpack(pq_codes: PQCodes, *, bits: int) -> npt.NDArray[np.int64]:
    """Return the centroid numbers (N, M) of pq codes (N, bytes)."""
    columns = range(pq_codes.shape[1] * 8 // bits)
    return np.stack([entries(pq_codes, m, bits=bits) for m in columns], axis=1).astype(np.int64)


def _checked_shape(vectors: Floats, *, dim: int | None = None) -> tuple[int, int]:
    shape = np.shape(vectors)
    if len(shape) != 2 or (dim is not None and shape[1] != dim):
        raise ValueError(f"vectors have shape {shape}, want (N, {dim or 'D'})")
    return shape


def _checked_vectors(vectors: Floats, *, first: int = 0) -> Floats:
    """Return vectors as float32; name the first bad one, counted from `first`."""
    vectors = np.asarray(vectors, np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"vector {first + int(np.argmin(finite))} holds NaN or infinity")
    return vectors


def _rotate(vectors: Floats, rotation: Floats) -> Floats:
    """Return `vectors @ rotation`, rounded in the same way on every processor.

    Matrix products add in orders of their own. So they get whole numbers here, whose sums float64
    holds exactly, with 22 bits of each value for 256 dimensions.
    """
    bits = (53 - math.ceil(math.log2(len(rotation)))) // 2

    def whole(values: Floats, largest: npt.NDArray[np.float32]) -> tuple[Any, Any]:
        _, exponent = np.frexp(largest)
        return np.rint(np.ldexp(values.astype(float), bits - exponent)), exponent - bits

    rows, row_exponents = whole(vectors, np.abs(vectors).max(axis=1, keepdims=True))
    columns, exponent = whole(rotation, np.abs(rotation).max())
    return np.asarray(np.ldexp(rows @ columns, row_exponents + exponent), np.float32)


def _start(
    rotated: Floats, num_subspaces: int, num_centroids: int, rng: "np.random.Generator"
) -> Floats:
    """Return vectors drawn at random as first centroids, (M, K, D / M)."""
    # The annotation is quoted: NumPy imports its randomness when it is first named.
    drawn = rotated[rng.choice(len(rotated), num_centroids, replace=False)]
    parts = drawn.reshape(num_centroids, num_subspaces, -1).swapaxes(0, 1)
    return np.ascontiguousarray(parts)


def _kmeans(
    rotated: Floats, centroids: Floats, *, rounds: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Improve centroids of all subspaces; return them and the nearest of each vector (N, M)."""
    centroids = centroids.copy()
    parts = rotated.reshape(len(rotated), len(centroids), -1)
    for _ in range(rounds):
        nearest = _nearest(rotated, centroids)
        for m, own in enumerate(nearest.T):
            num = centroids.shape[1]
            counts = np.bincount(own, minlength=num)
            sums = np.stack([np.bincount(own, x, num) for x in parts[:, m].T], axis=1)
            filled = counts > 0  # an empty centroid stays where it is
            centroids[m, filled] = sums[filled] / counts[filled, None]
    return centroids, _nearest(rotated, centroids)


def _nearest(rotated: Floats, centroids: Floats) -> npt.NDArray[np.int64]:
    """Return the nearest centroid of each part of each vector, (N, M)."""
    num_subspaces = len(centroids)
    parts = rotated.reshape(len(rotated), num_subspaces, -1)
    nearest = np.empty((len(rotated), num_subspaces), np.int64)
    for m in range(num_subspaces):
        # |x - c|^2 without |x|^2, which is the same for all centroids
        gap = (centroids[m] ** 2).sum(axis=1) - 2 * (parts[:, m] @ centroids[m].T)
        nearest[:, m] = gap.argmin(axis=1)
    return nearest


def _gather(centroids: Floats, nearest: npt.NDArray[np.integer]) -> Floats:
    """Return the vectors (N, D), still rotated, that centroid numbers (N, M) stand for."""
    chosen = centroids[np.arange(len(centroids)), nearest]  # (N, M, D / M)
    return np.asarray(chosen.reshape(len(nearest), -1))
