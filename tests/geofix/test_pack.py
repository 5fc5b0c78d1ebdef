import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geofix_index.graph
from geofix.errors import PackCorruptError, PackError, PackFormatError, PackVersionError
from geofix.pack import MIMETYPE, RegionPack
from geofix.zip_layout import ALIGNMENT, read_entries
from geofix_index import cells as s2
from tests.geofix.forgery import (
    Contents,
    flipped,
    open_bytes,
    pack_bytes,
    read_contents,
    with_entry,
    with_manifest,
    zip_again,
)
from tests.tiny_pack import TinyRegion

NUM_FLIPS_IN_DATA = 1000


@pytest.fixture(scope="module")
def data(pack_path: Path) -> bytes:
    """Return a pack's bytes."""
    return pack_path.read_bytes()


@pytest.fixture(scope="module")
def contents(pack_path: Path) -> Contents:
    """Return a pack's entries."""
    return read_contents(pack_path)


@pytest.fixture
def opened_by_usearch(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the payloads that reach USearch from now on; none is opened."""
    seen: list[bytes] = []

    def open_nothing(payload: bytes | memoryview, num_bytes: int) -> None:
        seen.append(bytes(payload))

    monkeypatch.setattr(geofix_index.graph.Graph, "open", open_nothing)
    return seen


def search(pack: RegionPack, region: TinyRegion) -> None:
    """Search everywhere, so that each shard is opened."""
    pack.index().search(region.cell_codes[0], k=1)


def test_any_zip_tool_opens_a_pack(pack_path: Path, region: TinyRegion) -> None:
    with zipfile.ZipFile(pack_path) as file:
        assert file.testzip() is None
        names = file.namelist()
        assert names[:2] == ["mimetype", "manifest.json"]
        assert file.read("mimetype") == MIMETYPE
        assert file.read("encoders/onnx-fp32/encoder.onnx") == region.encoder.data
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}


def test_the_type_of_a_pack_stands_where_file_tools_look(data: bytes) -> None:
    assert data[30:38] == b"mimetype"
    assert data[ALIGNMENT : ALIGNMENT + len(MIMETYPE)] == MIMETYPE


def test_all_data_are_aligned(data: bytes) -> None:
    assert [start % ALIGNMENT for _, start in read_entries(memoryview(data))] == [0] * 12


def test_an_opened_pack_gives_what_was_written(pack_path: Path, region: TinyRegion) -> None:
    pack = RegionPack.open(pack_path)
    assert pack.verify() == len(read_contents(pack_path))
    assert pack.manifest.num_cells == len(region.cells)
    assert [shard.parent for shard in pack.manifest.shards] == [p for p, _ in region.shards]
    assert pack.read("encoders/onnx-fp32/encoder.onnx") == region.encoder.data
    found = pack.index().search(region.cell_codes[7], k=len(region.cells))
    assert found.cells[0] == region.cells[7]
    assert sorted(found.cells.tolist()) == region.cells.tolist()


def test_bounds_are_a_box_around_all_cells(pack_path: Path, region: TinyRegion) -> None:
    box = RegionPack.open(pack_path).manifest.bounds
    corners = s2.vertices(region.cells).reshape(-1, 2)
    wanted = [*corners.min(axis=0), *corners.max(axis=0)]
    assert [box.south, box.west, box.north, box.east] == pytest.approx(wanted, abs=1e-7)


def test_bounds_cross_the_antimeridian(antimeridian_region: TinyRegion, tmp_path: Path) -> None:
    path = antimeridian_region.write(tmp_path / "both.geofix")
    box = RegionPack.open(path).manifest.bounds
    assert 179.9 < box.west < 180
    assert -180 < box.east < -179.9
    assert 0.01 < box.width_deg < 0.05


def test_two_writes_give_the_same_bytes(
    region: TinyRegion, pack_path: Path, tmp_path: Path
) -> None:
    assert region.write(tmp_path / "tiny.geofix").read_bytes() == pack_path.read_bytes()


def test_any_flipped_byte_is_a_pack_error(data: bytes) -> None:
    in_data = np.zeros(len(data), bool)
    for entry, start in read_entries(memoryview(data)):
        in_data[start : start + entry.num_bytes] = True
    rng = np.random.default_rng(0)
    places = [
        *np.flatnonzero(~in_data).tolist(),
        *rng.choice(np.flatnonzero(in_data), NUM_FLIPS_IN_DATA, replace=False).tolist(),
    ]
    for at in places:
        with pytest.raises(PackError):
            open_bytes(flipped(data, at, bit=int(rng.integers(8)))).verify()


def test_a_flipped_byte_in_any_entry_is_a_corrupt_entry(data: bytes) -> None:
    for entry, start in read_entries(memoryview(data)):
        damaged = flipped(data, start + entry.num_bytes // 2)
        with pytest.raises(PackCorruptError, match=entry.name):
            open_bytes(damaged).verify()


def test_a_pack_that_is_cut_off_is_a_format_error(data: bytes) -> None:
    cuts = {*range(0, 200), *range(0, len(data), 997), *range(len(data) - 200, len(data))}
    for length in sorted(cuts):
        with pytest.raises(PackFormatError):
            open_bytes(data[:length])


@pytest.mark.parametrize("extra", [b"\0", b"PK\5\6" + bytes(18), b"x" * 70_000], ids=len)
def test_bytes_around_a_pack_are_a_format_error(data: bytes, extra: bytes) -> None:
    for forged in (data + extra, extra + data):
        with pytest.raises(PackFormatError):
            open_bytes(forged)


def test_a_comment_is_a_format_error(data: bytes) -> None:
    with pytest.raises(PackFormatError):
        open_bytes(data[:-2] + b"\3\0abc")


def test_files_that_are_no_pack_are_format_errors_that_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "other.geofix"
    for other in (b"", b"PK", b"some text" * 100, zip_again({"a.txt": b"abc"}), bytes(4096)):
        path.write_bytes(other)
        with pytest.raises(PackFormatError, match=r"other\.geofix: "):
            RegionPack.open(path)


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RegionPack.open(tmp_path / "absent.geofix")
    with pytest.raises(IsADirectoryError):
        RegionPack.open(tmp_path)


def test_a_later_format_is_a_version_error_that_names_the_file(
    contents: Contents, tmp_path: Path
) -> None:
    path = tmp_path / "later.geofix"
    path.write_bytes(with_manifest(contents, lambda m: m.update(format_version=2)))
    with pytest.raises(PackVersionError, match=r"later\.geofix: .* format 2"):
        RegionPack.open(path)


def test_an_unlisted_entry_is_a_format_error(contents: Contents) -> None:
    for name in ("readme.txt", "manifest.sig", "shards/0.codes"):
        forged = pack_bytes([*contents.items(), (name, b"hello")])
        with pytest.raises(PackFormatError, match=name):
            open_bytes(forged)


def test_an_entry_that_is_listed_but_unused_is_a_format_error(contents: Contents) -> None:
    with pytest.raises(PackFormatError, match=r"readme\.txt"):
        open_bytes(with_entry(contents, "readme.txt", b"hello"))


def test_an_absent_entry_is_a_format_error(contents: Contents) -> None:
    for name in contents:
        rest = [(other, data) for other, data in contents.items() if other != name]
        with pytest.raises(PackFormatError, match=r"not a region pack|differ in"):
            open_bytes(pack_bytes(rest))


def test_a_duplicate_entry_is_a_format_error(contents: Contents) -> None:
    forged = pack_bytes([*contents.items(), ("codebook.px", contents["codebook.pq"])])
    with pytest.raises(PackFormatError, match="two entries named"):
        open_bytes(forged.replace(b"codebook.px", b"codebook.pq"))


def test_reordered_entries_are_a_format_error(contents: Contents) -> None:
    listed = list(contents.items())
    for first in range(len(listed) - 1):
        other = [*listed[:first], listed[first + 1], listed[first], *listed[first + 2 :]]
        with pytest.raises(PackFormatError, match=r"order|start with mimetype"):
            open_bytes(pack_bytes(other))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_pack_that_another_tool_zipped_again_is_a_format_error(
    contents: Contents, compression: int
) -> None:
    with pytest.raises(PackFormatError):
        open_bytes(zip_again(contents, compression=compression))


def test_an_entry_that_claims_to_be_deflated_is_a_format_error(data: bytes) -> None:
    # The method stands at byte 8 of a local header and at byte 10 of the directory's.
    local = data.index(b"codebook.pq") - 30
    central = data.rindex(b"codebook.pq") - 46
    with pytest.raises(PackFormatError):
        open_bytes(flipped(flipped(data, local + 8, bit=3), central + 10, bit=3))


@pytest.mark.parametrize("other", [b"application/epub+zip", MIMETYPE + b"\n", MIMETYPE[:-1], b""])
def test_another_mimetype_is_a_format_error(contents: Contents, other: bytes) -> None:
    with pytest.raises(PackFormatError, match="mimetype"):
        open_bytes(pack_bytes((contents | {"mimetype": other}).items()))


def test_hashes_are_checked_before_usearch_sees_a_payload(
    contents: Contents, region: TinyRegion, opened_by_usearch: list[bytes]
) -> None:
    payload = list(contents)[-1]
    damaged = flipped(contents[payload], len(contents[payload]) // 2)
    forged = open_bytes(pack_bytes((contents | {payload: damaged}).items()))  # CRC-32 is right
    with pytest.raises(PackCorruptError, match=payload):
        search(forged, region)
    with pytest.raises(PackCorruptError, match=payload):
        forged.verify()
    assert damaged not in opened_by_usearch


def test_each_shard_is_checked_when_it_is_needed_and_no_earlier(
    contents: Contents, region: TinyRegion
) -> None:
    last = list(contents)[-2]  # a cells file
    pack = open_bytes(pack_bytes((contents | {last: flipped(contents[last], 50)}).items()))
    index = pack.index()  # reads the codebook only
    with pytest.raises(PackCorruptError, match=last):
        index.search(region.cell_codes[0], k=1)


@pytest.mark.parametrize("entry", ["codebook.pq", ".cells", ".usearch", ".codes"])
def test_an_entry_of_another_length_is_a_format_error(contents: Contents, entry: str) -> None:
    for name in [name for name in contents if name.endswith(entry)][:1]:
        changed = dict(contents) | {name: contents[name] + b"\0"}
        with pytest.raises(PackFormatError, match="not as long"):
            open_bytes(pack_bytes(changed.items()))


@pytest.mark.parametrize("cut", [0, 4, 20, 100])
def test_an_entry_that_is_wrong_under_a_right_hash_is_a_format_error(
    contents: Contents, region: TinyRegion, cut: int, opened_by_usearch: list[bytes]
) -> None:
    for name in [name for name in contents if not name.startswith(("m", "encoders"))]:
        pack = open_bytes(with_entry(contents, name, contents[name][:cut]))
        with pytest.raises(PackFormatError, match=r"forged\.geofix: "):
            search(pack, region)
        with pytest.raises(PackFormatError):
            pack.verify()


@pytest.mark.parametrize("field", ["parent", "num_cells", "kind"])
def test_a_shard_that_is_not_the_described_one_is_a_format_error(
    contents: Contents, region: TinyRegion, field: str
) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        first, second = manifest["shards"][0], manifest["shards"][1]
        if field == "parent":
            for entry in ("cells", "payload"):
                first[entry], second[entry] = second[entry], first[entry]
        elif field == "kind":
            first["kind"] = "scan" if first["kind"] == "usearch" else "usearch"
        else:
            first[field], second[field] = first[field] + 1, second[field] - 1

    # The order of entries follows the manifest.
    swapped = with_manifest(contents, swap)
    if field == "parent":
        names = list(contents)
        names[-8:-4] = [*names[-6:-4], *names[-8:-6]]
        swapped = with_manifest({name: contents[name] for name in names}, swap)
    with pytest.raises(PackFormatError, match="not the shard that the manifest describes"):
        search(open_bytes(swapped), region)


def test_a_codebook_of_another_dimension_is_a_format_error(contents: Contents) -> None:
    def halve(manifest: dict[str, Any]) -> None:
        manifest["embedding"]["dim"] = manifest["encoders"][0]["dim"] = 16

    with pytest.raises(
        PackFormatError, match="32 dimensions in 16 x 4 bits, the manifest says 16 in"
    ):
        open_bytes(with_manifest(contents, halve)).index()


@pytest.mark.parametrize(
    "filename", ["../up.onnx", "/abs.onnx", "a\\b.onnx", "", ".hidden", "a/../b"]
)
def test_an_encoder_with_a_refused_name_is_an_error(
    region: TinyRegion, tmp_path: Path, filename: str
) -> None:
    with pytest.raises(ValueError, match="entry name"):
        region.write(tmp_path / "a.geofix", encoders=[replace(region.encoder, filename=filename)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pack_version": 0}, "pack_version is 0, want at least 1"),
        ({"provenance": {"loss": float("nan")}}, "nan cannot be JSON"),
        ({"shards": slice(None, 0)}, "a pack without shards, want at least one"),
        ({"shards": slice(None, None, -1)}, "their parents overlap, or are not ascending"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_pack_that_no_reader_would_take_is_not_written(
    region: TinyRegion, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    cuts = {name: part for name, part in changes.items() if isinstance(part, slice)}
    rest = {name: value for name, value in changes.items() if name not in cuts}
    cut = replace(region, **{name: getattr(region, name)[part] for name, part in cuts.items()})
    with pytest.raises(ValueError, match=message):
        cut.write(tmp_path / "a.geofix", **rest)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing(
    region: TinyRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        region.write(tmp_path / "tiny.geofix")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_earlier_pack(
    region: TinyRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = region.write(tmp_path / "tiny.geofix")
    before = hashlib.sha256(path.read_bytes()).digest()
    monkeypatch.setattr(os, "replace", lambda part, path: (_ for _ in ()).throw(OSError("busy")))
    with pytest.raises(OSError, match="busy"):
        region.write(path, pack_version=2)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_opened_pack_outlives_its_replacement(region: TinyRegion, tmp_path: Path) -> None:
    path = region.write(tmp_path / "tiny.geofix")
    pack = RegionPack.open(path)
    region.write(path, pack_version=2, encoders=[])
    assert pack.verify() == 12
    assert RegionPack.open(path).manifest.pack_version == 2
