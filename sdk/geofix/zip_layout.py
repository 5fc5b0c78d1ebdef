"""The one ZIP file that holds given entries: all stored, in order, data aligned to 64 bytes.

Every header byte follows from the entries' names, sizes and CRC-32. So the writer computes the
headers, and the reader computes them again and compares: two headers that disagree, a gap, a
comment, a flipped bit in a field that nobody reads, all show as one difference. Byte order is
little-endian; field names are those of PKWARE's APPNOTE.TXT.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from geofix.errors import PackFormatError

ALIGNMENT = 64
MAX_NAME_LENGTH = 200

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_END64_LOCATOR = struct.Struct("<IIQI")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = 0x04034B50, 0x02014B50, 0x06054B50
_END64_MAGIC, _END64_LOCATOR_MAGIC = 0x06064B50, 0x07064B50

_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the ZIP64 field"
_VERSION, _VERSION_ZIP64 = 20, 45
_MADE_ON_UNIX = 3 << 8
_FILE_MODE = 0o100644 << 16
_STORED, _NO_FLAGS, _MIDNIGHT = 0, 0, 0
_DATE = (1980 - 1980) << 9 | 1 << 5 | 1  # 1980-01-01, the first that ZIP knows
_ZIP64_FIELD = 0x0001
_ALIGNMENT_FIELD = 0xD935  # as Android's zipalign: the alignment (u16), then zeros

# Segments of letters, digits, dot, dash and underscore that do not start with a dot: no absolute
# or parent path, nothing that another system would spell differently.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """What determines an entry's headers."""

    name: str
    num_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole ZIP file but for the data: each header is followed at once by its entry's data."""

    headers: list[bytes]  # one for each entry
    starts: list[int]  # where each entry's data begins
    directory: list[bytes]  # the central directory's record of each entry
    end: bytes  # what ends the file

    @property
    def tail(self) -> bytes:
        """What follows the data of the last entry."""
        return b"".join(self.directory) + self.end


def check_name(name: str) -> None:
    """Raise ValueError unless this may be the name of an entry."""
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(
            f"entry name {name[:MAX_NAME_LENGTH]!r}: want letters, digits, '.', '-', '_' between "
            f"slashes, no segment that starts with '.', at most {MAX_NAME_LENGTH} characters"
        )


def lay_out(entries: Sequence[Entry]) -> Layout:
    """Return the layout of entries.

    Raises:
        ValueError: a name that is not allowed, or two that differ in case only.
    """
    headers: list[bytes] = []
    starts: list[int] = []
    central: list[bytes] = []
    seen: set[str] = set()
    at = 0
    for entry in entries:
        check_name(entry.name)
        if entry.name.lower() in seen:
            raise ValueError(
                f"two entries named {entry.name!r} (upper and lower case count as one)"
            )
        seen.add(entry.name.lower())
        header = _local_header(entry, at)
        headers.append(header)
        central.append(_central_header(entry, at))
        starts.append(at + len(header))
        at += len(header) + entry.num_bytes
    return Layout(headers, starts, central, _end(len(headers), sum(map(len, central)), at))


def read_entries(data: memoryview) -> list[tuple[Entry, int]]:
    """Return the entries of a file and where their data begins.

    Raises:
        PackFormatError: the file differs in any byte outside the entries' data from the one that
            `lay_out` describes.
    """
    num_entries, directory_at = _read_end(data)
    entries = _read_directory(data, directory_at, num_entries)
    try:
        layout = lay_out(entries)
    except ValueError as e:
        raise PackFormatError(f"not a region pack: {e}") from e
    _check_directory(data[directory_at:], layout, entries)
    for entry, header, start in zip(entries, layout.headers, layout.starts, strict=True):
        if start + entry.num_bytes > directory_at:
            raise PackFormatError(f"entry {entry.name} reaches beyond the ZIP directory")
        if data[start - len(header) : start] != header:
            raise PackFormatError(f"the headers of entry {entry.name} disagree")
    end = layout.starts[-1] + entries[-1].num_bytes if entries else 0
    if end != directory_at:
        raise PackFormatError(f"{directory_at - end} bytes before the ZIP directory are no entry's")
    return list(zip(entries, layout.starts, strict=True))


def _check_directory(tail: memoryview, layout: Layout, entries: Sequence[Entry]) -> None:
    at, before = 0, "its beginning"
    for entry, record in zip(entries, layout.directory, strict=True):
        if tail[at : at + len(record)] != record:
            raise PackFormatError(f"the ZIP directory is wrong at entry {entry.name}, or {before}")
        at, before = at + len(record), f"the size of {entry.name}"
    if tail[at:] != layout.end:
        raise PackFormatError(f"the ZIP directory is wrong at its end, or {before}")


def _local_header(entry: Entry, at: int) -> bytes:
    is_large = entry.num_bytes >= _FULL32
    size = _FULL32 if is_large else entry.num_bytes
    name = entry.name.encode("ascii")
    extra = b""
    if is_large:
        extra = struct.pack("<HHQQ", _ZIP64_FIELD, 16, entry.num_bytes, entry.num_bytes)
    aligned = at + _LOCAL.size + len(name) + len(extra) + 6  # 6: an alignment field without zeros
    num_zeros = -aligned % ALIGNMENT
    extra += struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + num_zeros, ALIGNMENT) + bytes(num_zeros)
    version = _VERSION_ZIP64 if is_large else _VERSION
    fixed = _LOCAL.pack(
        _LOCAL_MAGIC, version, _NO_FLAGS, _STORED, _MIDNIGHT, _DATE,
        entry.crc32, size, size, len(name), len(extra),
    )  # fmt: skip
    return fixed + name + extra


def _central_header(entry: Entry, at: int) -> bytes:
    large = [entry.num_bytes] * 2 if entry.num_bytes >= _FULL32 else []
    large += [at] if at >= _FULL32 else []
    extra = b"".join(struct.pack("<Q", value) for value in large)
    if large:
        extra = struct.pack("<HH", _ZIP64_FIELD, len(extra)) + extra
    version = _VERSION_ZIP64 if large else _VERSION
    size = min(entry.num_bytes, _FULL32)
    name = entry.name.encode("ascii")
    fixed = _CENTRAL.pack(
        _CENTRAL_MAGIC, _MADE_ON_UNIX | version, version, _NO_FLAGS, _STORED, _MIDNIGHT, _DATE,
        entry.crc32, size, size, len(name), len(extra), 0, 0, 0, _FILE_MODE, min(at, _FULL32),
    )  # fmt: skip
    return fixed + name + extra


def _end(num_entries: int, directory_bytes: int, directory_at: int) -> bytes:
    end64 = b""
    if num_entries >= _FULL16 or directory_bytes >= _FULL32 or directory_at >= _FULL32:
        made = _MADE_ON_UNIX | _VERSION_ZIP64
        end64 = _END64.pack(
            _END64_MAGIC, _END64.size - 12, made, _VERSION_ZIP64, 0, 0,
            num_entries, num_entries, directory_bytes, directory_at,
        )  # fmt: skip
        end64_at = directory_at + directory_bytes
        end64 += _END64_LOCATOR.pack(_END64_LOCATOR_MAGIC, 0, end64_at, 1)
    count = min(num_entries, _FULL16)
    sizes = min(directory_bytes, _FULL32), min(directory_at, _FULL32)
    return end64 + _END.pack(_END_MAGIC, 0, 0, count, count, *sizes, 0)


def _read_end(data: memoryview) -> tuple[int, int]:
    """Return number of entries and start of the directory; `read_entries` checks them."""
    if len(data) < _END.size:
        raise PackFormatError(f"not a region pack: {len(data)} bytes are too few")
    end_at = len(data) - _END.size
    magic, _, _, _, num_entries, directory_bytes, directory_at, _ = _END.unpack_from(data, end_at)
    if magic != _END_MAGIC:
        raise PackFormatError(
            "not a region pack, or cut off (it does not end as a ZIP file does): copy it again"
        )
    if _FULL16 == num_entries or _FULL32 in (directory_bytes, directory_at):
        end64_at = end_at - _END64_LOCATOR.size - _END64.size
        if end64_at < 0:
            raise PackFormatError("the ZIP64 end is missing")
        fields = _END64.unpack_from(data, end64_at)
        num_entries, directory_at = fields[7], fields[9]
    if directory_at > end_at or num_entries > (end_at - directory_at) // _CENTRAL.size:
        raise PackFormatError("the ZIP directory does not fit into the file")
    return num_entries, directory_at


def _read_directory(data: memoryview, at: int, num_entries: int) -> list[Entry]:
    entries: list[Entry] = []
    for _ in range(num_entries):
        place = f"after entry {entries[-1].name}" if entries else "at its beginning"
        if data[at : at + 4] != _CENTRAL_MAGIC.to_bytes(4, "little"):
            raise PackFormatError(f"the ZIP directory is wrong {place}")
        if at + _CENTRAL.size > len(data):
            raise PackFormatError(f"the ZIP directory is cut off {place}")
        fields = _CENTRAL.unpack_from(data, at)
        crc32, num_bytes, name_length, extra_length = fields[7], fields[9], fields[10], fields[11]
        name_at = at + _CENTRAL.size
        at = name_at + name_length + extra_length + fields[12]
        # What is no ASCII is no allowed name: `lay_out` refuses it.
        name = bytes(data[name_at : name_at + name_length][:MAX_NAME_LENGTH])
        entry = name.decode("ascii", "replace")
        if not entry:
            raise PackFormatError(f"the ZIP directory is wrong {place}: an entry without a name")
        if at > len(data):
            raise PackFormatError(f"the ZIP directory is cut off at entry {entry}")
        if num_bytes == _FULL32:
            if extra_length < 12:
                raise PackFormatError(f"entry {entry} has no ZIP64 size in the ZIP directory")
            (num_bytes,) = struct.unpack_from("<Q", data, name_at + name_length + 4)
        if num_bytes > len(data):
            raise PackFormatError(f"entry {entry} claims to be larger than the file")
        entries.append(Entry(entry, num_bytes, crc32))
    return entries
