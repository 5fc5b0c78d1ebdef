"""Cell codes without training: the mean embedding of each cell's photos, by any ONNX encoder.

The encoder is wrapped, so that it takes (B, H, W, 3) uint8 RGB and gives (B, D) of unit length:
preprocessing, pooling and (above 512 dimensions) PCA whitening become part of the graph.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

import geofix_index.cells as s2
from geofix.backends.onnx import OnnxEncoder
from geofix.input_spec import InputSpec
from geofix_train.artifact import EncoderArtifact, write_artifact
from geofix_train.cell_codes import CellCodes, Queries, write_cell_codes, write_queries
from geofix_train.photo_table import PhotoTable, TableError
from geofix_train.photos import read_photos

MAX_DIM = 512  # larger embeddings are reduced
PCA_DIM = 256
DIM_STEP = 8  # reduced embeddings have a multiple of this, which a product quantizer can cut up
IMAGES, EMBEDDINGS = "geofix_images", "geofix_embeddings"  # names inside a wrapped graph
QUERY_EVERY = 10  # photos, in a table without splits
_GEM_POWER = 3.0
_BATCH = 32


class EncoderError(ValueError):
    """An encoder that cannot be used; the message says what was wanted."""


@dataclass(frozen=True)
class Projection:
    """PCA whitening: (x - mean) @ matrix."""

    mean: npt.NDArray[np.float32]  # (K,)
    matrix: npt.NDArray[np.float32]  # (K, D)


@dataclass(frozen=True)
class EncodedPhotos:
    """Photos with the features that a model gives for them."""

    table: PhotoTable
    features: npt.NDArray[np.float32]  # (N, K), of unit length
    model: onnx.ModelProto
    input_spec: InputSpec  # of the model as it is
    encoder_name: str

    def __getitem__(self, rows: npt.NDArray[Any]) -> "EncodedPhotos":
        return replace(self, table=self.table[rows], features=self.features[rows])


@dataclass(frozen=True)
class TrainingFree:
    """What `training_free_codes` makes."""

    codes: CellCodes
    queries: Queries | None
    encoder: EncoderArtifact


def encode_photos(
    encoder: Path,
    table: PhotoTable,
    *,
    input_spec: InputSpec | None = None,
    on_error: str = "stop",
) -> EncodedPhotos:
    """Return the features that an encoder gives for the photos of a table.

    Args:
        encoder: an ONNX model, images to feature vectors or feature maps (which are pooled).
        table: the photos.
        input_spec: what the model takes; not needed where it takes (B, H, W, 3) uint8.
        on_error: "stop" or "skip" unreadable photos.

    Raises:
        EncoderError: the model cannot be wrapped.
        TableError: a photo cannot be read.
    """
    model = _load_model(encoder)
    spec = input_spec or _guess_spec(model, encoder)
    wrapped, inside = wrap_encoder(model, spec, projection=None)
    photos, is_read, _ = read_photos(table, inside, on_error=on_error)
    features = _embed(wrapped, inside, photos[is_read])
    return EncodedPhotos(table[is_read], features, model, spec, encoder.name)


def training_free_codes(photos: EncodedPhotos, *, level: int = 16) -> TrainingFree:
    """Return codes of the cells that have photos, and the encoder that queries them.

    Photos of split "train" make the codes; those of split "val" become the queries that a pack is
    calibrated with. In a table without splits every tenth photo becomes a query.

    Raises:
        TableError: no photo to make codes from, or too few.
    """
    split = _splits(photos.table)
    is_train, is_query = split == "train", split == "val"
    if not is_train.any():
        raise TableError("no photo to make codes from: none has split 'train'")
    features, projection = photos.features, None
    if features.shape[1] > MAX_DIM:
        projection = fit_projection(features[is_train])
        features = _unit((features - projection.mean) @ projection.matrix)
    encoder, spec = wrap_encoder(photos.model, photos.input_spec, projection=projection)
    cells, means, counts = _cell_means(photos.table[is_train], features[is_train], level)
    codes = CellCodes(
        cells=cells,
        prototypes=means,
        aerial=np.zeros_like(means),
        num_photos=counts,
        kappa=1.0,
        provenance={"num_training_photos": int(is_train.sum()), "encoder": photos.encoder_name},
    )
    queries = None
    if is_query.any():
        latlon = np.column_stack([photos.table.lat[is_query], photos.table.lon[is_query]])
        queries = Queries(features[is_query], latlon)
    artifact = EncoderArtifact(
        target="onnx",
        precision="fp32",
        filename="encoder.onnx",
        data=encoder.SerializeToString(),
        dim=means.shape[1],
        input_spec=spec,
        provenance=codes.provenance,
    )
    return TrainingFree(codes, queries, artifact)


def write_training_free(made: TrainingFree, folder: Path) -> None:
    """Write codes.safetensors, queries.safetensors (if there are any) and encoder/."""
    write_artifact(made.encoder, folder / "encoder")
    write_cell_codes(made.codes, folder / "codes.safetensors")
    if made.queries is not None:
        write_queries(made.queries, folder / "queries.safetensors")


def fit_projection(features: npt.NDArray[np.float32]) -> Projection:
    """Learn PCA whitening from features (N, K), to at most `PCA_DIM` and N / 2 dimensions.

    Raises:
        TableError: fewer than 16 photos, or photos that hardly differ.

    Whitening divides by the standard deviation of each direction; directions that few photos
    span would be noise blown up, hence at most half as many as photos.
    """
    mean = features.mean(axis=0)
    _, scale, directions = np.linalg.svd(features - mean, full_matrices=False)
    num = min(PCA_DIM, len(features) // 2, int((scale > 1e-6 * scale[0]).sum()))
    num = num // DIM_STEP * DIM_STEP
    if num == 0:
        raise TableError(f"{len(features)} photos are too few to learn from: want {2 * DIM_STEP}")
    deviation = scale[:num] / np.sqrt(len(features))
    matrix = (directions[:num] / deviation[:, None]).T
    return Projection(mean, np.ascontiguousarray(matrix, np.float32))


def wrap_encoder(
    model: onnx.ModelProto, spec: InputSpec, *, projection: Projection | None
) -> tuple[onnx.ModelProto, InputSpec]:
    """Return the model with preprocessing before and pooling, projection, L2 norm after it.

    Args:
        model: takes what `spec` says.
        spec: of the model as it is.
        projection: applied to the pooled features, if given.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    names = {value.name for value in (*graph.input, *graph.initializer)}
    if spec.input_name not in names:
        raise EncoderError(f"input spec names input {spec.input_name!r}; the model has {names}")
    output = next((o for o in graph.output if o.name == spec.output_name), None)
    if output is None:
        known = [o.name for o in graph.output]
        raise EncoderError(f"input spec names output {spec.output_name!r}; the model has {known}")
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < 13:
        raise EncoderError(f"the model has opset {opset}, want 13 or newer: convert it with onnx")
    build = _GraphBuilder()
    before = build.preprocess(spec)
    before_nodes, build.nodes = build.nodes, []
    rank = len(output.type.tensor_type.shape.dim)
    build.postprocess(spec.output_name, rank, projection)
    images = helper.make_tensor_value_info(
        IMAGES, TensorProto.UINT8, ["batch", spec.height, spec.width, 3]
    )
    embeddings = helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["batch", None])
    wrapped = helper.make_graph(
        [*before_nodes, *graph.node, *build.nodes],
        "geofix_encoder",
        [images],
        [embeddings],
        [*graph.initializer, *build.constants],
    )
    for node in wrapped.node:  # the model's own input becomes the result of preprocessing
        node.input[:] = [before if name == spec.input_name else name for name in node.input]
    proto = helper.make_model(wrapped, opset_imports=list(model.opset_import))
    proto.ir_version = model.ir_version
    onnx.checker.check_model(proto)
    inside = InputSpec(width=spec.width, height=spec.height, resize=spec.resize)
    named = replace(inside, input_name=IMAGES, output_name=EMBEDDINGS)
    return proto, named


class _GraphBuilder:
    """Collects nodes and constants under names that a user's model does not have."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"geofix_{op.lower()}_{len(self.nodes)}_{len(self.constants)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"geofix_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def preprocess(self, spec: InputSpec) -> str:
        """From (B, H, W, 3) uint8 RGB to what the model takes."""
        at = IMAGES
        if spec.color == "bgr":
            at = self.node("Gather", at, self.constant(np.array([2, 1, 0])), axis=3)
        if spec.dtype == "float32":
            at = self.node("Cast", at, to=TensorProto.FLOAT)
            at = self.node("Sub", at, self.constant(np.asarray(spec.mean, np.float32)))
            at = self.node("Div", at, self.constant(np.asarray(spec.scale, np.float32)))
        if spec.layout == "nchw":
            at = self.node("Transpose", at, perm=[0, 3, 1, 2])
        return self.node("Identity", at)

    def postprocess(self, at: str, rank: int, projection: Projection | None) -> None:
        """From feature vectors or maps (B, K, h, w) to (B, D) of unit length."""
        if rank == 4:  # generalized-mean pooling (arXiv 1711.02512)
            at = self.node("Clip", at, self.constant(np.float32(1e-6)))
            at = self.node("Pow", at, self.constant(np.float32(_GEM_POWER)))
            at = self.node("GlobalAveragePool", at)
            at = self.node("Pow", at, self.constant(np.float32(1 / _GEM_POWER)))
        at = self.node("Flatten", at, axis=1)
        at = self._unit(at)
        if projection is not None:
            at = self.node("Sub", at, self.constant(projection.mean))
            at = self.node("MatMul", at, self.constant(projection.matrix))
            at = self._unit(at)
        self.nodes.append(helper.make_node("Identity", [at], [EMBEDDINGS]))

    def _unit(self, at: str) -> str:
        return self.node("LpNormalization", at, axis=1, p=2)


def _splits(table: PhotoTable) -> npt.NDArray[np.str_]:
    if (table.split != "").any():
        return table.split
    is_query = np.arange(len(table)) % QUERY_EVERY == QUERY_EVERY - 1
    return np.where(is_query, "val", "train")


def _load_model(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as e:  # protobuf's errors share no base class with onnx's
        raise EncoderError(f"{path}: not an ONNX model: {e}") from e


def _guess_spec(model: onnx.ModelProto, path: Path) -> InputSpec:
    """Return the spec of a model that takes (B, H, W, 3) uint8; nothing else is guessed."""
    constants = {constant.name for constant in model.graph.initializer}
    images = next(value for value in model.graph.input if value.name not in constants)
    dims = [d.dim_value for d in images.type.tensor_type.shape.dim]
    if images.type.tensor_type.elem_type == TensorProto.UINT8 and dims[-1:] == [3]:
        return InputSpec(
            width=dims[2],
            height=dims[1],
            input_name=images.name,
            output_name=model.graph.output[0].name,
        )
    raise EncoderError(
        f"{path}: takes {images.name!r} of shape {dims}, which does not say how pixels are scaled: "
        "give --input-spec FILE, JSON with width, height, layout, dtype, mean, scale, input_name, "
        "output_name"
    )


def _embed(
    model: onnx.ModelProto, spec: InputSpec, photos: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    encoder = OnnxEncoder(model.SerializeToString(), spec)
    starts = tqdm(range(0, len(photos), _BATCH), desc="encode", unit="batch", disable=None)
    return np.concatenate([encoder.encode(photos[at : at + _BATCH]) for at in starts])


def _cell_means(
    table: PhotoTable, features: npt.NDArray[np.float32], level: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return cells, their mean features of unit length, and their numbers of photos."""
    own = s2.cell_from_latlon(table.lat, table.lon, level=level)
    cells, row, counts = np.unique(own, return_inverse=True, return_counts=True)
    sums = np.zeros((len(cells), features.shape[1]), np.float32)
    np.add.at(sums, row, features)
    return cells, _unit(sums), counts


def _unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), np.float32)
