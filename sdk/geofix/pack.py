"""The region pack: one file with everything that a device needs. pack_writer.py writes it.

A ZIP of stored, aligned entries (zip_layout), in this order: `mimetype`, `manifest.json`, its
signature, encoders, the codebook, which cells ground photos were trained on, shards.
docs/pack_spec.md is the specification.

Nothing is handed out before its size and SHA-256 are checked against the manifest, and nothing
outside the entries' data may differ from what the format prescribes.
"""

import mmap
import os
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geofix.coverage import Coverage
from geofix.errors import (
    PackCorruptError,
    PackError,
    PackFormatError,
    PackSignatureError,
    PackVersionError,
)
from geofix.manifest import EntryDigest, Manifest, ShardEntry
from geofix.posterior import Calibration
from geofix.signing import SIGNATURE_BYTES, Key, check_signature
from geofix.zip_layout import read_entries
from geofix_index import Box, CellIndex, ProductQuantizer, Shard, ShardFormatError
from geofix_index import cells as s2
from geofix_index.forks import ForkSafeLock
from geofix_index.index import ShardSource

MIMETYPE = b"application/vnd.geofix.region-pack"
MAX_MANIFEST_BYTES = 1 << 26  # some 200,000 shards
_CELLS_A_CHECK = 64  # one of so many is held against the bounds
MIMETYPE_ENTRY, MANIFEST_ENTRY, SIGNATURE_ENTRY = "mimetype", "manifest.json", "manifest.sig"


class RegionPack:
    """An opened pack. Safe to share between threads."""

    def __init__(self, path: Path, data: memoryview, *, public_key: Key | None = None) -> None:
        """Check layout and signature and read the manifest; `open` maps a file and does this.

        Raises:
            PackFormatError: not a pack, or its structure or manifest is wrong.
            PackSignatureError: a key is given, and the pack is not signed with it.
            PackVersionError: a pack that needs a newer geofix.
            PackCorruptError: the manifest does not match its checksum.
        """
        self.path = path
        self._data = data
        self._checked: set[str] = set()
        self._lock = ForkSafeLock()
        found = read_entries(data)
        self._entries = {entry.name: (entry, start) for entry, start in found}
        names = [entry.name for entry, _ in found]
        if names[:2] != [MIMETYPE_ENTRY, MANIFEST_ENTRY]:
            raise PackFormatError("not a region pack: it does not start with mimetype and manifest")
        if self._with_crc(MIMETYPE_ENTRY) != MIMETYPE:
            raise PackFormatError(f"not a region pack: mimetype is not {MIMETYPE.decode()}")
        if self._entries[MANIFEST_ENTRY][0].num_bytes > MAX_MANIFEST_BYTES:
            raise PackFormatError(f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes")
        manifest = bytes(self._with_crc(MANIFEST_ENTRY))
        self.is_signed = names[2:3] == [SIGNATURE_ENTRY]
        if self.is_signed:
            self._check_signature(manifest, public_key)
        elif public_key is not None:
            raise PackSignatureError("the pack is not signed, and a key was given to check it with")
        self.manifest = Manifest.from_bytes(manifest)
        self.manifest_sha256 = EntryDigest.of(manifest).sha256
        self._check_listed(names[2 + self.is_signed :])

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        public_key: Key | None = None,
        min_version: int = 0,
        region: str = "",
    ) -> "RegionPack":
        """Map a pack into memory; see `__init__` for what is checked at once.

        Args:
            path: of the pack.
            public_key: of who must have signed it: a PEM file, its content, or 32 raw bytes.
            min_version: the oldest pack version that is accepted.
            region: the pack id that is wanted; empty accepts any. One key may sign many regions.

        Raises:
            PackError: see `__init__`; or the pack is older than `min_version`, or another region's.
            OSError: the file cannot be read.
        """
        path = Path(path)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise PackFormatError(f"{path}: not a region pack: the file is empty")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            pack = cls(path, data, public_key=public_key)
        except PackError as e:
            raise type(e)(f"{path}: {e}") from e
        if region and pack.manifest.pack_id != region:
            raise PackVersionError(f"{path}: pack {pack.manifest.pack_id!r}, want {region!r}")
        if pack.manifest.pack_version < min_version:
            raise PackVersionError(
                f"{path}: pack version {pack.manifest.pack_version}, want at least {min_version}: "
                "get the newer pack"
            )
        return pack

    def read(self, entry: str) -> memoryview:
        """Return an entry's bytes, mapped, after its first use has checked them.

        Raises:
            PackCorruptError: size or SHA-256 is not the manifest's.
        """
        data = self._view(entry)
        with self._lock:
            if entry in self._checked:
                return data
        wanted, actual = self.manifest.entries[entry], EntryDigest.of(data)
        if actual != wanted:
            raise PackCorruptError(
                f"{self.path}: entry {entry} has SHA-256 {actual.sha256[:16]}..., the manifest "
                f"says {wanted.sha256[:16]}...: the file is damaged, copy it again"
            )
        try:
            self._with_crc(entry)
        except PackCorruptError as e:
            raise PackCorruptError(f"{self.path}: {e}") from e
        with self._lock:
            self._checked.add(entry)
        return data

    def byte_range(self, entry: str) -> tuple[int, int]:
        """Return where an entry's bytes begin and end in the file, for a download by range."""
        header, start = self._entries[entry]
        return start, start + header.num_bytes

    def entries_not_in(self, old: "RegionPack") -> list[str]:
        """Return the entries whose content an earlier release lacks, in the order of the file.

        The manifest and its signature are always new.
        """
        known = set(old.manifest.entries.values())
        return [
            name for name in list(self._entries)[1:] if self.manifest.entries.get(name) not in known
        ]

    def verify(self) -> int:
        """Check every entry's hash, and all shards; return the number of entries.

        Raises:
            PackError: something does not match.
        """
        for entry in self.manifest.entries:
            self.read(entry)
        quantizer = self.quantizer()
        self.photographed_bits()
        self._check_places(self.open_shard(entry, quantizer) for entry in self.manifest.shards)
        return len(self._entries)

    def quantizer(self) -> ProductQuantizer:
        """Return the pack's quantizer."""
        manifest = self.manifest
        try:
            quantizer = ProductQuantizer.from_bytes(self.read(manifest.codebook_entry))
        except ShardFormatError as e:
            raise PackFormatError(f"{self.path}: {manifest.codebook_entry}: {e}") from e
        stated = (manifest.dim, manifest.num_subspaces, manifest.bits)
        if (quantizer.dim, quantizer.num_subspaces, quantizer.bits) != stated:
            raise PackFormatError(
                f"{self.path}: {manifest.codebook_entry} has {quantizer.dim} dimensions in "
                f"{quantizer.num_subspaces} x {quantizer.bits} bits, the manifest says "
                f"{stated[0]} in {stated[1]} x {stated[2]}"
            )
        return quantizer

    def index(self) -> CellIndex:
        """Return the pack's cells for searching. A shard is checked and opened when needed."""
        quantizer = self.quantizer()
        return CellIndex(quantizer, [self._source(e, quantizer) for e in self.manifest.shards])

    def photographed_bits(self) -> npt.NDArray[np.uint8] | None:
        """Return a bit for each cell, in ascending order, lowest bit first; None: it has none.

        Set where ground photos were trained on; (ceil(N / 8),), filled up with zeros.
        """
        entry, num_cells = self.manifest.photographed_entry, self.manifest.num_cells
        if entry is None:
            return None
        bits = np.frombuffer(self.read(entry), np.uint8)
        if len(bits) != -(-num_cells // 8) or int(bits[-1]) >> (num_cells - 1) % 8 + 1:
            raise PackFormatError(f"{self.path}: {entry} has not one bit for each cell")
        return bits

    @property
    def coverage(self) -> Coverage:
        """Where the pack can place a photo, and how well by its first encoder's calibration."""
        encoders = self.manifest.encoders
        calibration = encoders[0].calibration if encoders else self.manifest.calibration
        return self.coverage_of(self.index(), calibration)

    def coverage_of(self, index: CellIndex, calibration: Calibration | None) -> Coverage:
        """Return `coverage` for an index of this pack and another encoder's calibration."""
        manifest = self.manifest
        return Coverage(
            bounds=manifest.bounds,
            union=np.array(manifest.coverage, np.uint64),
            num_cells=manifest.num_cells,
            index=index,
            photographed_bits=self.photographed_bits,
            validation={} if calibration is None else calibration.validation,
            cell_level=manifest.cell_level,
        )

    def open_shard(self, entry: ShardEntry, quantizer: ProductQuantizer) -> Shard:
        """Return a shard of the manifest, checked.

        Raises:
            PackError: it is damaged, or not the one that the manifest describes.
        """
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

    def contents(self) -> dict[str, memoryview]:
        """Return all entries in their order, checked.

        Raises:
            PackCorruptError: an entry is damaged.
        """
        listed = {name: self.read(name) for name in self.manifest.entry_order}
        return {name: listed.get(name, self._view(name)) for name in self._entries}

    def _check_places(self, shards: Iterable[Shard]) -> None:
        """Hold cells against coverage and bounds."""
        first, last = s2.leaf_range(np.array(self.manifest.coverage, np.uint64))
        some = []
        for shard in shards:
            cells = shard.cells()
            covered = np.searchsorted(cells, last) - np.searchsorted(cells, first)
            if covered.sum() != len(cells):
                token = s2.token_from_cell(shard.parent)
                raise PackFormatError(f"{self.path}: cells of shard {token} beyond the coverage")
            some.append(cells[::_CELLS_A_CHECK])
        box = self.manifest.bounds
        # Neighbours on the curve are near each other; all of them would take longer than hashing.
        if not Box(box.south, box.west, box.north, box.east).admits(np.concatenate(some)).all():
            raise PackFormatError(f"{self.path}: cells beyond the bounds")

    def _source(self, entry: ShardEntry, quantizer: ProductQuantizer) -> ShardSource:
        opener = partial(self.open_shard, entry, quantizer)
        return ShardSource(entry.parent, self.manifest.cell_level, entry.num_cells, opener)

    def _check_signature(self, manifest: bytes, public_key: Key | None) -> None:
        signature = bytes(self._with_crc(SIGNATURE_ENTRY))
        if len(signature) != SIGNATURE_BYTES:
            raise PackFormatError(f"manifest.sig has {len(signature)} bytes, want 64")
        if public_key is not None:
            check_signature(manifest, signature, public_key)

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
