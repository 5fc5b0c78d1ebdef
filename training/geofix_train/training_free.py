"""Cell codes without training: the mean embedding of each cell's photos, by any ONNX encoder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

import geofix_index.cells as s2
from geofix.backends.onnx import OnnxEncoder
from geofix.image_statistics import image_statistics
from geofix.input_spec import InputSpec
from geofix_train.artifact import EncoderArtifact, write_artifact
from geofix_train.cell_codes import (
    NO_IMAGERY,
    CellCodes,
    Queries,
    write_cell_codes,
    write_queries,
)
from geofix_train.photo_table import PhotoTable, TableError
from geofix_train.photos import read_photos
from geofix_train.wrapped_encoder import Projection, guess_spec, load_model, wrap_encoder

MAX_DIM = 512  # larger embeddings are reduced
PCA_DIM = 256
DIM_STEP = 8  # reduced embeddings have a multiple of this, which a product quantizer can cut up
QUERY_EVERY = 10  # places, in a table without splits
_PLACE_LEVEL = 19  # cells of 18 m: photos from one spot are all queries, or none is
_BATCH = 32


@dataclass(frozen=True)
class EncodedPhotos:
    """Photos with the features that a model gives for them."""

    table: PhotoTable
    features: npt.NDArray[np.float32]  # (N, K), of unit length
    model: onnx.ModelProto
    input_spec: InputSpec  # of the model as it is
    encoder_name: str
    image_statistics: npt.NDArray[np.float32]  # (N, 12)
    problems: tuple[str, ...] = ()  # a sentence for each photo that was left out

    def __getitem__(self, rows: npt.NDArray[Any]) -> "EncodedPhotos":
        return replace(
            self,
            table=self.table[rows],
            features=self.features[rows],
            image_statistics=self.image_statistics[rows],
        )


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
    blur: str = "",
    on_error: str = "stop",
) -> EncodedPhotos:
    """Return the features that an encoder gives for the photos of a table.

    Args:
        encoder: an ONNX model, images to feature vectors or feature maps (which are pooled).
        table: the photos.
        input_spec: what the model takes; not needed where it takes (B, H, W, 3) uint8.
        blur: what finds faces to blur; see `privacy.load_find_boxes`.
        on_error: "stop" or "skip" unreadable photos.

    Raises:
        EncoderError: the model cannot be wrapped.
        TableError: a photo cannot be read.
    """
    model = load_model(encoder)
    spec = input_spec or guess_spec(model, encoder)
    wrapped, inside = wrap_encoder(model, spec, projection=None)
    photos, is_read, problems = read_photos(table, inside, blur=blur, on_error=on_error)
    if not is_read.any():
        raise TableError(f"no photo can be read; the first: {problems[0]}")
    features = _embed(wrapped, inside, photos[is_read])
    kept = table[is_read]
    statistics = np.array([image_statistics(photo) for photo in photos[is_read]])
    return EncodedPhotos(kept, features, model, spec, encoder.name, statistics, tuple(problems))


def training_free_codes(photos: EncodedPhotos, *, level: int = 16) -> TrainingFree:
    """Return codes of the cells that have photos, and the encoder that queries them.

    Photos of split "train" make the codes; those of split "val" become the queries that a pack is
    calibrated with. In a table without splits the photos of every tenth place become queries.

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
        prototype_photos=counts.astype(np.float32),
        kappa=1.0,
        kappa_choice=NO_IMAGERY,
        provenance={
            "num_training_photos": int(is_train.sum()),
            "photos_sha256": photos.table[is_train].sha256(),
            "encoder": photos.encoder_name,
        },
    )
    queries = None
    if is_query.any():
        latlon = photos.table[is_query].latlon
        statistics = photos.image_statistics[is_query]
        queries = Queries(features[is_query], latlon, image_statistics=statistics)
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
    num_directions = int((scale > 1e-6 * scale[0]).sum()) if scale.any() else 0
    num = min(PCA_DIM, len(features) // 2, num_directions) // DIM_STEP * DIM_STEP
    if num == 0:
        raise TableError(
            f"{len(features)} photos that differ in {num_directions} directions are too few to "
            f"learn from: want {2 * DIM_STEP} photos, no two alike"
        )
    deviation = scale[:num] / np.sqrt(len(features))
    matrix = (directions[:num] / deviation[:, None]).T
    return Projection(mean, np.ascontiguousarray(matrix, np.float32))


def _splits(table: PhotoTable) -> npt.NDArray[np.str_]:
    if (table.split != "").any():
        return table.split
    places = s2.cell_from_latlon(table.lat, table.lon, level=_PLACE_LEVEL)
    _, place = np.unique(places, return_inverse=True)
    return np.where(place % QUERY_EVERY == QUERY_EVERY - 1, "val", "train")


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
