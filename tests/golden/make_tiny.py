"""Write the golden pack tiny.geofix, its photo tiny.png, and tiny.json: what comes of the photo.

Run it only when the version of the pack format changes, as `python -m tests.golden.make_tiny`, and
say why; whatever else changes must reproduce the stored fix from the stored pack.

The pack covers the place of the README's example. As in tests/tiny_pack.py each cell has a picture
and its code is the picture's embedding; the photo is one of the pictures with noise. One shard has
a graph, the others are codes alone. Weights and centroids are multiples of 1/64 and rotations of
1/4, so that every machine writes the same bytes, but for the graph, which names USearch's version.
"""

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from geofix import InputSpec, LatLon, Localizer, Prior
from geofix.backends.onnx import OnnxEncoder
from geofix.geo import latlon_from_east_north
from geofix.images import fit_image
from geofix.pack_writer import EncoderFile, write_pack
from geofix.posterior import Calibration
from geofix_index import ProductQuantizer, ShardFiles, build_shard
from geofix_index import cells as s2
from tests.tiny_pack import (
    BLOCK_PX,
    DIM,
    HEIGHT,
    NUM_COLUMNS,
    NUM_ROWS,
    WIDTH,
    make_onnx,
    make_pictures,
)

PLACE = LatLon(47.37, 8.54)
LEVEL, PARENT_LEVEL = 16, 13
REACH_M = 700.0  # from the place to the outermost cells
BITS, SUBSPACE_DIM = 4, 2
NOISE = 90  # of the photo's colours, of 255
CALIBRATION = Calibration(temperature=0.0625, elsewhere=0.5)
PRIOR = {"lat": PLACE.lat, "lon": PLACE.lon, "radius_m": 300.0}


def main() -> None:
    """Write all files into the directory named, or else where this file lies."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    rng = np.random.default_rng(26)
    cells = _cells()
    pictures = make_pictures(len(cells), rng)
    encoder = _encoder(rng)
    pack = directory / "tiny.geofix"
    _write(pack, cells, _embed(encoder, pictures), encoder, _quantizer(rng))
    here = s2.cell_from_latlon(PLACE.lat, PLACE.lon, level=LEVEL)
    photo = _photo(pictures[np.searchsorted(cells, here)], rng)
    (directory / "tiny.png").write_bytes(photo)
    (directory / "tiny.json").write_text(json.dumps(answer(pack, photo), indent=1) + "\n")


def answer(pack: Path, photo: bytes) -> dict[str, Any]:
    """Return what the pack says of the photo, free and under a prior, and the pack's hash."""
    with Localizer.open(pack) as localizer:
        embedding = localizer.embed([photo])[0]
        free = localizer.localize(photo).to_json()
        bounded = localizer.localize(photo, prior=Prior.disk(**PRIOR)).to_json()
    del free["timings_ms"], bounded["timings_ms"]
    return {
        "sha256": hashlib.sha256(pack.read_bytes()).hexdigest(),
        "embedding": [round(float(value), 6) for value in embedding[:5]],
        "fix": free,
        "prior": PRIOR,
        "fix_with_prior": bounded,
    }


def _cells() -> npt.NDArray[np.uint64]:
    """Return the cells of a square around the place, ascending."""
    steps = np.linspace(-REACH_M, REACH_M, 29)
    east_north = np.stack(np.meshgrid(steps, steps), axis=2).reshape(-1, 2)
    lat, lon = latlon_from_east_north(east_north, origin=PLACE).T
    return np.unique(s2.cell_from_latlon(lat, lon, level=LEVEL))


def _encoder(rng: np.random.Generator) -> EncoderFile:
    size = (3 * NUM_ROWS * NUM_COLUMNS, DIM)
    weights = (rng.integers(-64, 65, size) / 64).astype(np.float32)
    spec = InputSpec(width=WIDTH, height=HEIGHT)
    return EncoderFile(
        target="onnx",
        precision="fp32",
        filename="encoder.onnx",
        data=make_onnx(weights, spec=spec),
        input_spec=spec,
        dim=DIM,
        calibration=CALIBRATION,
    )


def _embed(encoder: EncoderFile, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    inputs = np.stack([fit_image(picture, encoder.input_spec) for picture in pictures])
    return OnnxEncoder(encoder.data, encoder.input_spec, num_threads=1).encode(inputs)


def _quantizer(rng: np.random.Generator) -> ProductQuantizer:
    """Return a rotation (Hadamard blocks with signs changed) and a grid of centroids."""
    hadamard = np.ones((1, 1))
    while len(hadamard) < DIM // 2:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    rotation = np.kron(hadamard, np.eye(2)) * rng.choice([-1, 1], (DIM, 1)) / 4
    # Four steps suit a normal distribution of variance 1 / DIM.
    grid = np.stack(np.meshgrid(*[np.array([-17, -5, 5, 17]) / 64] * 2), axis=2).reshape(-1, 2)
    centroids = np.tile(grid, (DIM // SUBSPACE_DIM, 1, 1))
    return ProductQuantizer(rotation.astype(np.float32), centroids.astype(np.float32))


def _write(
    pack: Path,
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    encoder: EncoderFile,
    quantizer: ProductQuantizer,
) -> None:
    pq_codes = quantizer.encode(cell_codes)
    parents = s2.parent(cells, level=PARENT_LEVEL)
    shards: list[ShardFiles] = []
    for parent in np.unique(parents).tolist():
        own, kind = parents == parent, "scan" if shards else "usearch"
        files = build_shard(cells[own], pq_codes[own], quantizer, parent=parent, kind=kind)
        shards.append(files)
    write_pack(
        pack,
        pack_id="tiny",
        title="A tiny region",
        quantizer=quantizer,
        shards=shards,
        encoders=[encoder],
        attribution="drawn at random",
        license="CC0-1.0",
        provenance={"generator": "tests/golden/make_tiny.py"},
    )


def _photo(picture: npt.NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Return a PNG of a picture with other colours in its blocks."""
    side = 2 * BLOCK_PX
    blocks = picture[::side, ::side].astype(int)
    changed = blocks + rng.integers(-NOISE, NOISE + 1, blocks.shape)
    pixels = changed.clip(0, 255).astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
