from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from geofix import Localizer, PackSignatureError
from geofix.pack import RegionPack
from geofix.pack_writer import sign_pack
from geofix.signing import check_signature, generate_key, sign
from tests.geofix.forgery import read_contents
from tests.tiny_pack import TinyRegion

# RFC 8032, section 7.1, test 2.
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


@pytest.fixture(scope="module")
def keys() -> tuple[bytes, bytes]:
    """Return a private and a public key."""
    return generate_key()


@pytest.fixture
def signed(pack_path: Path, keys: tuple[bytes, bytes], tmp_path: Path) -> Path:
    """Return the path of a signed pack."""
    out = tmp_path / "signed.geofix"
    sign_pack(pack_path, keys[0], out=out)
    return out


def other_kind_of_key() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem, subject = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, key.public_key().public_bytes(pem, subject)


def test_signatures_are_those_of_rfc_8032() -> None:
    check_signature(b"\x72", RFC_SIGNATURE, RFC_PUBLIC)
    with pytest.raises(PackSignatureError, match="not this key's signature"):
        check_signature(b"\x73", RFC_SIGNATURE, RFC_PUBLIC)


def test_keys_are_files_their_content_or_raw_bytes(
    keys: tuple[bytes, bytes], tmp_path: Path
) -> None:
    private, public = tmp_path / "key", tmp_path / "key.pub"
    private.write_bytes(keys[0])
    public.write_bytes(keys[1])
    raw = serialization.load_pem_public_key(keys[1]).public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    for secret in (keys[0], private, str(private)):
        for shown in (keys[1], public, str(public), raw):
            check_signature(b"text", sign(b"text", secret), shown)


def test_a_signed_pack_opens_with_its_key_and_without_one(
    signed: Path, pack_path: Path, keys: tuple[bytes, bytes]
) -> None:
    for key in (keys[1], None):
        pack = RegionPack.open(signed, public_key=key)
        assert pack.is_signed
        assert pack.verify() == len(read_contents(pack_path)) + 1
    assert list(read_contents(signed))[2] == "manifest.sig"


def test_signing_again_replaces_the_signature(
    signed: Path, keys: tuple[bytes, bytes], region: TinyRegion
) -> None:
    private, public = generate_key()
    sign_pack(signed, private)
    RegionPack.open(signed, public_key=public).verify()
    with pytest.raises(PackSignatureError, match=r"signed\.geofix: manifest\.sig is not this key"):
        RegionPack.open(signed, public_key=keys[1])


def test_a_localizer_trusts_a_key(
    signed: Path, pack_path: Path, keys: tuple[bytes, bytes], region: TinyRegion
) -> None:
    with Localizer.open(signed, public_key=keys[1]) as localizer:
        assert localizer.localize(region.pictures[3]).cell == region.tokens[3]
    with pytest.raises(PackSignatureError, match="the pack is not signed"):
        Localizer.open(pack_path, public_key=keys[1])


@pytest.mark.parametrize("wrong", [b"", b"no key", bytes(31), bytes(33)], ids=len)
def test_what_is_no_key_is_an_error_that_says_so(signed: Path, wrong: bytes) -> None:
    with pytest.raises(PackSignatureError, match="no readable public key"):
        RegionPack.open(signed, public_key=wrong)
    with pytest.raises(PackSignatureError, match="no readable private key"):
        sign(b"text", wrong)


def test_a_key_of_another_kind_is_an_error_that_says_so(
    signed: Path, keys: tuple[bytes, bytes], tmp_path: Path
) -> None:
    private, public = other_kind_of_key()
    with pytest.raises(PackSignatureError, match="a public key, but not of Ed25519"):
        RegionPack.open(signed, public_key=public)
    with pytest.raises(PackSignatureError, match="a private key, but not of Ed25519"):
        sign(b"text", private)
    file = tmp_path / "swapped.pem"
    file.write_bytes(keys[0])
    with pytest.raises(PackSignatureError, match=r"swapped\.pem is no readable public key"):
        RegionPack.open(signed, public_key=file)


def test_an_absent_key_file_is_an_os_error(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RegionPack.open(signed, public_key=tmp_path / "absent.pub")


def test_without_the_library_a_wanted_check_is_an_error_that_names_the_extra(
    signed: Path, keys: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    RegionPack.open(signed).verify()  # nobody asked for a check
    for use in (
        lambda: RegionPack.open(signed, public_key=keys[1]),
        lambda: sign(b"text", keys[0]),
        generate_key,
    ):
        with pytest.raises(PackSignatureError, match=r"pip install 'geofix\[sign\]'"):
            use()
