"""Which encoder of a pack runs here."""

import logging
from pathlib import Path

from geofix.backends import open_encoder
from geofix.encoder import QueryEncoder
from geofix.encoder_files import read_model
from geofix.errors import BackendUnavailable
from geofix.manifest import EncoderEntry
from geofix.pack import RegionPack

_log = logging.getLogger("geofix")


def open_pack_encoder(
    pack: RegionPack,
    *,
    backend: str,
    given: Path | None,
    cache_dir: Path | None,
    num_threads: int,
) -> tuple[EncoderEntry | None, QueryEncoder | None]:
    """Return the first encoder of a pack that runs here; none where the pack has none.

    Args:
        pack: that was opened.
        backend: the wanted runtime, or "auto" for any.
        given: a model file that the pack names and does not carry, or a folder that holds it.
        cache_dir: where such files lie, and what is made of a model on the device.
        num_threads: of one inference on the CPU; 0 lets the runtime choose.

    Raises:
        BackendUnavailable: the pack has no encoder for the runtime, or none that runs.
    """
    reasons: list[BackendUnavailable] = []
    for entry in _wanted(pack.manifest.encoders, backend):
        try:
            model = read_model(pack, entry, given=given, cache_dir=cache_dir)
            encoder = _open(pack, entry, model, num_threads, cache_dir)
        except BackendUnavailable as e:
            _log.warning("passing over %s: %s", entry.entry, e)
            reasons.append(e)
            continue
        device = getattr(encoder, "device", "")
        _log.info("backend %s for %s, on %s", entry.target, entry.entry, device)
        return entry, encoder
    if reasons:
        raise reasons[0]
    return None, None


def _wanted(encoders: tuple[EncoderEntry, ...], backend: str) -> list[EncoderEntry]:
    """Return the encoders to try, in the order of the pack; none where it has none."""
    if backend == "auto":
        return list(encoders)
    wanted = [encoder for encoder in encoders if encoder.target == backend]
    if not wanted:
        has = ", ".join(encoder.target for encoder in encoders) or "none"
        raise BackendUnavailable(f"the pack has no encoder for {backend!r}; it has {has}")
    return wanted


def _open(
    pack: RegionPack,
    entry: EncoderEntry,
    model: bytes | memoryview,
    num_threads: int,
    cache_dir: Path | None,
) -> QueryEncoder:
    encoder = open_encoder(
        entry.target,
        model,
        input_spec=entry.input_spec,
        num_threads=num_threads,
        cache_dir=cache_dir,
    )
    if encoder.dim != pack.manifest.dim:
        raise BackendUnavailable(
            f"encoder {entry.entry} gives {encoder.dim} dimensions, the pack's cell codes have "
            f"{pack.manifest.dim}"
        )
    return encoder
