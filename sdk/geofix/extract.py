"""A smaller pack: the cells of a pack that lie in a region, with all else that it has."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.answer import nothing_inside
from geofix.coverage import bits_at
from geofix.errors import PriorOutsidePack
from geofix.manifest import EncoderEntry, Manifest, ShardEntry
from geofix.pack import RegionPack
from geofix.pack_writer import EncoderFile, PackText, PackWriter
from geofix.posterior import Calibration
from geofix.prior import Prior
from geofix_index import ProductQuantizer, ShardFiles, build_shard


def extract_pack(
    pack: RegionPack, out: Path, prior: Prior, *, pack_id: str = "", title: str = ""
) -> Manifest:
    """Write a pack of the cells that a prior admits; return its manifest.

    Codes, encoders and calibration stay as they are, so that under this prior both packs find the
    same cells; what validation photos of the whole region said is left out. A part cannot tell that
    a photo shows a place outside of it, as the whole can (`Fix.prior_conflict`). Shards that lie
    inside as a whole are copied, the others built again. The new pack is not signed.

    Args:
        pack: to cut from.
        out: path of the new pack.
        prior: a hard one.
        pack_id: of the new pack; if empty, the old one's with what was cut, hashed.
        title: of the new pack; if empty, the old one's.

    Raises:
        PriorOutsidePack: it admits no cell of the pack.
        PackError: the pack is damaged.
        ValueError: a soft prior; `out` is the pack itself; or "usearch" shards without the C
            kernel, which their graphs are built with.
    """
    if prior.density is not None:
        raise ValueError(f"{prior.description}: soft; cut with a disk, a box or cells")
    if out.exists() and out.samefile(pack.path):
        raise ValueError(f"{out} is the pack to cut from: write the part to another file")
    manifest, quantizer = pack.manifest, pack.quantizer()
    inside = pack.index().cells_in(prior.region)
    if len(inside) == 0:
        raise PriorOutsidePack(nothing_inside(prior, manifest))
    bits = pack.photographed_bits()
    starts = np.cumsum([0, *(shard.num_cells for shard in manifest.shards)]).tolist()
    with PackWriter(out, quantizer) as writer:
        for start, entry in zip(starts, manifest.shards, strict=False):
            rows, files = _cut(pack, entry, quantizer, inside)
            if files is not None:
                own = None if bits is None else bits_at(bits, start + rows)
                writer.add_shard(files, photographed=own)
        return writer.finish(
            PackText(
                pack_id=pack_id or f"{manifest.pack_id}-{_short_hash(prior.description)}",
                title=title or manifest.title,
                attribution=manifest.attribution,
                license=manifest.license,
                pack_version=manifest.pack_version,
            ),
            encoders=[_encoder_file(pack, encoder) for encoder in manifest.encoders],
            calibration=_of_any_part(manifest.calibration),
            provenance={**manifest.provenance, "extracted": _origin(pack, prior)},
            extra=manifest.extra,
        )


def _cut(
    pack: RegionPack,
    entry: ShardEntry,
    quantizer: ProductQuantizer,
    inside: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.int64], ShardFiles | None]:
    """Return the rows of a shard that lie inside, and a shard of them; None for no rows."""
    shard = pack.open_shard(entry, quantizer)
    rows = np.flatnonzero(np.isin(shard.cells(), inside, assume_unique=True))
    if len(rows) == 0:
        return rows, None
    if len(rows) == len(shard):
        data = (bytes(pack.read(name)) for name in (entry.cells_entry, entry.payload_entry))
        return rows, ShardFiles(entry.kind, *data)
    files = build_shard(
        shard.cells(rows), shard.pq_codes[rows], quantizer, parent=entry.parent, kind=entry.kind
    )
    return rows, files


def _encoder_file(pack: RegionPack, encoder: EncoderEntry) -> EncoderFile:
    return EncoderFile(
        target=encoder.target,
        precision=encoder.precision,
        filename=encoder.filename,
        input_spec=encoder.input_spec,
        dim=encoder.dim,
        data=pack.read(encoder.entry) if encoder.referenced is None else b"",
        referenced=encoder.referenced,
        calibration=_of_any_part(encoder.calibration),
        parity=encoder.parity,
        extra=encoder.extra,
    )


def _of_any_part(calibration: Calibration | None) -> Calibration | None:
    return None if calibration is None else replace(calibration, validation={})


def _origin(pack: RegionPack, prior: Prior) -> dict[str, Any]:
    manifest = pack.manifest
    return {
        "pack_id": manifest.pack_id,
        "pack_version": manifest.pack_version,
        "manifest_sha256": pack.manifest_sha256,
        "region": prior.description,
    }


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
