"""Build a region pack from arrays: quantize the cell codes, cut them into shards, calibrate."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import geofix
from geofix.manifest import EntryDigest, Manifest
from geofix.pack import RegionPack
from geofix.pack_writer import EncoderFile, PackText, PackWriter
from geofix.posterior import Calibration
from geofix_export.calibrate import calibrate
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
    embed_encoders: bool = True,
    queries: Queries | None = None,
    photographed: npt.NDArray[np.bool_] | None = None,
    base: RegionPack | None = None,
    quantizer: ProductQuantizer | None = None,
    index: str | None = None,
    bytes_per_cell: int | None = None,
    shard_level: int | None = None,
    pack_id: str = "",
    title: str = "",
    attribution: str = "",
    license: str = "",
    pack_version: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Manifest:
    """Write a region pack and return its manifest.

    Of `cell_codes` and of the pack no more than some shards are in memory at once. The same cells,
    codes and quantizer give the same bytes on every machine with the same versions of tools.

    Args:
        out: the pack's path, written whole or not at all.
        cells: (N,) S2 cells of one level.
        cell_codes: (N, D). Read in blocks where the cells are ascending, so that they may be
            mapped from a file that does not fit into memory.
        encoders: that give query embeddings of D dimensions; none for teams that embed elsewhere.
        embed_encoders: False names the encoders by their hash and leaves them out.
        queries: validation embeddings with their places, to calibrate with where an encoder has
            none of its own; without any the pack is marked uncalibrated.
        photographed: (N,) which cells ground photos were trained on, for `Coverage`.
        base: an earlier release, which gives whatever is not given here, and the version before
            this one's. With its quantizer, shards in which nothing changed keep their bytes, and
            an update need not fetch them.
        quantizer: an earlier one, for byte-equal packs; trained on `cell_codes` if absent.
        index: kind of the shards, "usearch" (if None) or "scan".
        bytes_per_cell: of a pq code; see `train_quantizer`.
        shard_level: S2 level of the shards' parent cells; None suits the kind.
        pack_id: the same for all versions of a region; if empty, the file's name.
        title: of the region; the pack's id, if empty.
        attribution: of the imagery.
        license: of the imagery.
        pack_version: grows with each release of the region; 1, if None.
        provenance: where the codes come from.
        seed: of the quantizer's training.

    Raises:
        ValueError: arrays that do not fit together, not finite, or cells that are not S2 cells.
    """
    if base is not None and out.exists() and out.samefile(base.path):
        raise ValueError(f"{out} is the base itself: write the new release to another file")
    if not (embed_encoders or encoders):
        raise ValueError("encoders to name and leave out: none is given")
    old = None if base is None else base.manifest
    index, level = _layout(index, shard_level, old)
    cells, cell_codes, photographed = _checked(cells, cell_codes, encoders, queries, photographed)
    if quantizer is None and base is not None:
        quantizer = _quantizer_of(base, cell_codes.shape[1], bytes_per_cell)
    quantizer = quantizer or train_quantizer(
        cell_codes, index=index, bytes_per_cell=bytes_per_cell, seed=seed
    )
    text = PackText(
        pack_id=pack_id or (old.pack_id if old else out.stem),
        title=title or (old.title if old else pack_id or out.stem),
        attribution=attribution or (old.attribution if old else ""),
        license=license or (old.license if old else ""),
        pack_version=_version(pack_version, old),
    )
    with PackWriter(out, quantizer) as writer:
        for rows, files in _shards(cells, cell_codes, quantizer, index, level):
            own = None if photographed is None else photographed[rows]
            writer.add_shard(files, photographed=own)
        finished = writer.index()
        files_of = [
            _encoder_file(
                encoder,
                calibrate(finished, encoder.queries or queries, cells, photographed),
                embed=embed_encoders,
            )
            for encoder in encoders
        ]
        alone = None if encoders else calibrate(finished, queries, cells, photographed)
        return writer.finish(
            text,
            encoders=files_of,
            calibration=alone,
            provenance={"tools": _tools(), **(provenance or {})},
        )


def _layout(kind: str | None, level: int | None, old: Manifest | None) -> tuple[str, int]:
    """Return kind of the shards and level of their parents, where not given the base's."""
    kind = kind or (old.shards[0].kind if old else "usearch")
    if kind not in SHARD_LEVEL:
        raise ValueError(f"index is {kind!r}, want 'usearch' or 'scan'")
    if level is None and old is not None and kind == old.shards[0].kind:
        level = int(s2.level_of(old.shards[0].parent))
    return kind, SHARD_LEVEL[kind] if level is None else level


def _version(wanted: int | None, old: Manifest | None) -> int:
    if old is None:
        return 1 if wanted is None else wanted
    if wanted is not None and wanted <= old.pack_version:
        raise ValueError(f"pack_version is {wanted}, the base has {old.pack_version}: want a later")
    return old.pack_version + 1 if wanted is None else wanted


def _quantizer_of(base: RegionPack, dim: int, bytes_per_cell: int | None) -> ProductQuantizer:
    quantizer = base.quantizer()
    if quantizer.dim != dim or bytes_per_cell not in (None, quantizer.bytes_per_cell):
        raise ValueError(
            f"{base.path} has {quantizer.dim} dimensions in {quantizer.bytes_per_cell} bytes a "
            f"cell, wanted are {dim} in {bytes_per_cell or 'as many'}: build without a base"
        )
    return quantizer


def build_index(
    cells: npt.NDArray[np.uint64], cell_codes: npt.NDArray[np.float32], *, seed: int = 0
) -> CellIndex:
    """Return an index in memory that compresses and finds as a pack of kind "scan" does.

    Args:
        cells: (N,) S2 cells of one level.
        cell_codes: (N, D).
        seed: of the quantizer's training.
    """
    cells, cell_codes, _ = _checked(cells, cell_codes, (), None, None)
    quantizer = train_quantizer(cell_codes, index="scan", seed=seed)
    shards = _shards(cells, cell_codes, quantizer, "scan", SHARD_LEVEL["scan"])
    opened = [Shard.open(files.cells, files.payload, quantizer) for _, files in shards]
    return CellIndex(quantizer, opened)


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
    photographed: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]:
    """Return the arrays sorted by cell, or say what is wrong with them."""
    if cell_codes.ndim != 2 or len(cells) != len(cell_codes) or len(cells) == 0:
        raise ValueError(
            f"cells are {cells.shape}, cell_codes {cell_codes.shape}: want (N,), (N, D) with N > 0"
        )
    if photographed is not None and photographed.shape != cells.shape:
        raise ValueError(f"photographed is {photographed.shape}, want {cells.shape} as the cells")
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
        return cells, cell_codes, photographed
    order = np.argsort(cells)
    return cells[order], cell_codes[order], None if photographed is None else photographed[order]


def _shards(
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    quantizer: ProductQuantizer,
    kind: str,
    level: int,
) -> Iterator[tuple[slice, ShardFiles]]:
    """Yield rows and files of the shards; descendants of a parent are neighbours in cell order.

    Each is built by one thread, since a graph comes out alike only so; several side by side, but
    not many more than there are cores, since each waits in memory until it is taken.
    """
    parents = s2.parent(cells, level=level)
    starts = np.flatnonzero(np.r_[True, parents[1:] != parents[:-1]]).tolist()

    def build(rows: slice) -> ShardFiles:
        pq_codes = quantizer.encode(cell_codes[rows])
        parent = int(parents[rows.start])
        return build_shard(cells[rows], pq_codes, quantizer, parent=parent, kind=kind)

    at_once = (os.cpu_count() or 1) + 1
    waiting: deque[tuple[slice, Future[ShardFiles]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start, stop in zip(starts, [*starts[1:], len(cells)], strict=True):
            if len(waiting) == at_once:
                rows, files = waiting.popleft()
                yield rows, files.result()
            waiting.append((slice(start, stop), pool.submit(build, slice(start, stop))))
        for rows, files in waiting:
            yield rows, files.result()


def _encoder_file(
    encoder: EncoderArtifact, calibration: Calibration | None, *, embed: bool
) -> EncoderFile:
    return EncoderFile(
        target=encoder.target,
        precision=encoder.precision,
        filename=encoder.filename,
        data=encoder.data if embed else b"",
        referenced=None if embed else EntryDigest.of(encoder.data),
        input_spec=encoder.input_spec,
        dim=encoder.dim,
        calibration=calibration,
        parity=encoder.parity,
    )


def _tools() -> dict[str, str]:
    """Return the versions that the bytes of a pack depend on."""
    return {"geofix": geofix.__version__, **{name: version(name) for name in ("numpy", "usearch")}}
