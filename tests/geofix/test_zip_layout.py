import io
import mmap
import re
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.errors import PackFormatError
from geofix.zip_layout import ALIGNMENT, MAX_NAME_LENGTH, Entry, check_name, lay_out, read_entries
from tests.geofix.forgery import pack_bytes

LIMIT32 = 2**32 - 1  # sizes and offsets from here on stand in ZIP64 fields
SEGMENT = "[a-z0-9_-][a-z0-9._-]{0,9}"
NAMES = st.from_regex(f"{SEGMENT}(/{SEGMENT}){{0,2}}", fullmatch=True)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=300), max_size=8)


def write_sparse(path: Path, entries: list[Entry]) -> None:
    """Write a ZIP whose data are holes in the file: they read as zeros and take no room."""
    layout = lay_out(entries)
    with path.open("wb") as file:
        for header, start in zip(layout.headers, layout.starts, strict=True):
            file.seek(start - len(header))
            file.write(header)
        file.seek(layout.starts[-1] + entries[-1].num_bytes)
        file.write(layout.tail)


@given(CONTENTS)
def test_what_is_laid_out_is_read_back_from_aligned_places(contents: dict[str, bytes]) -> None:
    data = pack_bytes(contents.items())
    found = read_entries(memoryview(data))
    assert {entry.name: data[at : at + entry.num_bytes] for entry, at in found} == contents
    assert all(start % ALIGNMENT == 0 for _, start in found)


@given(CONTENTS)
def test_python_reads_the_same_entries(contents: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(pack_bytes(contents.items()))) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == contents
        assert {info.compress_type for info in file.infolist()} <= {zipfile.ZIP_STORED}
        assert {info.date_time for info in file.infolist()} <= {(1980, 1, 1, 0, 0, 0)}


@given(CONTENTS, st.data())
def test_a_flipped_header_bit_is_refused(contents: dict[str, bytes], draw: st.DataObject) -> None:
    data = bytearray(pack_bytes(contents.items()))
    in_data = {
        at for entry, start in read_entries(memoryview(bytes(data)))
        for at in range(start, start + entry.num_bytes)
    }  # fmt: skip
    at = draw.draw(st.sampled_from([at for at in range(len(data)) if at not in in_data]))
    data[at] ^= 1 << draw.draw(st.integers(0, 7))
    # A CRC-32 stands in both headers: each flip makes one of them differ from the other.
    with pytest.raises(PackFormatError):
        read_entries(memoryview(bytes(data)))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(PackFormatError):
        read_entries(memoryview(data + b"PK\x05\x06" + data[:18]))


@pytest.mark.parametrize("num_bytes", [LIMIT32 - 1, LIMIT32, LIMIT32 + 1])
def test_entries_around_4_gib_are_read_by_python_and_here(tmp_path: Path, num_bytes: int) -> None:
    entries = [Entry("first", 3, 1), Entry("large", num_bytes, 2), Entry("last", 5, 3)]
    path = tmp_path / "large.zip"
    write_sparse(path, entries)
    with zipfile.ZipFile(path) as file:
        infos = file.infolist()
        assert [info.file_size for info in infos] == [3, num_bytes, 5]
        assert [info.extract_version for info in infos][1] == (45 if num_bytes >= LIMIT32 else 20)
        with file.open("large") as large:
            assert large.read(10) == bytes(10)
        assert infos[2].header_offset > num_bytes
    with path.open("rb") as opened:
        data = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    found = read_entries(data)
    assert [entry for entry, _ in found] == entries
    assert all(start % ALIGNMENT == 0 for _, start in found)


def test_more_entries_than_16_bits_count_are_read_by_python_and_here() -> None:
    contents = {f"{number}": b"" for number in range(2**16 - 1)}
    data = pack_bytes(contents.items())
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert len(file.namelist()) == len(contents)
    assert len(read_entries(memoryview(data))) == len(contents)


def test_an_entry_larger_than_any_file_is_refused() -> None:
    first, second = 2**63, 2**62
    layout = lay_out([Entry("a", first, 0), Entry("b", second, 0)])
    directory_at = layout.starts[1] + second
    forged = layout.tail.replace(struct.pack("<Q", directory_at), bytes(8))
    forged = forged.replace(struct.pack("<Q", first), struct.pack("<Q", 2**64 - 1))
    with pytest.raises(PackFormatError):
        read_entries(memoryview(forged))


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", ".hidden", "a/.b", "a\\b"),
        *("C:x", "a b", "a\n", "ä", "a\0b", "x" * (MAX_NAME_LENGTH + 1)),
    ],
)
def test_a_name_that_another_system_could_misread_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="entry name"):
        check_name(name)
    with pytest.raises(ValueError, match="entry name"):
        lay_out([Entry(name, 0, 0)])


@pytest.mark.parametrize("other", ["Model.onnx", "../model", "/model.onn", "a\\odel.onn"])
def test_a_file_with_a_refused_name_is_refused(other: str) -> None:
    data = pack_bytes([("model.onnx", b"1"), ("another.on"[: len(other)], b"2")])
    forged = data.replace(b"another.on"[: len(other)], other.encode())
    with pytest.raises(PackFormatError, match=re.escape("not a region pack")):
        read_entries(memoryview(forged))


def test_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(ValueError, match="two entries named"):
        lay_out([Entry("a", 0, 0), Entry("A", 0, 0)])
