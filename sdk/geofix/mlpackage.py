"""A Core ML package as one file: the folder `encoder.mlpackage` in a ZIP of stored entries.

An .mlpackage is a folder that holds a manifest, a model (protobuf) and its weights. As one file it
can be hashed, and be an entry of a region pack. Order, times and modes are fixed, so that the same
content gives the same bytes. Archives are at most `MAX_BYTES` long; names are relative.
"""

import io
import re
import zipfile
from collections.abc import Mapping

FOLDER = "encoder.mlpackage"
FILENAME = f"{FOLDER}.zip"
MANIFEST = "Manifest.json"
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MAX_BYTES = 1 << 32  # of an archive: more needs ZIP64, and no phone loads it

_TIME = (1980, 1, 1, 0, 0, 0)  # the first that ZIP knows
_MODE = 0o100644 << 16
_UNIX = 3
# Segments that do not start with a dot: no absolute or parent path, nothing hidden.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class MlpackageError(ValueError):
    """Bytes that are no Core ML package as this module writes it."""


def pack_mlpackage(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of a package's files, which are named relative to its folder.

    Raises:
        MlpackageError: a name that is no plain relative path.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            _check_name(name)
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _TIME)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def read_mlpackage(data: bytes | memoryview) -> dict[str, bytes]:
    """Return the files of an archive, by their names relative to the package's folder.

    Raises:
        MlpackageError: not such an archive: damaged, packed with compression, with names outside
            of the folder, twice or strange, or without manifest and model.
    """
    if len(data) > MAX_BYTES:
        raise MlpackageError(f"the package has {len(data)} bytes, want at most {MAX_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > len(data):
                raise MlpackageError("the package's files overlap: export the encoder again")
            files = {_checked(entry): archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as e:
        raise MlpackageError(f"the package is no readable ZIP: {e}") from e
    if len({name.lower() for name in files}) != len(entries):  # as file systems of Apple see them
        raise MlpackageError("the package names a file twice: export the encoder again")
    for name in (MANIFEST, MODEL):
        if name not in files:
            raise MlpackageError(f"the package has no {FOLDER}/{name}: export the encoder again")
    return files


def _checked(entry: zipfile.ZipInfo) -> str:
    """Return an entry's name within the folder."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise MlpackageError(f"{entry.filename!r} is compressed, want stored entries")
    prefix = f"{FOLDER}/"
    if not entry.filename.startswith(prefix):
        raise MlpackageError(f"{entry.filename!r} lies outside of {prefix}")
    name = entry.filename.removeprefix(prefix)
    _check_name(name)
    return name


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise MlpackageError(f"{name!r} is no name of a file in a package, want a relative path")
