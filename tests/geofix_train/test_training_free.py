"""Cell codes by an encoder made elsewhere: small ONNX models whose answers NumPy can check."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

import geofix_index.cells as s2
from geofix.backends.onnx import OnnxEncoder
from geofix.errors import BackendUnavailable
from geofix.images import prepare_image
from geofix.input_spec import InputSpec
from geofix_train.artifact import read_artifact
from geofix_train.cell_codes import read_cell_codes, read_queries
from geofix_train.photo_table import PhotoTable, TableError
from geofix_train.training_free import (
    EncodedPhotos,
    TrainingFree,
    encode_photos,
    fit_projection,
    training_free_codes,
    write_training_free,
)
from geofix_train.wrapped_encoder import EncoderError
from tests.geofix_train.tiny_data import make_table
from tests.tiny_pack import BLOCK_PX, HEIGHT, WIDTH, make_onnx, onnx_bytes, projection

Floats = npt.NDArray[np.float32]
WriteModel = Callable[[bytes], Path]
SPEC = InputSpec(width=WIDTH, height=HEIGHT)
WEIGHTS, LARGE_WEIGHTS = (projection(np.random.default_rng(0), dim=dim) for dim in (24, 600))
NUM = 40


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> PhotoTable:
    """Return photos with splits: of ten, eight to train, one to validate, one to test."""
    return make_table(tmp_path_factory.mktemp("photos"), num=NUM)


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    """Return a function that writes a model's bytes to a file."""

    def write(data: bytes) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def photos(write_model: WriteModel, table: PhotoTable) -> EncodedPhotos:
    """Return the photos with features of 24 dimensions."""
    return encode_photos(write_model(make_onnx(WEIGHTS)), table)


@pytest.fixture
def large_photos(write_model: WriteModel, table: PhotoTable) -> EncodedPhotos:
    """Return the photos with features of 600 dimensions."""
    return encode_photos(write_model(make_onnx(LARGE_WEIGHTS)), table)


def pictures(table: PhotoTable) -> npt.NDArray[np.uint8]:
    """Return the photos at the size that the models take."""
    return np.stack([prepare_image(table.photo_path(row), SPEC) for row in range(len(table))])


def blocks(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return block averages as the models compute them, (N, 3, h, w)."""
    num, height, width, _ = images.shape
    shape = num, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX, 3
    return np.moveaxis(images.reshape(shape).mean(axis=(2, 4)), 3, 1)


def unit(vectors: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float64)


def embeddings_by_hand(table: PhotoTable, weights: Floats) -> npt.NDArray[np.float64]:
    flat = blocks(pictures(table)).reshape(len(table), -1)
    return unit((flat - 127.5) @ weights)


def run_artifact(made: TrainingFree, table: PhotoTable) -> Floats:
    """Return what the encoder that goes to the device gives for photos."""
    encoder = OnnxEncoder(made.encoder.data, made.encoder.input_spec, num_threads=1)
    assert encoder.dim == made.encoder.dim
    return encoder.encode(pictures(table))


def cell_means(table: PhotoTable, embeddings: npt.NDArray[np.floating[Any]]) -> dict[int, Any]:
    """Return the mean direction of each cell's photos."""
    own = s2.cell_from_latlon(table.lat, table.lon, level=16)
    return {
        int(cell): unit(embeddings[own == cell].mean(axis=0, keepdims=True))[0]
        for cell in np.unique(own)
    }


def feature_map_model() -> bytes:
    """Return a model whose output `fmap` is a map of block averages, less 100."""
    kernel = [BLOCK_PX, BLOCK_PX]
    nodes = [
        helper.make_node("Cast", ["images"], ["raw"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["raw"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["mean"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Sub", ["mean", "hundred"], ["fmap"]),
    ]
    return onnx_bytes(
        nodes,
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("fmap", TensorProto.FLOAT, ["batch", 3, 6, 8])],
        {"hundred": np.float32(100)},
    )


def test_a_code_is_the_mean_of_the_embeddings_of_a_cells_training_photos(
    photos: EncodedPhotos, table: PhotoTable
) -> None:
    codes = training_free_codes(photos).codes
    is_train = table.split == "train"
    wanted = cell_means(table[is_train], embeddings_by_hand(table, WEIGHTS)[is_train])
    assert codes.cells.tolist() == sorted(wanted)
    assert len(wanted) > 3
    for cell, code in zip(codes.cells.tolist(), codes.cell_codes, strict=True):
        np.testing.assert_allclose(code, wanted[cell], atol=1e-5)
    own = s2.cell_from_latlon(table.lat[is_train], table.lon[is_train], level=16)
    assert codes.num_photos.tolist() == [(own == cell).sum() for cell in codes.cells]
    hashed = table[is_train].sha256()
    assert codes.provenance == {
        "num_training_photos": 32, "photos_sha256": hashed, "encoder": "model.onnx"
    }  # fmt: skip


def test_validation_photos_become_the_queries(photos: EncodedPhotos, table: PhotoTable) -> None:
    queries = training_free_codes(photos).queries
    rows = np.flatnonzero(table.split == "val")
    assert queries is not None
    np.testing.assert_allclose(
        queries.embeddings, embeddings_by_hand(table, WEIGHTS)[rows], atol=1e-5
    )
    np.testing.assert_array_equal(queries.latlon, np.transpose([table.lat[rows], table.lon[rows]]))


def test_another_level_gives_larger_cells(photos: EncodedPhotos) -> None:
    coarse = training_free_codes(photos, level=14).codes
    assert set(s2.level_of(coarse.cells).tolist()) == {14}
    assert len(coarse.cells) < len(training_free_codes(photos).codes.cells)
    assert coarse.num_photos.sum() == 32


def test_photos_of_every_tenth_place_are_kept_aside_where_a_table_has_no_splits(
    photos: EncodedPhotos, table: PhotoTable
) -> None:
    twice = np.repeat(np.arange(NUM), 2)  # two photos from each place
    columns = {**table[twice].columns, "split": np.array([""] * 2 * NUM)}
    made = training_free_codes(replace(photos[twice], table=PhotoTable(columns, table.root)))
    assert made.queries is not None
    assert made.queries.image_statistics is not None
    assert len(made.queries.image_statistics) == len(made.queries.latlon)
    aside = made.queries.latlon
    assert NUM // 10 <= len(aside) // 2 <= NUM // 10 + 2
    _, counts = np.unique(aside, axis=0, return_counts=True)
    assert (counts % 2 == 0).all()  # never one of two
    assert made.codes.num_photos.sum() == 2 * NUM - len(aside)


def test_nine_photos_without_splits_have_no_queries(
    photos: EncodedPhotos, table: PhotoTable, tmp_path: Path
) -> None:
    columns = {**table.columns, "split": np.array([""] * NUM)}
    few = replace(photos, table=PhotoTable(columns, table.root))[np.arange(9)]
    made = training_free_codes(few)
    assert made.queries is None
    write_training_free(made, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["codes.safetensors", "encoder"]


def test_a_table_with_splits_needs_training_photos(photos: EncodedPhotos) -> None:
    with pytest.raises(TableError, match="no photo to make codes from: none has split 'train'"):
        training_free_codes(photos[photos.table.split == "val"])


def test_what_was_made_is_written(photos: EncodedPhotos, tmp_path: Path) -> None:
    made = training_free_codes(photos)
    write_training_free(made, tmp_path / "out")
    assert read_artifact(tmp_path / "out" / "encoder") == made.encoder
    codes = read_cell_codes(tmp_path / "out" / "codes.safetensors")
    np.testing.assert_array_equal(codes.cell_codes, made.codes.cell_codes)
    queries = read_queries(tmp_path / "out" / "queries.safetensors")
    assert made.queries is not None
    np.testing.assert_array_equal(queries.embeddings, made.queries.embeddings)


@pytest.mark.parametrize("dim", [24, 512])
def test_embeddings_of_up_to_512_dimensions_are_not_reduced(
    write_model: WriteModel, table: PhotoTable, dim: int
) -> None:
    weights = projection(np.random.default_rng(1), dim=dim)
    made = training_free_codes(encode_photos(write_model(make_onnx(weights)), table))
    assert made.encoder.dim == made.codes.cell_codes.shape[1] == dim
    got = run_artifact(made, table)
    np.testing.assert_allclose(got, embeddings_by_hand(table, weights), atol=1e-5)


def test_whitening_inside_the_encoder_is_that_of_numpy(
    large_photos: EncodedPhotos, table: PhotoTable
) -> None:
    got = run_artifact(training_free_codes(large_photos), table).astype(np.float64)
    features, is_train = embeddings_by_hand(table, LARGE_WEIGHTS), table.split == "train"
    centred = features - features[is_train].mean(axis=0)
    variance, axes = np.linalg.eigh(centred[is_train].T @ centred[is_train] / is_train.sum())
    wanted = unit(centred @ axes[:, -16:] / np.sqrt(variance[-16:]))
    assert got.shape == (NUM, 16)  # half as many as training photos
    # The signs and, among equals, the order of axes are free; angles between photos are not.
    np.testing.assert_allclose(got @ got.T, wanted @ wanted.T, atol=2e-3)


def test_reduced_codes_are_means_in_the_space_of_the_encoder(
    large_photos: EncodedPhotos, table: PhotoTable
) -> None:
    made = training_free_codes(large_photos)
    is_train = table.split == "train"
    got = run_artifact(made, table)
    wanted = cell_means(table[is_train], got[is_train])
    for cell, code in zip(made.codes.cells.tolist(), made.codes.cell_codes, strict=True):
        np.testing.assert_allclose(code, wanted[cell], atol=1e-4)
    assert made.queries is not None
    np.testing.assert_allclose(made.queries.embeddings, got[table.split == "val"], atol=1e-4)


@pytest.mark.parametrize(("num", "wanted"), [(16, 8), (47, 16), (512, 256), (700, 256)])
def test_whitened_features_are_uncorrelated_and_at_most_half_as_many_as_photos(
    num: int, wanted: int
) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((num, 600)) * np.linspace(1, 3, 600) + 5
    projected = fit_projection(features.astype(np.float32))
    white = (features - projected.mean) @ projected.matrix
    assert white.shape == (num, wanted)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(white.T @ white / num, np.eye(wanted), atol=1e-2)


def test_too_few_photos_to_whiten_are_an_error() -> None:
    features = np.random.default_rng(0).standard_normal((15, 600)).astype(np.float32)
    with pytest.raises(TableError, match="too few to learn from: want 16 photos"):
        fit_projection(features)


def test_a_feature_map_is_pooled_by_its_generalized_mean(
    write_model: WriteModel, table: PhotoTable
) -> None:
    photos = encode_photos(write_model(feature_map_model()), table)
    positive = np.maximum(blocks(pictures(table)) - 100.0, 1e-6)
    wanted = unit((positive**3).mean(axis=(2, 3)) ** (1 / 3))
    assert photos.features.shape == (NUM, 3)
    np.testing.assert_allclose(photos.features, wanted, atol=1e-4)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_whatever_a_model_takes_the_wrapped_one_takes_photos(
    write_model: WriteModel, table: PhotoTable, color: str, layout: str, dtype: str
) -> None:
    scaling: dict[str, Any] = {"mean": (120.0, 110.0, 100.0), "scale": (50.0, 60.0, 70.0)}
    spec = InputSpec(
        width=WIDTH, height=HEIGHT, color=color, layout=layout, dtype=dtype,
        input_name="x", output_name="y", **(scaling if dtype == "float32" else {}),
    )  # fmt: skip
    made = training_free_codes(
        encode_photos(write_model(make_onnx(WEIGHTS, spec=spec)), table, input_spec=spec)
    )
    inside = made.encoder.input_spec
    assert (inside.color, inside.layout, inside.dtype) == ("rgb", "nhwc", "uint8")
    got = run_artifact(made, table)
    np.testing.assert_allclose(got, embeddings_by_hand(table, WEIGHTS), atol=1e-4)


def test_a_model_of_one_image_a_batch_encodes_many(
    write_model: WriteModel, table: PhotoTable
) -> None:
    photos = encode_photos(write_model(make_onnx(WEIGHTS, batch=1)), table)
    np.testing.assert_allclose(photos.features, embeddings_by_hand(table, WEIGHTS), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_name": "pixels"}, "input spec names input 'pixels'; the model has .*'x'"),
        ({"output_name": "features"}, "input spec names output 'features'; the model has .*'y'"),
    ],
)
def test_a_spec_that_names_another_tensor_is_an_error(
    write_model: WriteModel, table: PhotoTable, changes: dict[str, Any], message: str
) -> None:
    spec = replace(SPEC, input_name="x", output_name="y")
    path = write_model(make_onnx(WEIGHTS, spec=spec))
    with pytest.raises(EncoderError, match=message):
        encode_photos(path, table, input_spec=replace(spec, **changes))


@pytest.mark.parametrize("changes", [{"width": 64}, {"layout": "nhwc"}])
def test_a_spec_of_another_shape_is_an_error(
    write_model: WriteModel, table: PhotoTable, changes: dict[str, Any]
) -> None:
    spec = replace(SPEC, layout="nchw", dtype="float32")
    path = write_model(make_onnx(WEIGHTS, spec=spec))
    with pytest.raises(BackendUnavailable, match=r"ONNX Runtime cannot (load|run) the encoder"):
        encode_photos(path, table, input_spec=replace(spec, **changes))


def test_a_model_that_takes_numbers_needs_a_spec(
    write_model: WriteModel, table: PhotoTable
) -> None:
    path = write_model(make_onnx(WEIGHTS, spec=replace(SPEC, layout="nchw", dtype="float32")))
    message = r"takes 'images' of shape \[0, 3, 24, 32\], .*: give --input-spec FILE"
    with pytest.raises(EncoderError, match=message):
        encode_photos(path, table)


def test_a_file_that_is_no_model_is_named(write_model: WriteModel, table: PhotoTable) -> None:
    with pytest.raises(EncoderError, match=r"model\.onnx: not an ONNX model"):
        encode_photos(write_model(b"no model"), table)


def test_an_unreadable_photo_stops_unless_it_may_be_left_out(
    write_model: WriteModel, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "photos", num=12)
    table.photo_path(4).write_bytes(b"no picture")
    path = write_model(make_onnx(WEIGHTS))
    with pytest.raises(TableError, match=r"row 5 \(004\.png\)"):
        encode_photos(path, table)
    kept = encode_photos(path, table, on_error="skip")
    assert kept.table.columns["path"].tolist() == [
        f"{row:03d}.png" for row in range(12) if row != 4
    ]
    assert len(kept.features) == 11
    assert [problem.split(":")[0] for problem in kept.problems] == ["row 5 (004.png)"]


def test_photos_that_are_all_unreadable_are_an_error(
    write_model: WriteModel, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "photos", num=2)
    for row in range(2):
        table.photo_path(row).write_bytes(b"no picture")
    with pytest.raises(TableError, match="no photo can be read; the first: row 1"):
        encode_photos(write_model(make_onnx(WEIGHTS)), table, on_error="skip")


def test_photos_that_do_not_differ_cannot_be_whitened() -> None:
    with pytest.raises(TableError, match="32 photos that differ in 0 directions"):
        fit_projection(np.ones((32, 600), np.float32))


def test_an_empty_model_is_an_error(write_model: WriteModel, table: PhotoTable) -> None:
    with pytest.raises(EncoderError, match="0 inputs and 0 outputs: not an image encoder"):
        encode_photos(write_model(b""), table)
