import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geofix.input_spec import InputSpec
from geofix_export.cli import main
from geofix_export.compare import Comparison, compare_encoders, fastest
from geofix_train.artifact import EncoderArtifact, write_artifact
from tests.command_line import runner
from tests.tiny_pack import HEIGHT, WIDTH, TinyRegion

IMAGES = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def artifact(region: TinyRegion) -> EncoderArtifact:
    """Return an encoder that runs anywhere."""
    spec = InputSpec(WIDTH, HEIGHT)
    return EncoderArtifact("onnx", "fp32", "encoder.onnx", bytes(region.encoder.data), 32, spec)


def test_encoders_are_timed_and_compared_with_the_first(artifact: EncoderArtifact) -> None:
    found = compare_encoders([artifact, replace(artifact, precision="int8")], IMAGES, num_timed=10)
    assert [comparison.name for comparison in found] == ["onnx fp32", "onnx int8"]
    for comparison in found:
        assert comparison.median_ms is not None
        assert comparison.p95_ms is not None
        assert 0 < comparison.median_ms <= comparison.p95_ms
        assert comparison.mean_cosine == pytest.approx(1, abs=1e-5)
    assert fastest(found) in found


def test_an_encoder_that_does_not_run_here_says_why(artifact: EncoderArtifact) -> None:
    for_gpu = replace(artifact, target="tensorrt")
    found = compare_encoders([for_gpu, artifact], IMAGES, num_timed=2)
    assert found[0].median_ms is None
    assert "TensorRT" in found[0].reason
    assert found[1].mean_cosine == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="none of the encoders runs here"):
        compare_encoders([for_gpu], IMAGES)


def test_encoders_of_different_input_are_not_compared(artifact: EncoderArtifact) -> None:
    other = replace(artifact, input_spec=InputSpec(WIDTH, HEIGHT + 1))
    with pytest.raises(ValueError, match="compare exports of one run"):
        compare_encoders([artifact, other], IMAGES)
    with pytest.raises(ValueError, match="one photo"):
        compare_encoders([artifact], IMAGES[:0])


def test_the_fastest_is_the_one_with_the_smallest_median() -> None:
    slow, quick = Comparison("a", 1, 5.0, 6.0, 1.0), Comparison("b", 1, 3.0, 9.0, 1.0)
    assert fastest([slow, Comparison("c", 1, None, None, None), quick]) == quick


def test_the_command_prints_a_line_an_encoder(
    artifact: EncoderArtifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_artifact(artifact, tmp_path / "a")
    write_artifact(replace(artifact, target="tensorrt", precision="fp16"), tmp_path / "b")
    run = runner(main, capsys)
    lines = run("compare", tmp_path / "a", tmp_path / "b").out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'a'}, onnx fp32:")
    assert "1.00 x the first, cosine with it 1.0000" in lines[0]
    assert f"{tmp_path / 'b'}, tensorrt fp16" in lines[1]
    assert "does not run here: " in lines[1]
    assert lines[2] == f"fastest here: {tmp_path / 'a'}, onnx fp32"
    told = [json.loads(line) for line in run("compare", tmp_path / "a", "--json").out.splitlines()]
    assert (told[0]["folder"], told[0]["name"]) == (str(tmp_path / "a"), "onnx fp32")
