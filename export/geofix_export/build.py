"""Build a region pack from arrays: quantize the cell codes, cut them into shards, calibrate."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.manifest import Manifest
from geofix.pack import EncoderFile, write_pack
from geofix.posterior import NUM_CANDIDATES, Calibration, fit_calibration
from geofix_index import CellIndex, ProductQuantizer, Shard, ShardFiles, build_shard
from geofix_index import cells as s2
from geofix_train.artifact import EncoderArtifact
from geofix_train.cell_codes import Queries

# Of the shards' parent cells. At level 8 a shard holds up to 65,536 cells of level 16: offsets fit
# into two bytes, and a full shard is large enough for its graph to be faster than a scan. A scan
# has no use for large shards, and a prior opens fewer bytes of small ones.
SHARD_LEVEL = {"usearch": 8, "scan": 10}
BYTES_PER_CELL = 32  # or half the dimensions, where that is less
FEW_CELLS = 256 * 39  # below, 256 centroids would learn from fewer than 39 cells each
_BLOCK = 65_536  # cell codes that are looked at at once


def build_pack(
    out: Path,
    *,
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    encoders: Sequence[EncoderArtifact] = (),
    queries: Queries | None = None,
    quantizer: ProductQuantizer | None = None,
    index: str = "usearch",
    bytes_per_cell: int | None = None,
    shard_level: int | None = None,
    pack_id: str = "",
    title: str = "",
    attribution: str = "",
    license: str = "",
    pack_version: int = 1,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Manifest:
    """Write a region pack and return its manifest.

    Args:
        out: the pack's path, written whole or not at all.
        cells: (N,) S2 cells of one level.
        cell_codes: (N, D). Read in blocks where the cells are ascending, so that they may be
            mapped from a file that does not fit into memory.
        encoders: that give query embeddings of D dimensions; none for teams that embed elsewhere.
        queries: validation embeddings with their places, to calibrate with; without them the
            pack is marked uncalibrated.
        quantizer: an earlier one, for byte-equal packs; trained on `cell_codes` if absent.
        index: kind of the shards, "usearch" or "scan".
        bytes_per_cell: of a pq code; see `train_quantizer`.
        shard_level: S2 level of the shards' parent cells; None suits the kind.
        pack_id: the same for all versions of a region; if empty, the file's name.
        title: of the region; the pack's id, if empty.
        attribution: of the imagery.
        license: of the imagery.
        pack_version: grows with each release of the region.
        provenance: where the codes come from.
        seed: of the quantizer's training.

    Raises:
        ValueError: arrays that do not fit together, not finite, or cells that are not S2 cells.
    """
    if index not in SHARD_LEVEL:
        raise ValueError(f"index is {index!r}, want 'usearch' or 'scan'")
    cells, cell_codes = _checked(cells, cell_codes, encoders, queries)
    quantizer = quantizer or train_quantizer(
        cell_codes, index=index, bytes_per_cell=bytes_per_cell, seed=seed
    )
    shards = list(_shards(cells, cell_codes, quantizer, index, shard_level))
    calibration = _calibrate(quantizer, shards, queries)
    pack_id = pack_id or out.stem
    return write_pack(
        out,
        pack_id=pack_id,
        title=title or pack_id,
        cells=cells,
        quantizer=quantizer,
        shards=shards,
        encoders=[_encoder_file(encoder, calibration) for encoder in encoders],
        calibration=None if encoders else calibration,
        attribution=attribution,
        license=license,
        pack_version=pack_version,
        provenance=dict(provenance or {}),
    )


def train_quantizer(
    cell_codes: npt.NDArray[np.float32],
    *,
    index: str = "usearch",
    bytes_per_cell: int | None = None,
    seed: int = 0,
) -> ProductQuantizer:
    """Return a quantizer that suits the kind of the shards and the number of codes.

    Shards of kind "scan" get 4 bits a sub-quantizer, which are searched fastest. Graphs look up
    fewer entries with 8 bits; but 256 centroids give each of few cells its own, and would say
    nothing about how well they compress.

    Args:
        cell_codes: (N, D).
        index: "usearch" or "scan".
        bytes_per_cell: of a pq code; 32, or D / 2 where that is less, if None.
        seed: of the training.

    Raises:
        ValueError: D dimensions do not divide into sub-quantizers of so many bytes.
    """
    num_cells, dim = cell_codes.shape
    bits = 4 if index == "scan" or num_cells < FEW_CELLS else 8
    num_subspaces = _num_subspaces(dim, bits, bytes_per_cell)
    vectors = cell_codes
    if num_cells < 2**bits:
        vectors = np.resize(cell_codes, (2**bits, dim))  # too few are repeated
    return ProductQuantizer.train(vectors, num_subspaces=num_subspaces, bits=bits, seed=seed)


def _num_subspaces(dim: int, bits: int, bytes_per_cell: int | None) -> int:
    """Return the number of sub-quantizers of so many bytes, or of the most that fit by default."""
    possible = [m for m in range(1, dim + 1) if dim % m == 0 and (m % 2 == 0 or bits == 8)]
    sizes = [m * bits // 8 for m in possible]
    if bytes_per_cell is not None:
        if bytes_per_cell not in sizes:
            raise ValueError(
                f"bytes_per_cell is {bytes_per_cell}: codes of {dim} dimensions can have "
                f"{', '.join(map(str, sizes)) or 'none'} with {bits} bits a sub-quantizer"
            )
        return bytes_per_cell * 8 // bits
    wanted = min(BYTES_PER_CELL, dim // 2)
    best = max((size for size in sizes if size <= wanted), default=0)
    if 2 * best < wanted or best == 0:
        raise ValueError(
            f"cell codes of {dim} dimensions divide badly into sub-quantizers: append zeros to "
            "codes and embeddings, up to a multiple of 32"
        )
    return best * 8 // bits


def _checked(
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    encoders: Sequence[EncoderArtifact],
    queries: Queries | None,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Return the arrays sorted by cell, or say what is wrong with them."""
    if cell_codes.ndim != 2 or len(cells) != len(cell_codes) or len(cells) == 0:
        raise ValueError(
            f"cells are {cells.shape}, cell_codes {cell_codes.shape}: want (N,), (N, D) with N > 0"
        )
    for at in range(0, len(cells), _BLOCK):
        finite = np.isfinite(cell_codes[at : at + _BLOCK]).all(axis=1)
        if not finite.all():
            token = s2.token_from_cell(cells[at + int(np.argmin(finite))])
            raise ValueError(f"the code of cell {token} is not finite")
    for encoder in encoders:
        if encoder.dim != cell_codes.shape[1]:
            raise ValueError(
                f"encoder {encoder.filename} gives {encoder.dim} dimensions, "
                f"the cell codes have {cell_codes.shape[1]}"
            )
    if queries is not None and queries.embeddings.shape[1:] != cell_codes.shape[1:]:
        raise ValueError(
            f"queries have {queries.embeddings.shape[1]} dimensions, the cell codes "
            f"{cell_codes.shape[1]}: they are of another run"
        )
    if (cells[1:] > cells[:-1]).all():
        return cells, cell_codes
    order = np.argsort(cells)
    return cells[order], cell_codes[order]


def _shards(
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    quantizer: ProductQuantizer,
    kind: str,
    shard_level: int | None,
) -> Iterator[tuple[int, ShardFiles]]:
    """Yield the shards by parent cell; descendants of a parent are neighbours in cell order.

    Each is built by one thread, since a graph comes out alike only so; several side by side.
    """
    level = SHARD_LEVEL[kind] if shard_level is None else shard_level
    parents = s2.parent(cells, level=level)
    starts = np.flatnonzero(np.r_[True, parents[1:] != parents[:-1]])

    def build(start: int, stop: int) -> tuple[int, ShardFiles]:
        pq_codes = quantizer.encode(cell_codes[start:stop])
        parent = int(parents[start])
        files = build_shard(cells[start:stop], pq_codes, quantizer, parent=parent, kind=kind)
        return parent, files

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(build, starts, [*starts[1:], len(cells)])


def _calibrate(
    quantizer: ProductQuantizer, shards: list[tuple[int, ShardFiles]], queries: Queries | None
) -> Calibration | None:
    """Fit the posterior to how the finished index scores the validation queries."""
    if queries is None or len(queries.latlon) == 0:
        return None
    opened = [Shard.open(files.cells, files.payload, quantizer) for _, files in shards]
    index = CellIndex(quantizer, opened)
    found = [index.search(embedding, k=NUM_CANDIDATES) for embedding in queries.embeddings]
    return fit_calibration(found, queries.latlon)


def _encoder_file(encoder: EncoderArtifact, calibration: Calibration | None) -> EncoderFile:
    return EncoderFile(
        target=encoder.target,
        precision=encoder.precision,
        filename=encoder.filename,
        data=encoder.data,
        input_spec=encoder.input_spec,
        dim=encoder.dim,
        calibration=calibration,
    )
