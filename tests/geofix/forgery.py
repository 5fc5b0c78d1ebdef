"""Packs that are wrong in one place and right everywhere else."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from geofix.canonical_json import canonical_json
from geofix.pack import RegionPack
from geofix.zip_layout import Entry, lay_out

Contents = dict[str, bytes]


def read_contents(pack: Path) -> Contents:
    """Return a pack's entries in order, read by Python's own ZIP reader."""
    with zipfile.ZipFile(pack) as file:
        return {name: file.read(name) for name in file.namelist()}


def pack_bytes(contents: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the ZIP that a pack with these entries is: its headers and CRC-32s are right."""
    listed = list(contents)
    layout = lay_out([Entry(name, len(data), zlib.crc32(data)) for name, data in listed])
    parts = [h + data for h, (_, data) in zip(layout.headers, listed, strict=True)]
    return b"".join(parts) + layout.tail


def with_manifest(contents: Contents, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the pack with its manifest edited in place."""
    manifest = json.loads(contents["manifest.json"])
    edit(manifest)
    return pack_bytes((contents | {"manifest.json": canonical_json(manifest)}).items())


def with_entry(contents: Contents, name: str, data: bytes) -> bytes:
    """Return the pack with an entry replaced and the manifest made to agree."""

    def agree(manifest: dict[str, Any]) -> None:
        manifest["entries"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    return with_manifest(contents | {name: data}, agree)


def flipped(data: bytes, at: int, *, bit: int = 0) -> bytes:
    """Return bytes with one bit flipped."""
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def open_bytes(data: bytes) -> RegionPack:
    """Open a pack that is in memory."""
    return RegionPack(Path("forged.geofix"), memoryview(data))


def zip_again(contents: Contents, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a ZIP of the entries as Python's own ZIP writer makes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, data in contents.items():
            file.writestr(zipfile.ZipInfo(name), data, compression)  # the same time each time
    return out.getvalue()
