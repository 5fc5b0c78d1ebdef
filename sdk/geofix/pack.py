"""The region pack: one file with everything that a device needs. Written and read here only.

A ZIP of stored, aligned entries (zip_layout), in this order: `mimetype`, `manifest.json`, encoders,
the codebook, shards. docs/pack_spec.md is the specification.

Nothing is handed out before its size and SHA-256 are checked against the manifest, and nothing
outside the entries' data may differ from what the format prescribes.
"""

import hashlib
import mmap
import os
import tempfile
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.errors import PackCorruptError, PackError, PackFormatError
from geofix.geo import Bounds
from geofix.input_spec import InputSpec
from geofix.manifest import EncoderEntry, EntryDigest, Manifest, ShardEntry
from geofix.posterior import Calibration
from geofix.zip_layout import Entry, check_name, lay_out, read_entries
from geofix_index import CellIndex, ProductQuantizer, Shard, ShardFiles, ShardFormatError
from geofix_index import cells as s2
from geofix_index.index import ShardSource

MIMETYPE = b"application/vnd.geofix.region-pack"
_MIMETYPE_ENTRY, _MANIFEST_ENTRY, _CODEBOOK_ENTRY = "mimetype", "manifest.json", "codebook.pq"


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """An encoder on its way into a pack."""

    target: str
    precision: str
    filename: str
    data: bytes
    input_spec: InputSpec
    dim: int
    calibration: Calibration | None


class RegionPack:
    """An opened pack. Safe to share between threads."""

    def __init__(self, path: Path, data: memoryview) -> None:
        """Check the layout and read the manifest; `open` maps a file and does this.

        Raises:
            PackFormatError: not a pack, or its structure or manifest is wrong.
            PackVersionError: a pack that needs a newer geofix.
            PackCorruptError: the manifest does not match its checksum.
        """
        self.path = path
        self._data = data
        self._checked: set[str] = set()
        self._lock = threading.Lock()
        found = read_entries(data)
        self._entries = {entry.name: (entry, start) for entry, start in found}
        names = [entry.name for entry, _ in found]
        if names[:2] != [_MIMETYPE_ENTRY, _MANIFEST_ENTRY]:
            raise PackFormatError("not a region pack: it does not start with mimetype and manifest")
        if self._with_crc(_MIMETYPE_ENTRY) != MIMETYPE:
            raise PackFormatError(f"not a region pack: mimetype is not {MIMETYPE.decode()}")
        self.manifest = Manifest.from_bytes(bytes(self._with_crc(_MANIFEST_ENTRY)))
        self._check_listed(names[2:])

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RegionPack":
        """Map a pack into memory; see `__init__` for what is checked at once.

        Raises:
            PackError: see `__init__`.
            OSError: the file cannot be read.
        """
        path = Path(path)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise PackFormatError(f"{path}: not a region pack: the file is empty")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            return cls(path, data)
        except PackError as e:
            raise type(e)(f"{path}: {e}") from e

    def read(self, entry: str) -> memoryview:
        """Return an entry's bytes, mapped, after its first use has checked them.

        Raises:
            PackCorruptError: size or SHA-256 is not the manifest's.
        """
        data = self._view(entry)
        with self._lock:
            if entry in self._checked:
                return data
        digest = self.manifest.entries[entry]
        actual = hashlib.sha256(data).hexdigest()
        if len(data) != digest.num_bytes or actual != digest.sha256:
            raise PackCorruptError(
                f"{self.path}: entry {entry} has SHA-256 {actual[:16]}..., the manifest says "
                f"{digest.sha256[:16]}...: the file is damaged, copy it again"
            )
        self._with_crc(entry)
        with self._lock:
            self._checked.add(entry)
        return data

    def verify(self) -> int:
        """Check every entry's hash and open all shards; return the number of entries.

        Raises:
            PackError: something does not match.
        """
        for entry in self.manifest.entries:
            self.read(entry)
        quantizer = self.quantizer()
        for shard in self.manifest.shards:
            self._open_shard(shard, quantizer)
        return len(self._entries)

    def quantizer(self) -> ProductQuantizer:
        """Return the pack's quantizer."""
        try:
            quantizer = ProductQuantizer.from_bytes(self.read(self.manifest.codebook_entry))
        except ShardFormatError as e:
            raise PackFormatError(f"{self.path}: {e}") from e
        if quantizer.dim != self.manifest.dim:
            raise PackFormatError(
                f"{self.path}: the codebook has {quantizer.dim} dimensions, the manifest says "
                f"{self.manifest.dim}"
            )
        return quantizer

    def index(self) -> CellIndex:
        """Return the pack's cells for searching. A shard is checked and opened when needed."""
        quantizer = self.quantizer()
        level = self.manifest.cell_level
        sources = [
            ShardSource(shard.parent, level, partial(self._open_shard, shard, quantizer))
            for shard in self.manifest.shards
        ]
        return CellIndex(quantizer, sources)

    def _open_shard(self, entry: ShardEntry, quantizer: ProductQuantizer) -> Shard:
        try:
            shard = Shard.open(
                self.read(entry.cells_entry), self.read(entry.payload_entry), quantizer
            )
        except ShardFormatError as e:
            raise PackFormatError(f"{self.path}: {entry.payload_entry}: {e}") from e
        stated = (entry.kind, entry.parent, entry.num_cells, self.manifest.cell_level)
        if (shard.kind, shard.parent, len(shard), shard.level) != stated:
            raise PackFormatError(
                f"{self.path}: {entry.cells_entry} is not the shard that the manifest describes"
            )
        return shard

    def _view(self, entry: str) -> memoryview:
        header, start = self._entries[entry]
        return self._data[start : start + header.num_bytes]

    def _with_crc(self, entry: str) -> memoryview:
        """Return an entry's bytes after checking the CRC-32 that its header gives."""
        data = self._view(entry)
        if zlib.crc32(data) != self._entries[entry][0].crc32:
            raise PackCorruptError(f"entry {entry} does not match its CRC-32: the file is damaged")
        return data

    def _check_listed(self, names: list[str]) -> None:
        wanted, listed = self.manifest.entry_order, set(self.manifest.entries)
        if names != wanted or set(names) != listed:
            differ = sorted(set(names) ^ listed | listed ^ set(wanted)) or ["their order"]
            raise PackFormatError(f"entries and manifest differ in {', '.join(differ[:5])}")
        for name, digest in self.manifest.entries.items():
            if self._entries[name][0].num_bytes != digest.num_bytes:
                raise PackFormatError(f"entry {name} is not as long as the manifest says")


def write_pack(
    path: Path,
    *,
    pack_id: str,
    title: str,
    cells: npt.NDArray[np.uint64],
    quantizer: ProductQuantizer,
    shards: Sequence[tuple[int, ShardFiles]],
    encoders: Sequence[EncoderFile] = (),
    calibration: Calibration | None = None,
    attribution: str = "",
    license: str = "",
    pack_version: int = 1,
    provenance: dict[str, Any] | None = None,
) -> Manifest:
    """Write a pack whole or not at all; return its manifest.

    Args:
        path: of the pack.
        pack_id: the same for all versions of a region.
        title: for people.
        cells: of all shards.
        quantizer: that made their pq codes.
        shards: parent cell and files of each.
        encoders: that the pack carries.
        calibration: of embeddings made elsewhere, for a pack without encoders.
        attribution: of the imagery.
        license: of the imagery.
        pack_version: at least 1, larger than that of earlier releases.
        provenance: any JSON value.
    """
    contents: dict[str, bytes] = {}
    encoder_entries = [_add_encoder(contents, encoder) for encoder in encoders]
    contents[_CODEBOOK_ENTRY] = quantizer.to_bytes()
    shard_entries = [_add_shard(contents, parent, files, quantizer) for parent, files in shards]
    manifest = Manifest(
        pack_id=pack_id,
        pack_version=pack_version,
        title=title,
        attribution=attribution,
        license=license,
        bounds=_bounds(cells),
        cell_level=int(s2.level_of(cells[0])),
        num_cells=len(cells),
        dim=quantizer.dim,
        codebook_entry=_CODEBOOK_ENTRY,
        encoders=tuple(encoder_entries),
        shards=tuple(shard_entries),
        calibration=calibration,
        entries={
            name: EntryDigest(len(data), hashlib.sha256(data).hexdigest())
            for name, data in contents.items()
        },
        provenance=provenance or {},
    )
    head = {_MIMETYPE_ENTRY: MIMETYPE, _MANIFEST_ENTRY: manifest.to_bytes()}
    _write_zip(path, head | contents)
    return manifest


def _add_encoder(contents: dict[str, bytes], encoder: EncoderFile) -> EncoderEntry:
    entry = f"encoders/{encoder.target}-{encoder.precision}/{encoder.filename}"
    check_name(entry)
    if entry in contents:
        raise ValueError(f"two encoders for {encoder.target}, {encoder.precision}")
    contents[entry] = encoder.data
    return EncoderEntry(
        entry, encoder.target, encoder.precision, encoder.dim, encoder.input_spec,
        encoder.calibration,
    )  # fmt: skip


def _add_shard(
    contents: dict[str, bytes], parent: int, files: ShardFiles, quantizer: ProductQuantizer
) -> ShardEntry:
    stem = f"shards/{s2.token_from_cell(parent)}"
    ending = "usearch" if files.kind == "usearch" else "codes"
    entry = ShardEntry(
        parent=parent,
        kind=files.kind,
        num_cells=len(Shard.open(files.cells, files.payload, quantizer)),
        cells_entry=f"{stem}.cells",
        payload_entry=f"{stem}.{ending}",
    )
    contents[entry.cells_entry], contents[entry.payload_entry] = files.cells, files.payload
    return entry


def _bounds(cells: npt.NDArray[np.uint64]) -> Bounds:
    """Return a box around all corners of cells, the narrower way around the globe."""
    corners = s2.vertices(cells).reshape(-1, 2)
    lon = np.sort(corners[:, 1])
    gaps = np.diff(lon, append=lon[0] + 360.0)
    widest = int(gaps.argmax())  # the box leaves out the widest gap
    west, east = lon[(widest + 1) % len(lon)], lon[widest]
    south, north = corners[:, 0].min(), corners[:, 0].max()
    return Bounds(*(round(float(value), 7) for value in (south, west, north, east)))


def _write_zip(path: Path, contents: dict[str, bytes]) -> None:
    """Write a ZIP of stored entries, durably, under a temporary name until it is whole."""
    layout = lay_out([Entry(name, len(data), zlib.crc32(data)) for name, data in contents.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
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
