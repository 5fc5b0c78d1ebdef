"""What a region pack says of itself: versioned JSON, in canonical form.

Fields that this version does not know are ignored and kept (`extra`), so that an extracted pack
has them too, unless the pack lists them under `required_features`: then it is refused with a
sentence.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geofix.canonical_json import canonical_json, parse_canonical_json
from geofix.errors import PackFormatError, PackVersionError
from geofix.geo import Bounds
from geofix.input_spec import InputSpec
from geofix.posterior import Calibration
from geofix_index import cells as s2
from geofix_index.shard import KINDS

FORMAT = "geofix-region-pack"
FORMAT_VERSION = 1
FEATURES: frozenset[str] = frozenset()  # required features that this version knows
METRIC = "inner_product"

_FIELDS = frozenset(
    {
        "format", "format_version", "required_features", "pack_id", "pack_version", "title",
        "attribution", "license", "bounds", "coverage", "cell_level", "num_cells", "embedding",
        "codebook", "encoders", "shards", "calibration", "entries", "photographed", "provenance",
    }
)  # fmt: skip
_ENCODER_FIELDS = frozenset(
    {
        "entry", "target", "precision", "dim", "input_spec", "calibration", "parity", "referenced",
    }
)  # fmt: skip
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class EntryDigest:
    """Size and hash of an entry, or of a file that is not in the pack."""

    num_bytes: int
    sha256: str  # lower-case hexadecimal

    def __post_init__(self) -> None:
        if self.num_bytes < 0 or not _SHA256.fullmatch(self.sha256):
            raise ValueError(
                f"bytes {self.num_bytes}, sha256 {self.sha256!r}: want a size and 64 digits"
            )

    @classmethod
    def of(cls, data: bytes | memoryview) -> "EntryDigest":
        """Return the digest of bytes."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """An encoder of a pack. Its calibration holds for this file and no other."""

    entry: str
    target: str
    precision: str
    dim: int
    input_spec: InputSpec
    calibration: Calibration | None = None
    parity: Mapping[str, Any] | None = None  # how close it stayed to the trained encoder
    referenced: EntryDigest | None = None  # of a file that the pack names and does not carry
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """The name of the model file."""
        return self.entry.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A shard in a pack."""

    parent: int  # S2 cell
    kind: str
    num_cells: int
    cells_entry: str
    payload_entry: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a shard's kind is {self.kind!r}, want one of {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a region pack. One that contradicts itself cannot be made: ValueError."""

    pack_id: str
    pack_version: int  # from 1; grows with each release of the region
    title: str
    attribution: str
    license: str
    bounds: Bounds
    coverage: tuple[int, ...]  # S2 cells that together contain all cells; ascending, disjoint
    cell_level: int
    num_cells: int
    dim: int
    codebook_entry: str
    num_subspaces: int
    bits: int
    encoders: tuple[EncoderEntry, ...]
    shards: tuple[ShardEntry, ...]
    calibration: Calibration | None  # of embeddings made elsewhere, in a pack without encoders
    entries: Mapping[str, EntryDigest]  # all but the manifest itself and its signature
    photographed_entry: str | None = None  # a bit for each cell: ground photos were trained on
    provenance: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pack_id:
            raise ValueError("pack_id is empty, want a name that stays with the region")
        for name, least in (("pack_version", 1), ("dim", 1), ("cell_level", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, want at least {least}")
        if self.cell_level > s2.MAX_LEVEL:
            raise ValueError(f"cell_level is {self.cell_level}, want at most {s2.MAX_LEVEL}")
        if self.bits not in (4, 8) or not 1 <= self.num_subspaces <= self.dim:
            raise ValueError(f"a codebook of {self.num_subspaces} x {self.bits} bits")
        for name in self.entry_order:
            if name not in self.entries:
                raise ValueError(f"{name!r} is named, but not listed under entries")
        for encoder in self.encoders:
            if encoder.referenced is not None and encoder.entry in self.entries:
                raise ValueError(f"{encoder.entry!r} is referenced, and listed under entries")
            if encoder.dim != self.dim:
                raise ValueError(f"{encoder.entry} has dim {encoder.dim}, the embedding {self.dim}")
        _check_shards(self.shards, self.num_cells)
        _check_coverage(self.coverage, self.shards, self.cell_level)

    @property
    def entry_order(self) -> list[str]:
        """Names of the entries behind the manifest, in the order in which they stand."""
        shards = ((shard.cells_entry, shard.payload_entry) for shard in self.shards)
        return [
            *(encoder.entry for encoder in self.encoders if encoder.referenced is None),
            self.codebook_entry,
            *([self.photographed_entry] if self.photographed_entry else []),
            *(entry for pair in shards for entry in pair),
        ]

    def to_bytes(self) -> bytes:
        """Return the manifest's file."""
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON value; docs/pack_spec.md describes it."""
        box = self.bounds
        content: dict[str, Any] = {
            **self.extra,
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "required_features": [],
            "pack_id": self.pack_id,
            "pack_version": self.pack_version,
            "title": self.title,
            "attribution": self.attribution,
            "license": self.license,
            "bounds": [box.south, box.west, box.north, box.east],
            "coverage": [s2.token_from_cell(cell) for cell in self.coverage],
            "cell_level": self.cell_level,
            "num_cells": self.num_cells,
            "embedding": {"dim": self.dim, "metric": METRIC},
            "codebook": {
                "entry": self.codebook_entry,
                "num_subspaces": self.num_subspaces,
                "bits": self.bits,
            },
            "encoders": [_encoder_to_json(encoder) for encoder in self.encoders],
            "shards": [_shard_to_json(shard) for shard in self.shards],
            "entries": {name: _digest_to_json(digest) for name, digest in self.entries.items()},
            "provenance": dict(self.provenance),
        }
        if self.calibration is not None:
            content["calibration"] = self.calibration.to_json()
        if self.photographed_entry is not None:
            content["photographed"] = self.photographed_entry
        return content

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read a manifest's file.

        Raises:
            PackFormatError: not canonical JSON, or a field is missing or wrong.
            PackVersionError: a newer format, or a required feature that is unknown here.
        """
        try:
            content = parse_canonical_json(data)
        except ValueError as e:
            raise PackFormatError(f"the manifest is unreadable: {e}") from e
        _check_version(content)
        try:
            return _read(content)
        except (ValueError, TypeError, AttributeError) as e:
            raise PackFormatError(f"the manifest is wrong: {e}") from e
        except KeyError as e:
            raise PackFormatError(f"the manifest has no field {e}") from e


def _check_shards(shards: tuple[ShardEntry, ...], num_cells: int) -> None:
    if not shards or num_cells != sum(shard.num_cells for shard in shards):
        raise ValueError(f"num_cells is {num_cells}, which is not the sum of the shards'")
    if min(shard.num_cells for shard in shards) < 1:
        raise ValueError("a shard's num_cells is below 1")
    _leaves([shard.parent for shard in shards], "shards: their parents")


def _check_coverage(
    coverage: tuple[int, ...], shards: tuple[ShardEntry, ...], cell_level: int
) -> None:
    if not coverage:
        raise ValueError("coverage is empty, want S2 cells that contain all cells")
    if s2.level_of(np.array(coverage, np.uint64)).max() > cell_level:
        raise ValueError("coverage has cells finer than the pack's")
    first, last = _leaves(coverage, "coverage: its cells")
    begin, end = _leaves([shard.parent for shard in shards], "shards: their parents")
    touched = np.searchsorted(first, end, side="right") > np.searchsorted(last, begin)
    if not touched.all():
        left_out = shards[int(np.argmin(touched))]
        raise ValueError(f"coverage leaves out shard {s2.token_from_cell(left_out.parent)}")


def _leaves(cells: Sequence[int], what: str) -> tuple[Any, Any]:
    """Return the first and last leaf of each cell, which must be ascending and disjoint."""
    first, last = s2.leaf_range(np.array(cells, np.uint64))
    if (last[:-1] >= first[1:]).any():
        raise ValueError(f"{what} overlap, or are not ascending")
    return first, last


def _check_version(content: Any) -> None:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PackFormatError(f"the manifest does not say that its format is {FORMAT!r}")
    version, needed = content.get("format_version"), content.get("required_features", [])
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PackFormatError(f"format_version is {version!r}, want a whole number from 1")
    if version > FORMAT_VERSION:
        raise PackVersionError(
            f"the pack has format {version}, this geofix reads up to {FORMAT_VERSION}: "
            "update geofix"
        )
    if not isinstance(needed, list) or not all(isinstance(feature, str) for feature in needed):
        raise PackFormatError(f"required_features is {needed!r}, want a list of names")
    unknown = sorted(set(needed) - FEATURES)
    if unknown:
        raise PackVersionError(
            f"the pack needs {', '.join(unknown)}, which this geofix does not know: update geofix"
        )


def _read(content: dict[str, Any]) -> Manifest:
    embedding, codebook = (_typed(content, name, dict) for name in ("embedding", "codebook"))
    if embedding["metric"] != METRIC:
        raise ValueError(f"metric is {embedding['metric']!r}, want {METRIC!r}")
    return Manifest(
        pack_id=_typed(content, "pack_id", str),
        pack_version=_typed(content, "pack_version", int),
        title=_typed(content, "title", str),
        attribution=_typed(content, "attribution", str),
        license=_typed(content, "license", str),
        bounds=_bounds(_typed(content, "bounds", list)),
        coverage=tuple(map(s2.cell_from_token, _texts(content, "coverage"))),
        cell_level=_typed(content, "cell_level", int),
        num_cells=_typed(content, "num_cells", int),
        dim=_typed(embedding, "dim", int),
        codebook_entry=_typed(codebook, "entry", str),
        num_subspaces=_typed(codebook, "num_subspaces", int),
        bits=_typed(codebook, "bits", int),
        encoders=tuple(map(_encoder_from_json, _typed(content, "encoders", list))),
        shards=tuple(map(_shard_from_json, _typed(content, "shards", list))),
        calibration=_calibration(content),
        entries={
            name: _digest_from_json(digest)
            for name, digest in _typed(content, "entries", dict).items()
        },
        photographed_entry=(
            _typed(content, "photographed", str) if "photographed" in content else None
        ),
        provenance=_typed(content, "provenance", dict),
        extra={name: value for name, value in content.items() if name not in _FIELDS},
    )


def _bounds(values: list[Any]) -> Bounds:
    if len(values) != 4 or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"bounds is {values!r}, want [south, west, north, east]")
    return Bounds(*map(float, values))


def _encoder_to_json(encoder: EncoderEntry) -> dict[str, Any]:
    content: dict[str, Any] = {
        **encoder.extra,
        "entry": encoder.entry,
        "target": encoder.target,
        "precision": encoder.precision,
        "dim": encoder.dim,
        "input_spec": encoder.input_spec.to_json(),
    }
    if encoder.calibration is not None:
        content["calibration"] = encoder.calibration.to_json()
    if encoder.parity is not None:
        content["parity"] = dict(encoder.parity)
    if encoder.referenced is not None:
        content["referenced"] = _digest_to_json(encoder.referenced)
    return content


def _encoder_from_json(content: dict[str, Any]) -> EncoderEntry:
    return EncoderEntry(
        entry=_typed(content, "entry", str),
        target=_typed(content, "target", str),
        precision=_typed(content, "precision", str),
        dim=_typed(content, "dim", int),
        input_spec=InputSpec.from_json(_typed(content, "input_spec", dict)),
        calibration=_calibration(content),
        parity=_typed(content, "parity", dict) if "parity" in content else None,
        referenced=(
            _digest_from_json(_typed(content, "referenced", dict))
            if "referenced" in content
            else None
        ),
        extra={name: value for name, value in content.items() if name not in _ENCODER_FIELDS},
    )


def _digest_to_json(digest: EntryDigest) -> dict[str, Any]:
    return {"bytes": digest.num_bytes, "sha256": digest.sha256}


def _digest_from_json(content: dict[str, Any]) -> EntryDigest:
    return EntryDigest(_typed(content, "bytes", int), _typed(content, "sha256", str))


def _shard_to_json(shard: ShardEntry) -> dict[str, Any]:
    return {
        "parent": s2.token_from_cell(shard.parent),
        "kind": shard.kind,
        "num_cells": shard.num_cells,
        "cells": shard.cells_entry,
        "payload": shard.payload_entry,
    }


def _shard_from_json(content: dict[str, Any]) -> ShardEntry:
    return ShardEntry(
        parent=s2.cell_from_token(_typed(content, "parent", str)),
        kind=_typed(content, "kind", str),
        num_cells=_typed(content, "num_cells", int),
        cells_entry=_typed(content, "cells", str),
        payload_entry=_typed(content, "payload", str),
    )


def _calibration(content: Mapping[str, Any]) -> Calibration | None:
    if "calibration" not in content:
        return None
    return Calibration.from_json(_typed(content, "calibration", dict))


def _texts(content: Mapping[str, Any], name: str) -> list[str]:
    values: list[Any] = _typed(content, name, list)
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} is {values!r}, want a list of texts")
    return values


def _typed(content: Mapping[str, Any], name: str, kind: type) -> Any:
    value = content[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, want {kind.__name__}")
    return value
