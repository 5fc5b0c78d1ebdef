"""The model files of encoders, which a pack carries or names, and where the named ones lie."""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from geofix.errors import BackendUnavailable
from geofix.manifest import EncoderEntry, EntryDigest
from geofix.pack import RegionPack


def default_cache_dir() -> Path:
    """Return the folder for what packs share: GEOFIX_CACHE_DIR, or the user's cache folder."""
    if os.environ.get("GEOFIX_CACHE_DIR"):
        return Path(os.environ["GEOFIX_CACHE_DIR"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "geofix"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geofix"


def read_model(
    pack: RegionPack, encoder: EncoderEntry, *, given: Path | None, cache_dir: Path | None
) -> bytes | memoryview:
    """Return an encoder's model file, checked: from the pack, or from where it refers to.

    Args:
        pack: that names the encoder.
        encoder: of its manifest.
        given: the file, or a folder that holds it under any name; nothing else is looked at then.
        cache_dir: a folder whose subfolder `encoders` may hold it; None: `default_cache_dir`.

    Raises:
        BackendUnavailable: it is not there, or what is there is another file.
        PackCorruptError: the pack's own is damaged.
        OSError: a file or folder cannot be read.
    """
    if encoder.referenced is None and given is None:
        return pack.read(encoder.entry)
    digest = encoder.referenced or pack.manifest.entries[encoder.entry]
    if given is not None and not given.exists():
        raise BackendUnavailable(f"{given}: no such file or folder to take the encoder from")
    where = given or (cache_dir or default_cache_dir()) / "encoders"
    for path in _candidates(where, digest):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == digest.sha256:
            return data
    wanted = f"{encoder.filename} ({digest.num_bytes} bytes, SHA-256 {digest.sha256})"
    if given is None:
        raise BackendUnavailable(
            f"the pack names its encoder, {wanted}, and does not carry it: give encoder=FILE "
            f"(--encoder FILE), or put the file into {where}"
        )
    kind = "holds no" if given.is_dir() else "is not the"
    raise BackendUnavailable(f"{given} {kind} encoder that the pack names: {wanted}")


def _candidates(where: Path, digest: EntryDigest) -> Iterator[Path]:
    """Yield the files that have the right size."""
    if not where.exists():
        return
    for path in sorted(where.iterdir()) if where.is_dir() else [where]:
        if path.is_file() and path.stat().st_size == digest.num_bytes:
            yield path
