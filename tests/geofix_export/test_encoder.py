import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import geofix_export.encoder
import geofix_export.targets
from geofix.input_spec import InputSpec
from geofix_export.encoder import export_encoder
from geofix_export.parity import ParityError
from geofix_train.artifact import EncoderArtifact
from geofix_train.checkpoint import CheckpointError, load_finished, save_checkpoint
from geofix_train.config import FitConfig
from geofix_train.model import Encoder, Model, embed, make_encoders
from geofix_train.photo_table import read_photo_table
from geofix_train.photos import read_photos

pytestmark = pytest.mark.xdist_group("export")

DIM, WIDTH, HEIGHT = 16, 32, 24  # of the tiny settings
OLDEST_RUNTIME_IR = 9  # what ONNX Runtime 1.17 reads, the oldest that the extra `onnx` admits
MIN_COSINE = 0.9999
Images = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]
Change = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def trained(finished_run: Path) -> Encoder:
    """Return the query encoder as training left it."""
    weights, cells = load_finished(finished_run)
    config = FitConfig.from_json((finished_run / "config.json").read_text())
    model = Model(*make_encoders(config), len(cells))
    model.load_state_dict(weights)
    return model.ground


@pytest.fixture(scope="module")
def photos(data: Path, artifact: EncoderArtifact) -> Images:
    """Return all photos of the data set, sized for the encoder, then black, white and noise."""
    table, _ = read_photo_table(data / "photos.parquet")
    read, _, _ = read_photos(table, artifact.input_spec)
    noise = np.random.default_rng(5).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    noise[0], noise[1] = 0, 255
    return np.concatenate([read, noise])


@pytest.fixture(scope="module")
def session(artifact: EncoderArtifact) -> Any:
    """Return the model file in ONNX Runtime alone, without what geofix adds around it."""
    return ort.InferenceSession(artifact.data, providers=["CPUExecutionProvider"])


def embed_with(session: Any, images: Images) -> Embeddings:
    (embeddings,) = session.run(["embeddings"], {"images": images})
    return np.asarray(embeddings)


def changed_projection(data: bytes, change: Change) -> bytes:
    """Return a model whose last layer has other weights."""
    model = onnx.load_from_string(data)
    (weights,) = (t for t in model.graph.initializer if t.name == "projection.weight")
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("num", [1, 2, 5, 43])
def test_the_exported_encoder_equals_the_trained_one(
    trained: Encoder, session: Any, photos: Images, num: int
) -> None:
    got, wanted = embed_with(session, photos[-num:]), embed(trained, photos[-num:])
    assert got.shape == wanted.shape == (num, DIM)
    assert (got * wanted).sum(axis=1).min() >= MIN_COSINE
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_the_photos_are_told_apart(session: Any, photos: Images) -> None:
    similarity = np.corrcoef(embed_with(session, photos))
    assert np.sort(similarity, axis=1)[:, -2].max() < MIN_COSINE


def test_embeddings_have_unit_length_as_the_model_gives_them(session: Any, photos: Images) -> None:
    embeddings = embed_with(session, photos)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


def test_the_model_takes_any_number_of_uint8_images_in_rows(session: Any) -> None:
    (images,), (embeddings,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape == ["batch", HEIGHT, WIDTH, 3]
    assert (embeddings.name, embeddings.type) == ("embeddings", "tensor(float)")
    assert embeddings.shape == ["batch", DIM]


def test_the_description_says_what_the_model_takes(artifact: EncoderArtifact) -> None:
    assert artifact.input_spec == InputSpec(
        WIDTH, HEIGHT, resize="crop", color="rgb", layout="nhwc"
    )
    assert (artifact.target, artifact.precision, artifact.dim) == ("onnx", "fp32", DIM)
    told = artifact.provenance
    assert (told["opset"], told["torch"]) == (18, torch.__version__)
    assert told["recipe"]["precision"] == "fp32"


def test_blue_is_not_red(session: Any, photos: Images) -> None:
    flipped = np.ascontiguousarray(photos[..., ::-1])
    cosine = (embed_with(session, photos) * embed_with(session, flipped)).sum(axis=1)
    assert np.median(cosine) < MIN_COSINE


def test_the_model_passes_the_checker_and_holds_its_weights(artifact: EncoderArtifact) -> None:
    model = onnx.load_from_string(artifact.data)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)


def test_exporting_twice_gives_equal_bytes(artifact: EncoderArtifact, finished_run: Path) -> None:
    again = export_encoder(finished_run)
    assert again == artifact
    assert again.sha256 == artifact.sha256


def test_the_model_does_not_name_folders_of_the_machine(artifact: EncoderArtifact) -> None:
    root = str(Path(geofix_export.encoder.__file__).parents[2])
    assert root.encode() not in artifact.data
    assert b"site-packages" not in artifact.data


def test_the_oldest_admitted_runtime_reads_the_model(artifact: EncoderArtifact) -> None:
    assert onnx.load_from_string(artifact.data).ir_version <= OLDEST_RUNTIME_IR


def test_a_model_that_gives_other_numbers_is_refused(
    artifact: EncoderArtifact, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed_projection(artifact.data, lambda weights: weights[::-1].copy())
    monkeypatch.setattr(geofix_export.targets, "to_onnx", lambda *arguments: other)
    with pytest.raises(ParityError, match=r"mean cosine is -?0\.\d{4}, want 0\.9999"):
        export_encoder(finished_run)


@pytest.mark.parametrize(("noise", "is_refused"), [(1e-3, False), (0.1, True)])
def test_the_bound_decides_whether_a_model_is_refused(
    artifact: EncoderArtifact,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    noise: float,
    is_refused: bool,
) -> None:
    gain = 1 + noise * np.random.default_rng(0).standard_normal((DIM, 1)).astype(np.float32)
    near = changed_projection(artifact.data, lambda weights: weights * gain)
    monkeypatch.setattr(geofix_export.targets, "to_onnx", lambda *arguments: near)
    if is_refused:
        with pytest.raises(ParityError, match=r"cosine is 0\.99"):
            export_encoder(finished_run)
    else:
        assert export_encoder(finished_run).data == near


def test_an_unfinished_run_is_refused_with_its_step(finished_run: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / "config.json", tmp_path)
    model = nn.Linear(2, 2)
    save_checkpoint(tmp_path, model, [torch.optim.AdamW(model.parameters())], step=7)
    with pytest.raises(CheckpointError, match="stopped at step 7: run fit again"):
        export_encoder(tmp_path)
