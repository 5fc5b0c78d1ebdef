import hashlib
import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofix.mlpackage import (
    FOLDER,
    MANIFEST,
    MODEL,
    WEIGHTS,
    MlpackageError,
    pack_mlpackage,
    read_mlpackage,
)

FILES = {MANIFEST: b"{}", MODEL: b"model", WEIGHTS: bytes(range(100))}


def zip_of(names: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def inside(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{FOLDER}/{name}": data for name, data in files.items()}


def test_what_is_packed_is_read_again() -> None:
    assert read_mlpackage(pack_mlpackage(FILES)) == FILES
    assert read_mlpackage(memoryview(pack_mlpackage(FILES))) == FILES


def test_the_bytes_of_an_archive_never_change() -> None:
    packed = pack_mlpackage(FILES)
    assert packed == pack_mlpackage(dict(reversed(FILES.items())))
    assert hashlib.sha256(packed).hexdigest()[:16] == "77606d198115ee79"


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", ".hidden", "a//b", "a\\b", "C:/evil", "", "a/.b", "é"],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(MlpackageError, match="is no name of a file in a package"):
        pack_mlpackage({**FILES, name: b""})
    with pytest.raises(MlpackageError, match=r"is no name of|outside of"):
        read_mlpackage(zip_of({**inside(FILES), f"{FOLDER}/{name}": b""}))


def test_files_beside_the_folder_are_refused() -> None:
    with pytest.raises(MlpackageError, match=r"'other/file' lies outside of encoder\.mlpackage/"):
        read_mlpackage(zip_of({**inside(FILES), "other/file": b""}))


def test_compressed_entries_are_refused() -> None:
    with pytest.raises(MlpackageError, match=r"is compressed, want stored|overlap"):
        read_mlpackage(zip_of(inside({**FILES, WEIGHTS: bytes(9999)}), method=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("second", [MODEL, MODEL.upper()])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused(second: str) -> None:
    buffer = BytesIO(pack_mlpackage(FILES))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"{FOLDER}/{second}", b"another")
    with pytest.raises(MlpackageError, match="names a file twice"):
        read_mlpackage(buffer.getvalue())


@pytest.mark.parametrize("missing", [MANIFEST, MODEL])
def test_a_package_without_its_main_files_is_refused(missing: str) -> None:
    rest = {name: data for name, data in FILES.items() if name != missing}
    with pytest.raises(MlpackageError, match=f"has no {FOLDER}/{missing}"):
        read_mlpackage(pack_mlpackage(rest))


def test_a_flipped_bit_in_the_data_is_an_error() -> None:
    packed = bytearray(pack_mlpackage(FILES))
    packed[packed.index(bytes(range(100))) + 50] ^= 1
    with pytest.raises(MlpackageError, match="no readable ZIP"):
        read_mlpackage(bytes(packed))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_package_or_an_error(data: bytes) -> None:
    with pytest.raises(MlpackageError):
        read_mlpackage(data)


@given(st.data())
def test_any_damage_is_an_error_or_changes_nothing(data: st.DataObject) -> None:
    packed = bytearray(pack_mlpackage(FILES))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    try:
        files = read_mlpackage(bytes(packed))
    except MlpackageError:
        return
    assert files == FILES
