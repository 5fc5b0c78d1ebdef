"""`geofix-export tensorrt` from its words to what it prints, with and without TensorRT."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from geofix.input_spec import InputSpec
from geofix.manifest import EntryDigest
from geofix_export.cli import main
from geofix_export.tensorrt_rules import RULES
from geofix_train.artifact import EncoderArtifact, write_artifact
from tests.command_line import Outcome, Run, runner
from tests.fake_tensorrt import FakeTensorRT
from tests.geofix_export.quantized_model import (
    DIM,
    HEIGHT,
    SPEC,
    WIDTH,
    model_bytes,
    quantized_model,
    set_constant,
)
from tests.tiny_pack import TinyRegion

MODEL = model_bytes(quantized_model())
SHAPES = "--minShapes=images:1x12x16x3 --optShapes=images:1x12x16x3 --maxShapes=images:8x12x16x3"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line and catches what it prints."""
    return runner(main, capsys)


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return an ONNX file, with spec.json beside it."""
    (tmp_path / "spec.json").write_text(json.dumps(SPEC.to_json()))
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


def failed(outcome: Outcome) -> str:
    assert outcome.status == 1
    assert outcome.err.count("geofix-export: ") == 1
    return outcome.err.splitlines()[-1].removeprefix("geofix-export: ")


def test_the_engine_is_built_and_its_place_told(
    trt: FakeTensorRT, run: Run, model: Path, cache: Path
) -> None:
    words = ("tensorrt", model, "--input-spec", model.with_name("spec.json"))
    outcome = run(*words, "--cache-dir", cache)
    (engine,) = (cache / "engines").glob("*.engine")
    typed = "" if trt.major >= 11 else " --stronglyTyped"
    assert outcome.out.splitlines() == [
        f"{model}: keeps to all {len(RULES)} rules",
        f"trtexec --onnx=model.onnx --saveEngine={engine}{typed} --noTF32 {SHAPES}",
        f"{engine}: {engine.stat().st_size / 1e6:.2f} MB",
    ]
    assert (outcome.status, outcome.err.count("\n")) == (0, 1)
    assert "takes minutes" in outcome.err
    assert run(*words, "--cache-dir", cache).out == outcome.out
    assert trt.num_builds == 1


def test_without_tensorrt_the_rules_are_checked_and_the_reason_told(
    no_tensorrt: None, run: Run, model: Path
) -> None:
    outcome = run("tensorrt", model, "--input-spec", model.with_name("spec.json"))
    assert outcome.out.splitlines() == [
        f"{model}: keeps to all {len(RULES)} rules",
        f"trtexec --onnx=model.onnx --saveEngine=model.engine --stronglyTyped --noTF32 {SHAPES}",
    ]
    assert failed(outcome).startswith("this encoder needs TensorRT: ")


def test_a_model_bound_to_a_batch_gets_no_shapes(no_tensorrt: None, run: Run, model: Path) -> None:
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, model)
    outcome = run("tensorrt", model, "--input-spec", model.with_name("spec.json"))
    assert outcome.out.splitlines()[1].endswith("--stronglyTyped --noTF32")


def test_what_breaks_a_rule_is_listed_and_nothing_is_built(
    trt: FakeTensorRT, run: Run, model: Path, cache: Path
) -> None:
    proto = onnx.load(model)
    set_constant(proto, "zero", np.int8(3))
    onnx.save(proto, model)
    words = ("tensorrt", model, "--input-spec", model.with_name("spec.json"))
    outcome = run(*words, "--cache-dir", cache)
    lines = outcome.out.splitlines()
    assert len(lines) == 4  # each of four nodes with this zero point
    assert all(line.startswith("zero-point: ") and "See https://" in line for line in lines)
    assert failed(outcome) == f"{model} breaks TensorRT's rules in 4 places"
    assert trt.num_builds == 0
    assert not cache.exists()


def test_our_own_folder_says_what_the_model_takes(
    no_tensorrt: None, run: Run, tmp_path: Path
) -> None:
    artifact = EncoderArtifact("tensorrt", "int8", "encoder.onnx", MODEL, DIM, SPEC)
    write_artifact(artifact, tmp_path / "encoder")
    outcome = run("tensorrt", tmp_path / "encoder" / "encoder.onnx")
    assert SHAPES in outcome.out
    (tmp_path / "encoder" / "other.onnx").write_bytes(MODEL)
    outcome = run("tensorrt", tmp_path / "encoder" / "other.onnx")
    assert "give --input-spec FILE" in failed(outcome)


def test_a_model_alone_does_not_say_what_it_takes(run: Run, model: Path) -> None:
    outcome = run("tensorrt", model)
    assert failed(outcome) == f"{model}: what it takes is not known: give --input-spec FILE"
    assert outcome.out == ""


def test_a_pack_has_its_encoder_and_its_input_spec(
    trt: FakeTensorRT, run: Run, region: TinyRegion, tmp_path: Path, cache: Path
) -> None:
    encoder = dataclasses.replace(region.encoder, target="tensorrt")
    pack = region.write(tmp_path / "tiny.geofix", encoders=[region.encoder, encoder])
    outcome = run("tensorrt", pack, "--cache-dir", cache)
    assert (outcome.status, trt.num_builds) == (0, 1)
    assert "trtexec --onnx=encoder.onnx" in outcome.out
    outcome = run("tensorrt", pack, "--input-spec", tmp_path / "spec.json")
    assert "is a pack and has its input spec: leave out" in failed(outcome)


def test_an_encoder_that_a_pack_only_names_is_taken_from_the_cache(
    trt: FakeTensorRT, run: Run, region: TinyRegion, tmp_path: Path, cache: Path
) -> None:
    data = region.encoder.data
    named = dataclasses.replace(
        region.encoder, target="tensorrt", data=b"", referenced=EntryDigest.of(data)
    )
    pack = region.write(tmp_path / "tiny.geofix", encoders=[named])
    assert "does not carry it" in failed(run("tensorrt", pack, "--cache-dir", cache))
    (cache / "encoders").mkdir(parents=True)
    (cache / "encoders" / "encoder.onnx").write_bytes(data)
    assert run("tensorrt", pack, "--cache-dir", cache).status == 0


def test_a_pack_without_an_encoder_for_tensorrt_is_an_error(run: Run, pack_path: Path) -> None:
    outcome = run("tensorrt", pack_path)
    assert failed(outcome) == f"{pack_path} has no encoder for 'tensorrt'; it has onnx"


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_file_that_is_neither_is_an_error(run: Run, model: Path, content: bytes) -> None:
    model.write_bytes(content)
    outcome = run("tensorrt", model, "--input-spec", model.with_name("spec.json"))
    assert failed(outcome).startswith("not a readable ONNX model")


def test_a_spec_that_does_not_fit_is_an_error(
    trt: FakeTensorRT, run: Run, model: Path, cache: Path
) -> None:
    other = InputSpec(WIDTH, HEIGHT, layout="nchw")
    model.with_name("spec.json").write_text(json.dumps(other.to_json()))
    words = ("tensorrt", model, "--input-spec", model.with_name("spec.json"))
    assert "by its input spec it is" in failed(run(*words, "--cache-dir", cache))
