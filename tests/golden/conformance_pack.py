"""The pack that the conformance files are made of, in its variants."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from geofix.input_spec import InputSpec
from geofix.manifest import EntryDigest
from geofix.pack_writer import EncoderFile, PackText, PackWriter
from geofix.posterior import Calibration
from geofix.validation import Validation
from geofix_index import ProductQuantizer, build_shard
from geofix_index import cells as s2

MODEL = b"no model: conformance files are not run"


def make_pack(
    *,
    kind: str = "scan",
    bits: int = 4,
    carried: bool = True,
    encoders: int = 1,
    bit: bool = False,
    lon: float = 8.54,
    version: int = 1,
) -> bytes:
    """Return a pack of 40 cells in two shards, codes of 4 dimensions in a byte.

    Args:
        kind: of the shards.
        bits: of the codebook.
        carried: whether the pack carries its encoders, or names them.
        encoders: how many.
        bit: whether it tells which cells are photographed, and what to expect.
        lon: where the cells lie.
        version: of the pack.
    """
    rng = np.random.default_rng(7)
    cells = _cells(lon)
    quantizer = _quantizer(rng, bits)
    codes = quantizer.encode(rng.integers(-8, 8, (len(cells), 4)).astype(np.float32))
    parents = s2.parent(cells, level=13)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tiny.geofix"
        with PackWriter(out, quantizer) as writer:
            for parent in np.unique(parents).tolist():
                own = parents == parent
                files = build_shard(cells[own], codes[own], quantizer, parent=parent, kind=kind)
                photographed = np.arange(own.sum()) % 3 == 0 if bit else None
                writer.add_shard(files, photographed=photographed)
            writer.finish(
                PackText("tiny", "Tiny", "nobody", "CC0-1.0", version),
                encoders=[_encoder(carried, bit)] * encoders,
            )
        return out.read_bytes()


def _cells(lon: float) -> Any:
    """Return 40 cells in two parents of level 13."""
    middle = s2.cell_from_latlon(47.37, lon, level=13)
    pair = np.sort([middle, s2.neighbours(middle)[4]])
    return np.concatenate([s2.descendants([cell], level=16)[::3][:20] for cell in pair])


def _quantizer(rng: np.random.Generator, bits: int) -> ProductQuantizer:
    centroids = rng.integers(-8, 8, (2, 2**bits, 2)).astype(np.float32)
    return ProductQuantizer(np.eye(4, dtype=np.float32), centroids)


def _encoder(carried: bool, bit: bool) -> EncoderFile:
    photos = Validation(40, 0.5, 0.625, 80.5, 0.9)
    return EncoderFile(
        target="onnx",
        precision="fp32",
        filename="encoder.onnx",
        input_spec=InputSpec(32, 24),
        dim=4,
        data=MODEL if carried else b"",
        referenced=None if carried else EntryDigest.of(MODEL),
        calibration=Calibration(0.0625, 0.5, {"all": photos} if bit else {}),
    )
