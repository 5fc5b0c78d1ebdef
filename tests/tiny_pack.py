"""Tiny regions and their packs, made from a seed in a fraction of a second.

A region is a square of some 250 level-16 cells around a corner of four level-10 cells, so that it
has up to four shards. Each cell has a picture, a checkerboard of random colours, and its cell code
is the picture's embedding: to localize picture i is to find cell i. The encoder averages blocks of
pixels and multiplies with a random matrix.

Needs nothing beyond what the runtime's tests install.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from geofix.backends.onnx import OnnxEncoder
from geofix.geo import LatLon, distance_m
from geofix.images import fit_image
from geofix.input_spec import InputSpec
from geofix.pack_writer import EncoderFile, write_pack
from geofix.posterior import Calibration
from geofix_index import ProductQuantizer, ShardFiles, build_shard, kernel_version
from geofix_index import cells as s2

ZURICH, CAPE_TOWN = LatLon(47.37, 8.54), LatLon(-33.9, 18.4)
TAVEUNI = LatLon(-16.85, 179.98)  # its region lies on both sides of the antimeridian
CELL_LEVEL, SHARD_LEVEL = 16, 10
DIM = 32
WIDTH, HEIGHT = 32, 24  # of the encoder's input
BLOCK_PX = 4  # what the encoder averages
NUM_ROWS, NUM_COLUMNS = HEIGHT // BLOCK_PX, WIDTH // BLOCK_PX
CALIBRATION = Calibration(temperature=0.03, elsewhere=0.7)
KIND = "scan" if kernel_version() is None else "usearch"  # graphs need the C kernel

_OPSET, _IR_VERSION = 17, 8  # old enough for each ONNX Runtime that the extra `onnx` admits


@dataclass(frozen=True)
class TinyRegion:
    """What a tiny pack is made of."""

    cells: npt.NDArray[np.uint64]  # (N,) ascending
    pictures: npt.NDArray[np.uint8]  # (N, 48, 64, 3), one for each cell
    cell_codes: npt.NDArray[np.float32]  # (N, D), embeddings of the pictures
    quantizer: ProductQuantizer
    shards: tuple[tuple[int, ShardFiles], ...]
    encoder: EncoderFile

    @property
    def tokens(self) -> list[str]:
        """Tokens of the cells, as fixes name them."""
        return [s2.token_from_cell(int(cell)) for cell in self.cells]

    def write(
        self,
        path: Path,
        *,
        encoders: Sequence[EncoderFile] | None = None,
        calibration: Calibration | None = None,
        **named: Any,
    ) -> Path:
        """Write a pack with the region's encoder, or with other encoders; return its path."""
        write_pack(
            path,
            pack_id=path.stem,
            title="A tiny region",
            quantizer=self.quantizer,
            shards=[files for _, files in self.shards],
            encoders=[self.encoder] if encoders is None else encoders,
            calibration=calibration,
            **named,
        )
        return path


def make_region(place: LatLon = ZURICH, *, seed: int = 0, kind: str = KIND) -> TinyRegion:
    """Return a tiny region around the corner of a level-10 cell near a place."""
    rng = np.random.default_rng(seed)
    cells = cells_around(place)
    pictures = make_pictures(len(cells), rng)
    encoder = EncoderFile(
        target="onnx",
        precision="fp32",
        filename="encoder.onnx",
        data=make_onnx(projection(rng)),
        input_spec=InputSpec(width=WIDTH, height=HEIGHT),
        dim=DIM,
        calibration=CALIBRATION,
    )
    inputs = np.stack([fit_image(picture, encoder.input_spec) for picture in pictures])
    cell_codes = OnnxEncoder(encoder.data, encoder.input_spec, num_threads=1).encode(inputs)
    quantizer = ProductQuantizer.train(cell_codes, num_subspaces=DIM // 2, bits=4, seed=seed)
    shards = tuple(make_shards(cells, cell_codes, quantizer, kind=kind))
    return TinyRegion(cells, pictures, cell_codes, quantizer, shards, encoder)


def cells_around(place: LatLon, *, num_across: int = 17) -> npt.NDArray[np.uint64]:
    """Return the cells at a grid of points 120 m apart around the nearest corner of a shard."""
    corners = s2.vertices(s2.cell_from_latlon(place.lat, place.lon, level=SHARD_LEVEL))
    lat, lon = min(corners.tolist(), key=lambda corner: distance_m(place, LatLon(*corner)))
    steps = (np.arange(num_across) - num_across / 2) * 120 / 111_195  # degrees of latitude
    lats, lons = np.meshgrid(lat + steps, lon + steps / np.cos(np.radians(lat)))
    return np.unique(s2.cell_from_latlon(lats, (lons + 180) % 360 - 180, level=CELL_LEVEL))


def make_pictures(num: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return pictures (num, 48, 64, 3) of random colours, a block for each that is averaged."""
    colours = rng.integers(0, 256, (num, NUM_ROWS, NUM_COLUMNS, 3), dtype=np.uint8)
    return colours.repeat(2 * BLOCK_PX, axis=1).repeat(2 * BLOCK_PX, axis=2)


def projection(rng: np.random.Generator, *, dim: int = DIM) -> npt.NDArray[np.float32]:
    """Return a random matrix from averaged blocks to an embedding."""
    return rng.standard_normal((3 * NUM_ROWS * NUM_COLUMNS, dim)).astype(np.float32)


def make_shards(
    cells: npt.NDArray[np.uint64],
    cell_codes: npt.NDArray[np.float32],
    quantizer: ProductQuantizer,
    *,
    kind: str = KIND,
) -> list[tuple[int, ShardFiles]]:
    """Return parents and files of the shards of cells, which are ascending."""
    pq_codes = quantizer.encode(cell_codes)
    parents = s2.parent(cells, level=SHARD_LEVEL)
    return [
        (int(parent), build_shard(cells[own], pq_codes[own], quantizer, parent=parent, kind=kind))
        for parent in np.unique(parents).tolist()
        for own in [parents == parent]
    ]


def make_onnx(
    weights: npt.NDArray[np.float32], *, spec: InputSpec | None = None, batch: int | str = "batch"
) -> bytes:
    """Return an encoder as ONNX: block averages, centred, times `weights`, of unit length.

    Args:
        weights: (3 x blocks, D).
        spec: layout, dtype and tensor names of the input; the graph undoes what the spec asks of
            the caller, so that all specs give the same embedding.
        batch: a number binds the model to that batch size.
    """
    spec = spec or InputSpec(width=WIDTH, height=HEIGHT)
    nchw = [batch, 3, HEIGHT, WIDTH]
    shape = nchw if spec.layout == "nchw" else [batch, HEIGHT, WIDTH, 3]
    elem_type = TensorProto.FLOAT if spec.dtype == "float32" else TensorProto.UINT8
    to_nchw = [0, 1, 2, 3] if spec.layout == "nchw" else [0, 3, 1, 2]
    mean, scale = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (spec.mean, spec.scale))
    channels = np.array([2, 1, 0] if spec.color == "bgr" else [0, 1, 2])
    kernel = [BLOCK_PX, BLOCK_PX]
    nodes = [
        helper.make_node("Cast", [spec.input_name], ["raw"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["raw"], ["planes"], perm=to_nchw),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["pixels"]),
        helper.make_node("Gather", ["pixels", "channels"], ["rgb"], axis=1),
        helper.make_node("AveragePool", ["rgb"], ["blocks"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Flatten", ["blocks"], ["flat"]),
        helper.make_node("Sub", ["flat", "middle"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["projected"]),
        helper.make_node("ReduceL2", ["projected"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Div", ["projected", "norm"], [spec.output_name]),
    ]
    constants = {
        "scale": scale, "mean": mean, "channels": channels, "middle": np.float32(127.5),
        "weights": weights,
    }  # fmt: skip
    return onnx_bytes(
        nodes,
        [helper.make_tensor_value_info(spec.input_name, elem_type, shape)],
        [helper.make_tensor_value_info(spec.output_name, TensorProto.FLOAT, [batch, None])],
        constants,
    )


def onnx_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, Any],
) -> bytes:
    """Return a checked ONNX file of a graph."""
    initializer = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
