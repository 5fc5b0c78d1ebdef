"""Build a region pack from arrays: quantize the cell codes, cut them into shards, calibrate."""

from collections.abc import Iterator, Mapping, Sequence
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
SUBSPACE_DIM = 2  # dimensions a sub-quantizer covers
FEW_CELLS = 256 * 39  # below, 256 centroids would learn from fewer than 39 cells each
EIGHT_BIT_SUBSPACE_DIM = 4


def build_pack(
    out: Path,
    *,
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    encoders: Sequence[EncoderArtifact] = (),
    queries: Queries | None = None,
    quantizer: ProductQuantizer | None = None,
    index: str = "usearch",
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
        cell_codes: (N, D).
        encoders: that give query embeddings of D dimensions; none for teams that embed elsewhere.
        queries: validation embeddings with their places, to calibrate with; without them the
            pack is marked uncalibrated.
        quantizer: an earlier one, for byte-equal packs; trained on `cell_codes` if absent.
        index: kind of the shards, "usearch" or "scan".
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
    quantizer = quantizer or train_quantizer(cell_codes, seed=seed)
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


def train_quantizer(cell_codes: npt.NDArray[np.float32], *, seed: int = 0) -> ProductQuantizer:
    """Return a quantizer that suits the number of codes.

    Few cells get 16 centroids for every 2 dimensions: 256 would give each cell its own centroid,
    and the quantizer would say nothing about how well it compresses.
    """
    num_cells, dim = cell_codes.shape
    few = num_cells < FEW_CELLS
    if dim % EIGHT_BIT_SUBSPACE_DIM:
        raise ValueError(
            f"cell codes have {dim} dimensions, want a multiple of {EIGHT_BIT_SUBSPACE_DIM}: "
            "append zeros to codes and embeddings"
        )
    num_subspaces = dim // (SUBSPACE_DIM if few else EIGHT_BIT_SUBSPACE_DIM)
    bits = 4 if few else 8
    vectors = np.resize(cell_codes, (max(num_cells, 2**bits), dim))  # too few are repeated
    return ProductQuantizer.train(vectors, num_subspaces=num_subspaces, bits=bits, seed=seed)


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
    if not np.isfinite(cell_codes).all():
        row = int(np.flatnonzero(~np.isfinite(cell_codes).all(axis=1))[0])
        raise ValueError(f"the code of cell {s2.token_from_cell(cells[row])} is not finite")
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
    order = np.argsort(cells)
    return cells[order], np.ascontiguousarray(cell_codes[order], np.float32)


def _shards(
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    quantizer: ProductQuantizer,
    kind: str,
    shard_level: int | None,
) -> Iterator[tuple[int, ShardFiles]]:
    """Yield the shards by parent cell; descendants of a parent are neighbours in cell order."""
    level = SHARD_LEVEL[kind] if shard_level is None else shard_level
    parents = s2.parent(cells, level=level)
    starts = np.flatnonzero(np.r_[True, parents[1:] != parents[:-1]])
    for start, stop in zip(starts, [*starts[1:], len(cells)], strict=True):
        pq_codes = quantizer.encode(cell_codes[start:stop])
        parent = int(parents[start])
        files = build_shard(cells[start:stop], pq_codes, quantizer, parent=parent, kind=kind)
        yield parent, files


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
