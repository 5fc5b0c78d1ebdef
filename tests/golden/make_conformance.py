"""Write conformance/: packs that a reader must take, and packs that it must refuse.

Run it only when the pack format changes, as `python -m tests.golden.make_conformance`. All are made
of one tiny region: 40 cells in two shards, codes of 4 dimensions in a byte, and an encoder that is
no model, since no reader has to run it. `cases.json` says of each file whether to take it, why not,
by which section of docs/pack_spec.md, and what geofix raises. Packs with "key" are to be opened
with signer.pub, those with "min_version" as if this version had been seen.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geofix.pack_writer import sign_pack
from geofix_index import cells as s2
from tests.geofix.forgery import (
    Contents,
    flipped,
    pack_bytes,
    read_contents,
    with_entry,
    with_manifest,
    zip_again,
)
from tests.golden.conformance_pack import MODEL, make_pack

FOLDER = Path(__file__).parent / "conformance"
KEY = "signer.pub"
_SEED = hashlib.sha256(b"a key for conformance files, which everybody knows").digest()
_LOCAL_HEADER, _DIRECTORY_HEADER = 30, 46  # bytes before an entry's name


@dataclass(frozen=True)
class Case:
    """A pack, and what a reader makes of it."""

    name: str
    section: str  # of docs/pack_spec.md
    why: str
    data: bytes
    error: str = ""  # what geofix raises; empty: to be taken
    key: bool = False
    min_version: int = 0


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    private, public = _keys()
    (FOLDER / KEY).write_bytes(public)
    cases = [*_good(private), *_bad(private)]
    for case in cases:
        (FOLDER / f"{case.name}.geofix").write_bytes(case.data)
    (FOLDER / "cases.json").write_text(json.dumps([_told(c) for c in cases], indent=1) + "\n")


def _told(case: Case) -> dict[str, Any]:
    told: dict[str, Any] = {
        "file": f"{case.name}.geofix", "take": not case.error, "section": case.section,
        "why": case.why,
    }  # fmt: skip
    if case.error:
        told["error"] = case.error
    if case.key:
        told["key"] = KEY
    if case.min_version:
        told["min_version"] = case.min_version
    return told


def _keys() -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(_SEED)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    subject = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, key.public_key().public_bytes(pem, subject)


def _good(private: bytes) -> Iterator[Case]:
    yield Case("scan", "1", "two shards of codes alone, an encoder, calibrated", make_pack())
    yield Case("usearch", "1", "a shard with a graph, as a USearch file", make_pack(kind="usearch"))
    yield Case("eight-bits", "2", "codes of 8 bits a sub-quantizer", make_pack(bits=8))
    yield Case("referenced", "2", "the encoder is named and not carried", make_pack(carried=False))
    yield Case("no-encoder", "2", "embeddings are made elsewhere", make_pack(encoders=0))
    yield Case("photographed", "5", "a bit for each cell, and what to expect", make_pack(bit=True))
    yield Case("signed", "7", "signed with the key", _signed(private), key=True)
    yield Case("signed-unasked", "7", "signed, and no key is given", _signed(private))
    yield Case("antimeridian", "2", "bounds with west > east", make_pack(lon=179.99))
    edited = with_manifest(_contents(), lambda m: m.update(a_later_field={"x": [1, None]}))
    yield Case("later-field", "2", "a field that version 1 does not know", edited)
    numbers = {"small": 1e-7, "large": 1e21, "\U0001f600": 1, "\ufb33": 2}
    edited = with_manifest(_contents(), lambda m: m.update(provenance=numbers))
    yield Case("canonical", "2", "numbers and keys that are spelled one way only", edited)
    yield Case(
        "second-release", "8", "version 2 where 2 was seen", make_pack(version=2), min_version=2
    )


def _bad(private: bytes) -> Iterator[Case]:
    yield from _bad_zip()
    yield from _bad_manifest()
    yield from _bad_entries()
    yield from _bad_trust(private)


def _bad_zip() -> Iterator[Case]:
    good, contents = make_pack(), _contents()

    def case(name: str, why: str, data: bytes) -> Case:
        return Case(f"bad-{name}", "1", why, data, "PackFormatError")

    last = list(contents)[-1]
    local, central = _headers_of(good, "codebook.pq")
    yield case("empty", "no byte at all", b"")
    yield case("cut", "the last byte is missing", good[:-1])
    yield case("trailing", "a byte after the end", good + b"\0")
    yield case("leading", "a byte before the first entry", b"\0" + good)
    yield case("comment", "a comment of three bytes", good[:-2] + b"\3\0abc")
    yield case("deflated", "entries are compressed", zip_again(contents, compression=8))
    yield case("unaligned", "another tool stored the same entries", zip_again(contents))
    yield case("method", "the directory says deflated", flipped(good, central + 10, bit=3))
    yield case("encrypted", "a header says encrypted", flipped(good, local + 6))
    yield case("time", "a header has another time", flipped(good, local + 10))
    yield case("local-size", "local header and directory differ", flipped(good, local + 18))
    lying = _put(good, central + 20, struct.pack("<II", 1 << 31, 1 << 31))
    yield case("lying-size", "the directory claims 2 GiB for an entry", lying)
    many = _put(good, -12, b"\xfe\xff\xfe\xff")
    yield case("many-entries", "the end claims 65,534 entries", many)
    yield case("overlap", "two entries share their data", _put(good, central + 42, bytes(4)))
    yield case("gap", "bytes between entries that are no entry's", _with_gap(good))
    for what, other in (
        ("absolute", "/" + last[1:]), ("parent", "../" + last[3:]), ("hidden", "." + last[1:]),
        ("backslash", last.replace("/", "\\")), ("not-ascii", last[:-2] + "é"),
        ("twice", "shards/" + list(contents)[-2][7:]),
    ):  # fmt: skip
        renamed = good.replace(last.encode(), other.encode())
        yield case(f"name-{what}", f"an entry is named {other!r}", renamed)


def _bad_manifest() -> Iterator[Case]:
    contents = _contents()
    text = contents["manifest.json"]

    def raw(name: str, why: str, data: bytes, error: str = "PackFormatError") -> Case:
        packed = pack_bytes((contents | {"manifest.json": data}).items())
        return Case(f"bad-{name}", "2", why, packed, error)

    def edit(name: str, why: str, change: Callable[[dict[str, Any]], Any]) -> Case:
        data = with_manifest(contents, change)
        return Case(f"bad-{name}", "2", why, data, "PackFormatError")

    yield raw("not-json", "the manifest is no JSON", b"{")
    yield raw("spaces", "JSON, but not in canonical form", text.replace(b":", b": ", 1))
    yield raw("order-of-keys", "keys out of order", b'{"title":"x",' + text[1:])
    for name, why, right, wrong in (
        ("float-dim", "1 spelled 1.0", b'"dim":4', b'"dim":4.0'),
        ("true", "true where a number belongs", b'"pack_version":1', b'"pack_version":true'),
        ("plus", "an exponent of two digits", b'"temperature":0.0625', b'"temperature":1e-07'),
        ("zero", "a number with a zero at its end", b'"elsewhere":0.5', b'"elsewhere":0.50'),
        ("escape", "a letter as an escape", b'"title":"Tiny"', b'"title":"Tin\\u0079"'),
    ):
        yield raw(name, why, text.replace(right, wrong, 1))
    numbers = {"\U0001f600": 1, "\ufb33": 2}
    sorted_wrongly = with_manifest(contents, lambda m: m.update(provenance=numbers))
    by_unit = b'{"\xf0\x9f\x98\x80":1,"\xef\xac\xb3":2}'
    by_point = b'{"\xef\xac\xb3":2,"\xf0\x9f\x98\x80":1}'
    edited = _contents_of(sorted_wrongly)["manifest.json"].replace(by_unit, by_point)
    yield raw("key-order", "keys in the order of code points", edited)
    yield raw("byte-order-mark", "starts with a byte order mark", b"\xef\xbb\xbf" + text)
    yield edit("no-title", "a field is missing", lambda m: m.pop("title"))
    yield edit("text-dim", "a field of another type", lambda m: m["embedding"].update(dim="4"))
    yield edit("level-31", "a level that S2 lacks", lambda m: m.update(cell_level=31))
    yield edit("metric", "a metric that version 1 lacks", _measure_otherwise)
    yield edit("num-cells", "not the sum of the shards", lambda m: m.update(num_cells=41))
    yield edit("shard-order", "parents do not ascend", lambda m: m["shards"].reverse())
    yield edit("no-shards", "no shard", lambda m: m.update(shards=[], num_cells=0))
    yield edit("cell-0", "a token that is no cell", lambda m: m["shards"][0].update(parent="0"))
    yield edit("coverage", "leaves a shard out", lambda m: m.update(coverage=["1"]))
    yield edit("fine-coverage", "coverage finer than the cells", _cover_finely)
    yield edit("input-key", "an input spec with an unknown key", _add_input_key)
    yield edit("both", "an encoder carried and referenced", _reference_what_is_carried)
    yield edit("hash-form", "a hash in capitals", lambda m: _listed(m).update(sha256="A" * 64))
    yield edit("size", "another size than the entry's", lambda m: _listed(m).update(bytes=1))
    unlisted = pack_bytes([*contents.items(), ("readme.txt", b"hello")])
    yield Case("bad-unlisted", "1", "an entry that is not listed", unlisted, "PackFormatError")
    absent = pack_bytes(list(contents.items())[:-1])
    yield Case("bad-absent", "1", "a listed entry is missing", absent, "PackFormatError")
    items = list(contents.items())
    swapped = pack_bytes([*items[:-2], items[-1], items[-2]])
    yield Case("bad-order", "1", "entries in another order", swapped, "PackFormatError")
    other = pack_bytes((contents | {"mimetype": b"application/zip"}).items())
    yield Case("bad-mimetype", "1", "another mimetype", other, "PackFormatError")
    no_manifest = pack_bytes([item for item in items if item[0] != "manifest.json"])
    yield Case("bad-no-manifest", "1", "no manifest", no_manifest, "PackFormatError")


def _bad_entries() -> Iterator[Case]:
    good, contents = make_pack(), _contents()
    for name in ("encoder.onnx", "codebook.pq", ".cells", ".codes"):
        entry = next(entry for entry in contents if entry.endswith(name))
        forged = contents | {entry: flipped(contents[entry], len(contents[entry]) - 1)}
        data = pack_bytes(forged.items())
        what = f"a bit of {entry} is flipped, its CRC-32 made to agree"
        yield Case(f"bad-hash-{name.strip('.')}", "6", what, data, "PackCorruptError")
    damaged = _put(good, good.index(MODEL), b"NO")
    yield Case("bad-crc", "6", "two bytes of an entry are changed", damaged, "PackCorruptError")
    damaged = good.replace(b'"title":"Tiny"', b'"title":"Tina"', 1)
    yield Case("bad-manifest-crc", "6", "the manifest is changed", damaged, "PackCorruptError")
    cells = next(entry for entry in contents if entry.endswith(".cells"))
    codes = next(entry for entry in contents if entry.endswith(".codes"))
    book = contents["codebook.pq"]
    for name, entry, content, why in (
        ("descending", cells, contents[cells][:40] + contents[cells][:39:-1], "offsets descend"),
        ("short-codes", codes, contents[codes][:-1], "codes for fewer cells"),
        ("codebook-nan", "codebook.pq", book[:-4] + b"\xff\xff\xff\xff", "a centroid is NaN"),
        ("codebook-dim", "codebook.pq", _put(book, 12, b"\x08"), "dimensions that do not fit"),
        ("shard-kind", cells, _put(contents[cells], 12, b"\1"), "another kind than stated"),
    ):
        data, what = with_entry(contents, entry, content), f"{entry}: {why}; its hash agrees"
        yield Case(f"bad-{name}", "6", what, data, "PackFormatError")
    elsewhere = with_manifest(_contents(), lambda m: m.update(bounds=[-10, -20, -9, -19]))
    why = "cells lie outside the bounds"
    yield Case("bad-bounds-elsewhere", "6", why, elsewhere, "PackFormatError")
    few = with_manifest(_contents(), _cover_one_cell_of_each_shard)
    why = "cells lie outside the coverage"
    yield Case("bad-coverage-of-few", "6", why, few, "PackFormatError")
    with_bits = _contents(bit=True)
    bits = with_bits["photographed.bits"]
    few = with_entry(with_bits, "photographed.bits", bits[:-1])
    yield Case("bad-few-bits", "5", "fewer bits than cells", few, "PackFormatError")
    many = with_entry(with_bits, "photographed.bits", bits + b"\0")
    yield Case("bad-many-bits", "5", "more bits than cells", many, "PackFormatError")


def _bad_trust(private: bytes) -> Iterator[Case]:
    signed = _contents_of(_signed(private))
    signature = signed["manifest.sig"]

    def case(name: str, why: str, forged: Contents) -> Case:
        data = pack_bytes(forged.items())
        return Case(f"bad-{name}", "7", why, data, "PackSignatureError", key=True)

    yield case("unsigned", "a key is given, and the pack not signed", _contents())
    damaged = signed | {"manifest.sig": flipped(signature, 5)}
    yield case("signature", "a bit of it is flipped", damaged)
    title = signed["manifest.json"].replace(b"Tiny", b"Tina")
    yield case("forged-title", "changed after it was signed", signed | {"manifest.json": title})
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(signed["manifest.json"])
    yield case("signed-by-another", "by another key", signed | {"manifest.sig": other})
    short = pack_bytes((signed | {"manifest.sig": signature[:63]}).items())
    yield Case("bad-short-signature", "7", "63 bytes, no key given", short, "PackFormatError")
    later = with_manifest(_contents(), lambda m: m.update(format_version=2))
    yield Case("bad-later-format", "8", "format 2", later, "PackVersionError")
    tides = with_manifest(_contents(), lambda m: m.update(required_features=["tides"]))
    yield Case("bad-feature", "8", "needs what version 1 lacks", tides, "PackVersionError")
    why = "version 1 where 2 was seen"
    yield Case("bad-rollback", "8", why, make_pack(), "PackVersionError", min_version=2)


def _contents(**made: Any) -> Contents:
    return _contents_of(make_pack(**made))


def _contents_of(data: bytes) -> Contents:
    path = FOLDER / "part.geofix"
    path.write_bytes(data)
    contents = read_contents(path)
    path.unlink()
    return contents


def _signed(private: bytes) -> bytes:
    path = FOLDER / "part.geofix"
    path.write_bytes(make_pack())
    sign_pack(path, private)
    data = path.read_bytes()
    path.unlink()
    return data


def _measure_otherwise(manifest: dict[str, Any]) -> None:
    manifest["embedding"]["metric"] = "l2"


def _cover_one_cell_of_each_shard(manifest: dict[str, Any]) -> None:
    cells = [s2.cell_from_token(shard["parent"]) for shard in manifest["shards"]]
    first = [int(s2.descendants([cell], level=16)[0]) for cell in cells]
    manifest["coverage"] = [s2.token_from_cell(cell) for cell in first]


def _cover_finely(manifest: dict[str, Any]) -> None:
    cells = [s2.cell_from_token(shard["parent"]) for shard in manifest["shards"]]
    fine = s2.descendants(cells, level=17)[::300].tolist()
    manifest["coverage"] = [s2.token_from_cell(cell) for cell in fine]


def _listed(manifest: dict[str, Any]) -> dict[str, Any]:
    digest: dict[str, Any] = manifest["entries"]["codebook.pq"]
    return digest


def _add_input_key(manifest: dict[str, Any]) -> None:
    manifest["encoders"][0]["input_spec"]["gamma"] = 2.2


def _reference_what_is_carried(manifest: dict[str, Any]) -> None:
    encoder = manifest["encoders"][0]
    encoder["referenced"] = manifest["entries"][encoder["entry"]]


def _headers_of(data: bytes, name: str) -> tuple[int, int]:
    """Return where an entry's local header and its record in the directory begin."""
    encoded = name.encode()
    return (
        data.index(b"PK\3\4", data.index(encoded) - _LOCAL_HEADER - 1),
        data.rindex(encoded) - _DIRECTORY_HEADER,
    )


def _put(data: bytes, at: int, other: bytes) -> bytes:
    at %= len(data)
    return data[:at] + other + data[at + len(other) :]


def _with_gap(data: bytes) -> bytes:
    """Move the directory by 64 bytes, and tell the end of it."""
    end_at = len(data) - 22
    (directory_at,) = struct.unpack_from("<I", data, end_at + 16)
    moved = data[:directory_at] + bytes(64) + data[directory_at:]
    return _put(moved, end_at + 64 + 16, struct.pack("<I", directory_at + 64))


if __name__ == "__main__":
    main()
