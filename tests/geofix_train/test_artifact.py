import json
from pathlib import Path
from typing import Any

import pytest

from geofix.input_spec import InputSpec
from geofix_train.artifact import (
    DESCRIPTION,
    ArtifactError,
    EncoderArtifact,
    read_artifact,
    write_artifact,
)

ARTIFACT = EncoderArtifact(
    target="onnx",
    precision="fp32",
    filename="encoder.onnx",
    data=b"not really a model",
    dim=32,
    input_spec=InputSpec(width=32, height=24, mean=(1.0, 2.0, 3.0), color="bgr"),
    provenance={"opset": 18},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a written artifact."""
    write_artifact(ARTIFACT, tmp_path / "encoder")
    return tmp_path / "encoder"


def rewrite(folder: Path, **changes: Any) -> None:
    """Change entries of the description; None takes one out."""
    path = folder / DESCRIPTION
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_a_written_encoder_reads_back(folder: Path) -> None:
    assert read_artifact(folder) == ARTIFACT
    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, "encoder.onnx"]


def test_an_encoder_is_replaced(folder: Path) -> None:
    other = EncoderArtifact("onnx", "fp32", "encoder.onnx", b"another", 8, ARTIFACT.input_spec)
    write_artifact(other, folder)
    assert read_artifact(folder) == other


@pytest.mark.parametrize("data", [b"not really a modeL", b"not really a mode", b""])
def test_a_changed_model_file_is_refused(folder: Path, data: bytes) -> None:
    (folder / "encoder.onnx").write_bytes(data)
    with pytest.raises(
        ArtifactError, match=r"encoder\.onnx: SHA-256 is [0-9a-f]{16}\.\.\., .* says"
    ):
        read_artifact(folder)


@pytest.mark.parametrize("name", [DESCRIPTION, "encoder.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        read_artifact(folder)


@pytest.mark.parametrize("key", ["target", "precision", "file", "sha256", "dim", "input_spec"])
def test_a_description_must_say_all(folder: Path, key: str) -> None:
    rewrite(folder, **{key: None})
    with pytest.raises(ArtifactError, match=rf"{DESCRIPTION}: .*'{key}'"):
        read_artifact(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '"encoder"'])
def test_a_description_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / DESCRIPTION).write_text(text)
    with pytest.raises(ArtifactError, match=f"{DESCRIPTION}: not a readable encoder"):
        read_artifact(folder)


def test_an_input_spec_that_cannot_be_is_refused(folder: Path) -> None:
    rewrite(folder, input_spec={"width": 0, "height": 24})
    with pytest.raises(ArtifactError, match="width is 0"):
        read_artifact(folder)
