"""Writing region packs: streamed, whole or not at all. pack.py reads them."""

import errno
import mmap
import os
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.coverage import coverage_union
from geofix.geo import Bounds
from geofix.input_spec import InputSpec
from geofix.manifest import EncoderEntry, EntryDigest, Manifest, ShardEntry
from geofix.pack import MANIFEST_ENTRY, MIMETYPE, MIMETYPE_ENTRY, SIGNATURE_ENTRY, RegionPack
from geofix.posterior import Calibration
from geofix.signing import Key, sign
from geofix.zip_layout import Entry, check_name, lay_out
from geofix_index import CellIndex, ProductQuantizer, Shard, ShardFiles
from geofix_index import cells as s2

_CODEBOOK_ENTRY, _PHOTOGRAPHED_ENTRY = "codebook.pq", "photographed.bits"

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """An encoder on its way into a pack: its data, or the digest of a file that it refers to."""

    target: str
    precision: str
    filename: str
    input_spec: InputSpec
    dim: int
    data: bytes | memoryview = b""
    referenced: EntryDigest | None = None
    calibration: Calibration | None = None
    parity: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # of the manifest

    def __post_init__(self) -> None:
        if (len(self.data) > 0) == (self.referenced is not None):
            raise ValueError("an encoder of a pack has data or refers to a file: want one of them")


@dataclass(frozen=True, slots=True)
class PackText:
    """What people and updates know a pack by."""

    pack_id: str  # the same for all versions of a region
    title: str
    attribution: str = ""  # of the imagery
    license: str = ""  # of the imagery
    pack_version: int = 1  # larger than that of earlier releases


class PackWriter:
    """Writes a pack whole or not at all, with no more than a shard in memory.

    Shards wait in a file without a name, in the pack's folder: the manifest, which tells their
    hashes, comes before them. Use it as a context manager: `add_shard` in the order of the
    parents, then `finish`.
    """

    def __init__(self, path: Path, quantizer: ProductQuantizer) -> None:
        """Begin a pack of cells that a quantizer compressed."""
        _make_room(path)
        self._path = path
        self._quantizer = quantizer
        self._waiting = tempfile.TemporaryFile(dir=path.parent)
        self._places: dict[str, tuple[int, int]] = {}  # where entries begin and end there
        self._shards: list[ShardEntry] = []
        self._levels: set[int] = set()
        self._union = np.zeros(0, np.uint64)
        self._boxes: list[Bounds] = []
        self._photographed: list[Mask] = []

    def __enter__(self) -> "PackWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.close()

    def add_shard(self, files: ShardFiles, *, photographed: Mask | None = None) -> None:
        """Add a shard.

        Args:
            files: of the shard.
            photographed: (N,) which of its cells ground photos were trained on; for all shards or
                for none.
        """
        shard = Shard.open(files.cells, files.payload, self._quantizer)
        stem = f"shards/{s2.token_from_cell(shard.parent)}"
        ending = "usearch" if files.kind == "usearch" else "codes"
        entry = ShardEntry(
            shard.parent, files.kind, len(shard), f"{stem}.cells", f"{stem}.{ending}"
        )
        self._put(entry.cells_entry, files.cells)
        self._put(entry.payload_entry, files.payload)
        self._shards.append(entry)
        self._levels.add(shard.level)
        cells = shard.cells()
        self._boxes.append(_box_of(cells))
        self._union = np.concatenate([self._union, coverage_union(cells)])
        if photographed is not None:
            self._photographed.append(np.asarray(photographed, bool))

    def index(self) -> CellIndex:
        """Return the cells that were added so far, for searching."""
        data, quantizer = self._mapped(), self._quantizer
        return CellIndex(
            quantizer,
            [
                Shard.open(
                    data[slice(*self._places[shard.cells_entry])],
                    data[slice(*self._places[shard.payload_entry])],
                    quantizer,
                )
                for shard in self._shards
            ],
        )

    def finish(
        self,
        text: PackText,
        *,
        encoders: Sequence[EncoderFile] = (),
        calibration: Calibration | None = None,
        provenance: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Write the pack; return its manifest.

        Args:
            text: what people and updates know it by.
            encoders: that the pack carries or refers to.
            calibration: of embeddings made elsewhere, for a pack without encoders.
            provenance: any JSON value.
            extra: further fields of the manifest, which readers keep.

        Raises:
            ValueError: no reader would take such a pack.
        """
        if not self._shards:
            raise ValueError("a pack without shards, want at least one")
        if len(self._levels) != 1:
            raise ValueError(f"shards of cells of levels {sorted(self._levels)}, want one level")
        contents: dict[str, bytes | memoryview] = {}
        entries = [_add_encoder(contents, encoder) for encoder in encoders]
        contents[_CODEBOOK_ENTRY] = self._quantizer.to_bytes()
        if self._photographed:
            contents[_PHOTOGRAPHED_ENTRY] = self._bits()
        waiting = self._mapped()
        contents |= {name: waiting[slice(*place)] for name, place in self._places.items()}
        manifest = Manifest(
            **asdict(text),
            bounds=_around(self._boxes),
            coverage=tuple(coverage_union(self._union).tolist()),
            cell_level=self._levels.pop(),
            num_cells=sum(shard.num_cells for shard in self._shards),
            dim=self._quantizer.dim,
            codebook_entry=_CODEBOOK_ENTRY,
            num_subspaces=self._quantizer.num_subspaces,
            bits=self._quantizer.bits,
            encoders=tuple(entries),
            shards=tuple(self._shards),
            calibration=calibration,
            entries={name: EntryDigest.of(data) for name, data in contents.items()},
            photographed_entry=_PHOTOGRAPHED_ENTRY if self._photographed else None,
            provenance=provenance or {},
            extra=extra or {},
        )
        head = {MIMETYPE_ENTRY: MIMETYPE, MANIFEST_ENTRY: manifest.to_bytes()}
        _write_zip(self._path, head | contents)
        return manifest

    def _put(self, entry: str, data: bytes) -> None:
        start = self._waiting.seek(0, os.SEEK_END)
        self._waiting.write(data)
        self._places[entry] = (start, start + len(data))

    def _mapped(self) -> memoryview:
        self._waiting.flush()
        return memoryview(mmap.mmap(self._waiting.fileno(), 0, access=mmap.ACCESS_READ))

    def _bits(self) -> bytes:
        counts = [len(mask) for mask in self._photographed]
        if counts != [shard.num_cells for shard in self._shards]:
            raise ValueError("photographed says something of some shards only, want all or none")
        return np.packbits(np.concatenate(self._photographed), bitorder="little").tobytes()


def write_pack(
    path: Path,
    *,
    pack_id: str,
    title: str,
    quantizer: ProductQuantizer,
    shards: Iterable[ShardFiles],
    encoders: Sequence[EncoderFile] = (),
    calibration: Calibration | None = None,
    attribution: str = "",
    license: str = "",
    pack_version: int = 1,
    provenance: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write a pack of finished shards whole or not at all; see `PackWriter`."""
    with PackWriter(path, quantizer) as writer:
        for files in shards:
            writer.add_shard(files)
        return writer.finish(
            PackText(pack_id, title, attribution, license, pack_version),
            encoders=encoders,
            calibration=calibration,
            provenance=provenance,
        )


def sign_pack(path: Path, private_key: Key, *, out: Path | None = None) -> None:
    """Write a pack again with a signature of its manifest, in place of one that it has.

    Args:
        path: of the pack.
        private_key: a PEM file, or its content.
        out: path of the signed pack; the pack itself, if None.

    Raises:
        PackError: the pack is damaged, or the key is none.
        OSError: a file cannot be read or written.
    """
    contents: dict[str, bytes | memoryview] = {**RegionPack.open(path).contents()}
    head = {
        MIMETYPE_ENTRY: contents[MIMETYPE_ENTRY],
        MANIFEST_ENTRY: contents[MANIFEST_ENTRY],
        SIGNATURE_ENTRY: sign(bytes(contents[MANIFEST_ENTRY]), private_key),
    }
    rest = {name: data for name, data in contents.items() if name not in head}
    _write_zip(out or path, head | rest)


def _add_encoder(contents: dict[str, bytes | memoryview], encoder: EncoderFile) -> EncoderEntry:
    entry = f"encoders/{encoder.target}-{encoder.precision}/{encoder.filename}"
    check_name(entry)
    if entry in contents:
        raise ValueError(f"two encoders for {encoder.target}, {encoder.precision}")
    if encoder.referenced is None:
        contents[entry] = encoder.data
    return EncoderEntry(
        entry=entry,
        target=encoder.target,
        precision=encoder.precision,
        dim=encoder.dim,
        input_spec=encoder.input_spec,
        calibration=encoder.calibration,
        parity=encoder.parity,
        referenced=encoder.referenced,
        extra=encoder.extra,
    )


def _box_of(cells: npt.NDArray[np.uint64]) -> Bounds:
    """Return a box around all corners of cells, the narrower way around the globe."""
    corners = s2.vertices(cells)
    lon = np.unique(corners[..., 1])
    (west, east) = _narrowest_arc(lon, np.zeros_like(lon))
    return Bounds(float(corners[..., 0].min()), west, float(corners[..., 0].max()), east)


def _around(boxes: Sequence[Bounds]) -> Bounds:
    """Return a box around boxes, the narrower way around the globe."""
    west = np.array([box.west for box in boxes])
    arc = _narrowest_arc(west, np.array([box.width_deg for box in boxes]))
    south, north = min(box.south for box in boxes), max(box.north for box in boxes)
    return Bounds(*(round(value, 7) for value in (south, arc[0], north, arc[1])))


def _narrowest_arc(
    west: npt.NDArray[np.float64], width: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return west and east, in degrees, of the narrowest arc that holds all arcs."""
    order = np.argsort(west)
    begin, end = west[order], (west + width)[order]
    reached = np.maximum.accumulate(np.concatenate([[end.max() - 360.0], end]))[:-1]
    gaps = begin - reached  # before each arc
    widest = int(gaps.argmax())  # the arc leaves out the widest gap
    if gaps[widest] <= 0:
        return -180.0, 180.0
    return float(begin[widest]), float((reached[widest] + 180.0) % 360.0 - 180.0)


def _make_room(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, want the path of a pack", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)


def _write_zip(path: Path, contents: Mapping[str, bytes | memoryview]) -> None:
    """Write a ZIP of stored entries, durably, under a temporary name until it is whole."""
    _make_room(path)
    layout = lay_out([Entry(name, len(data), zlib.crc32(data)) for name, data in contents.items()])
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for header, data in zip(layout.headers, contents.values(), strict=True):
                file.write(header)
                file.write(data)
            file.write(layout.tail)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
