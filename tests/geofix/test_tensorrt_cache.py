"""An engine is built once, again when anything changes that it depends on, never run damaged."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix.backends.engine_cache import EngineKey, engine_path
from geofix.backends.tensorrt import TensorRTEncoder
from geofix.backends.tensorrt_engine import trtexec_line
from geofix.encoder_files import default_cache_dir
from geofix.input_spec import InputSpec
from tests.fake_tensorrt import FakeTensorRT
from tests.tiny_pack import HEIGHT, WIDTH, make_onnx, projection

SPEC = InputSpec(width=WIDTH, height=HEIGHT)
MODEL = make_onnx(projection(np.random.default_rng(0)))
KEY = EngineKey("0" * 64, "10.3.0", "Orin", "8.7", "R36", "fp32", 8, "images -> embeddings")


def start(cache: Path, model: bytes = MODEL, spec: InputSpec = SPEC, **named: Any) -> None:
    """Open an encoder and close it, as a program does that starts and ends."""
    TensorRTEncoder(model, spec, cache_dir=cache, **named).close()


def engine_of(cache: Path) -> Path:
    """Return the file of the only engine."""
    (path,) = (cache / "engines").glob("*.engine")
    return path


def test_an_engine_is_built_once(trt: FakeTensorRT, cache: Path) -> None:
    start(cache)
    before = engine_of(cache).stat().st_mtime_ns
    start(cache)
    assert trt.num_builds == 1
    assert engine_of(cache).stat().st_mtime_ns == before
    assert trt.seen == [hashlib.sha256(engine_of(cache).read_bytes()).hexdigest()] * 2


def another_model(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(cache, make_onnx(projection(np.random.default_rng(1))))


def another_version(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt.__version__ += ".1"
    start(cache)


def another_gpu(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_NAME", "Orin (nvgpu)")
    start(cache)


def another_generation(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_SM", "89")
    start(cache)


def another_driver(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_DRIVER", "12090")
    start(cache)


def another_jetpack(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache.parent / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.4\n")
    start(cache)


def another_precision(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(cache, tf32=True)


def another_batch(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(cache, max_batch=4)


def other_tensors(trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same model, of which another tensor is the embedding.
    from onnx import TensorProto, helper, load_from_string

    proto = load_from_string(MODEL)
    info = helper.make_tensor_value_info("projected", TensorProto.FLOAT, ["batch", None])
    proto.graph.output.append(info)
    both = bytes(proto.SerializeToString())
    start(cache, both)
    start(cache, both, InputSpec(WIDTH, HEIGHT, output_name="projected"))
    trt.num_builds -= 1  # of the first of the two


CHANGES = [
    another_model, another_version, another_gpu, another_generation, another_driver,
    another_jetpack, another_precision, another_batch, other_tensors,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_engine_is_built_again_when_what_it_depends_on_changes(
    trt: FakeTensorRT,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[FakeTensorRT, Path, pytest.MonkeyPatch], None],
) -> None:
    start(cache)
    change(trt, cache, monkeypatch)
    assert trt.num_builds == 2


def test_each_part_of_the_key_changes_the_name() -> None:
    from dataclasses import fields, replace

    names = {KEY.name}
    for field in fields(KEY):
        value: Any = 9 if field.name == "max_batch" else "other"
        names.add(replace(KEY, **{field.name: value}).name)
    assert len(names) == len(fields(KEY)) + 1


def test_only_the_first_line_of_what_the_system_says_counts(trt: FakeTensorRT, cache: Path) -> None:
    start(cache)
    note = json.loads(engine_of(cache).with_suffix(".json").read_text())
    assert note["key"]["system"] == "# R36 (release), REVISION: 4.3; CUDA 12060"
    assert note["key"]["model_sha256"] == hashlib.sha256(MODEL).hexdigest()
    assert (note["key"]["gpu"], note["key"]["compute_capability"]) == ("Orin", "8.7")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def replace_by_list(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize("ending", [".engine", ".json"])
@pytest.mark.parametrize("damage", [flip, cut, empty, remove, replace_by_list])
def test_a_damaged_engine_is_built_again_and_tensorrt_never_sees_it(
    trt: FakeTensorRT, cache: Path, ending: str, damage: Callable[[Path], None]
) -> None:
    start(cache)
    whole = engine_of(cache).read_bytes()
    path = engine_of(cache).with_suffix(ending)
    if (ending, damage) == (".json", cut):
        path.write_bytes(path.read_bytes()[:-10])  # its last byte is the end of a line
    else:
        damage(path)
    start(cache)
    assert trt.num_builds == 2
    assert set(trt.seen) == {hashlib.sha256(whole).hexdigest()}
    assert engine_of(cache).read_bytes() == whole
    start(cache)
    assert trt.num_builds == 2


def test_damage_is_told_in_the_log(
    trt: FakeTensorRT, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(cache)
    flip(engine_of(cache))
    start(cache)
    assert "does not match its checksum and is built again" in caplog.text
    assert str(engine_of(cache)) in caplog.text


def test_an_engine_of_another_key_under_this_name_is_not_taken(
    trt: FakeTensorRT, cache: Path
) -> None:
    start(cache)
    note_path = engine_of(cache).with_suffix(".json")
    note = json.loads(note_path.read_text())
    note["key"]["gpu"] = "another"
    note_path.write_text(json.dumps(note))
    start(cache)
    assert trt.num_builds == 2


def test_an_engine_that_tensorrt_refuses_is_built_again(
    trt: FakeTensorRT,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(cache)
    trt.refused.add(hashlib.sha256(engine_of(cache).read_bytes()).hexdigest())

    def rebuilt(*arguments: object) -> bool:  # the new one is taken
        trt.refused.clear()
        return True

    monkeypatch.setattr(trt, "init_libnvinfer_plugins", rebuilt)
    start(cache)
    assert trt.num_builds == 2
    assert "it is built again" in caplog.text


def test_where_nothing_can_be_kept_the_encoder_runs_and_says_so(
    trt: FakeTensorRT, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    for number in (1, 2):
        start(cache)
        assert trt.num_builds == number
    assert "the engine is not kept" in caplog.text


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_engine_is_whole_or_not_there(
    trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, step, fail)
        start(cache)
    assert list((cache / "engines").iterdir()) == []
    start(cache)
    assert trt.num_builds == 2


def test_the_folder_of_engines_is_its_users_alone(trt: FakeTensorRT, cache: Path) -> None:
    start(cache)
    assert stat.S_IMODE((cache / "engines").stat().st_mode) == 0o700


def test_engines_lie_in_the_users_cache_where_no_folder_is_given(
    trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOFIX_CACHE_DIR", str(cache))
    assert default_cache_dir() == cache
    TensorRTEncoder(MODEL, SPEC).close()
    assert engine_of(cache).is_file()


def test_a_build_is_told_in_the_log_with_its_place(
    trt: FakeTensorRT, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start(cache)
    start(cache)
    assert caplog.text.count("building an engine for Orin") == 1


def test_the_line_for_trtexec_builds_the_same() -> None:
    assert trtexec_line("encoder.onnx", SPEC, engine=engine_path(Path("e"), KEY)) == (
        f"trtexec --onnx=encoder.onnx --saveEngine=e/{KEY.name}.engine --stronglyTyped --noTF32 "
        "--minShapes=images:1x24x32x3 --optShapes=images:1x24x32x3 --maxShapes=images:8x24x32x3"
    )


def test_the_line_for_trtexec_says_what_is_otherwise() -> None:
    spec = InputSpec(WIDTH, HEIGHT, layout="nchw", input_name="x")
    line = trtexec_line("my model.onnx", spec, engine="e", max_batch=2, tf32=True, version="11.4.1")
    assert line == (
        "trtexec '--onnx=my model.onnx' --saveEngine=e --minShapes=x:1x3x24x32 "
        "--optShapes=x:1x3x24x32 --maxShapes=x:2x3x24x32"
    )
    assert "Shapes" not in trtexec_line("m.onnx", spec, engine="e", max_batch=None)
