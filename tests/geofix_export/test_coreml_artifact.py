"""A Core ML encoder from conversion to the backend, with Core ML itself stood in for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import geofix.backends.coreml
from geofix.backends import open_encoder
from geofix.backends.coreml import CoreMLEncoder
from geofix.mlpackage import FILENAME, FOLDER, read_mlpackage
from geofix_export.mil_evaluator import evaluate
from geofix_train.artifact import EncoderArtifact, read_artifact, write_artifact
from tests.geofix_export.coreml_encoders import (
    cosines,
    embed_with,
    images_of,
    make_encoder,
    package_of,
    spec_of,
)

pytestmark = pytest.mark.xdist_group("coreml")


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend compute with the evaluator: as on macOS, but for Core ML itself."""

    def compile_model(source: str, destination: str) -> None:
        assert Path(source).name == FOLDER
        Path(destination).mkdir()

    def load(path: str, unit: Any) -> Any:
        return SimpleNamespace(predict=predict)

    def predict(given: dict[str, Any]) -> dict[str, Any]:
        image = np.asarray(given["images"])
        return {"embeddings": evaluate(package_of("town", "fp16"), image[None]).embeddings}

    models = SimpleNamespace(
        CompiledMLModel=load, utils=SimpleNamespace(compile_model=compile_model)
    )
    fake = SimpleNamespace(models=models, ComputeUnit=SimpleNamespace(ALL="ALL"))
    monkeypatch.setattr(geofix.backends.coreml, "_import_coremltools", lambda: fake)


@pytest.mark.usefixtures("evaluated")
def test_an_artifact_opens_as_an_encoder_that_gives_what_was_trained(tmp_path: Path) -> None:
    artifact = EncoderArtifact(
        target="coreml",
        precision="fp16",
        filename=FILENAME,
        data=package_of("town", "fp16"),
        dim=128,
        input_spec=spec_of("town"),
    )
    write_artifact(artifact, tmp_path / "encoder")
    read = read_artifact(tmp_path / "encoder")
    encoder = open_encoder(
        read.target, read.data, input_spec=read.input_spec, cache_dir=tmp_path / "cache"
    )
    assert isinstance(encoder, CoreMLEncoder)
    assert encoder.dim == read.dim
    images = images_of("town", 3)
    wanted = embed_with(make_encoder("town"), images)
    assert cosines(encoder.encode(images), wanted).min() > 0.9999
    (unpacked,) = (tmp_path / "cache" / "coreml").glob(f"*/{FOLDER}")
    for name, data in read_mlpackage(read.data).items():
        assert (unpacked / name).read_bytes() == data
