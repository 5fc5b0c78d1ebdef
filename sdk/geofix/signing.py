"""Ed25519 signatures over manifests, by the package `cryptography` (the extra `sign`).

Keys are PEM files: PKCS #8 for the private one, SubjectPublicKeyInfo for the public one. A public
key may also be its 32 raw bytes, as an app would compile it in.
"""

import os
from pathlib import Path
from typing import Any

from geofix.errors import PackSignatureError

SIGNATURE_BYTES = 64
RAW_KEY_BYTES = 32

Key = str | os.PathLike[str] | bytes  # a PEM file or its content


def generate_key() -> tuple[bytes, bytes]:
    """Return a new private key and its public key, both as PEM.

    Raises:
        PackSignatureError: the extra `sign` is not installed.
    """
    serialization, ed25519 = _cryptography()
    private = ed25519.Ed25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def sign(message: bytes, private_key: Key) -> bytes:
    """Return the signature of a message, 64 bytes.

    Args:
        message: any bytes.
        private_key: a PEM file, or its content.

    Raises:
        PackSignatureError: not a private Ed25519 key, or the extra `sign` is not installed.
        OSError: the file cannot be read.
    """
    serialization, ed25519 = _cryptography()
    content = _content(private_key)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as e:  # TypeError: the key has a password
        raise PackSignatureError(f"{_name(private_key)} is no readable private key: {e}") from e
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PackSignatureError(f"{_name(private_key)} is a private key, but not of Ed25519")
    return bytes(key.sign(message))


def check_signature(message: bytes, signature: bytes, public_key: Key) -> None:
    """Return if the signature is this key's for the message.

    Args:
        message: any bytes.
        signature: 64 bytes.
        public_key: a PEM file, its content, or the 32 raw bytes of the key.

    Raises:
        PackSignatureError: it is not, the key is none, or the extra `sign` is not installed.
        OSError: the file cannot be read.
    """
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    content = _content(public_key)
    try:
        if len(content) == RAW_KEY_BYTES:
            key = ed25519.Ed25519PublicKey.from_public_bytes(content)
        else:
            key = serialization.load_pem_public_key(content)
    except ValueError as e:
        raise PackSignatureError(
            f"{_name(public_key)} is no readable public key, want PEM or 32 bytes: {e}"
        ) from e
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise PackSignatureError(f"{_name(public_key)} is a public key, but not of Ed25519")
    try:
        key.verify(signature, message)
    except InvalidSignature as e:
        raise PackSignatureError(
            "manifest.sig is not this key's signature: the pack was changed, or signed by another"
        ) from e


def _cryptography() -> tuple[Any, Any]:
    """Return the two modules of `cryptography`; the only place that imports it."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as e:
        raise PackSignatureError(
            "signatures need the package cryptography: pip install 'geofix[sign]'"
        ) from e
    return serialization, ed25519


def _content(key: Key) -> bytes:
    if isinstance(key, str) and key.startswith("-----BEGIN"):
        return key.encode()
    return key if isinstance(key, bytes) else Path(key).read_bytes()


def _name(key: Key) -> str:
    is_content = isinstance(key, bytes) or str(key).startswith("-----BEGIN")
    return "the key" if is_content else os.fspath(key)  # type: ignore[return-value]
