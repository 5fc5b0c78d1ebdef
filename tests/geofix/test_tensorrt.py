"""The TensorRT backend on a machine without TensorRT: the whole code, over fakes.

fake_cuda.c stands for the driver, so that ctypes calls real functions; fake_tensorrt.py for
TensorRT, in its versions 10 and 11. What they cannot show is in test_tensorrt_device.py.
"""

import gc
import json
import logging
import os
import platform
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from geofix import Localizer
from geofix.backends import cuda, open_encoder
from geofix.backends.onnx import OnnxEncoder
from geofix.backends.tensorrt import TensorRTEncoder
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from tests.fake_tensorrt import FakeTensorRT, live
from tests.tiny_pack import DIM, HEIGHT, WIDTH, TinyRegion, make_onnx, onnx_bytes, projection

SPEC = InputSpec(width=WIDTH, height=HEIGHT)
WEIGHTS = projection(np.random.default_rng(0))
MODEL = make_onnx(WEIGHTS)
Images = npt.NDArray[np.uint8]


def random_images(num: int) -> Images:
    return np.random.default_rng(1).integers(0, 256, (num, HEIGHT, WIDTH, 3), dtype=np.uint8)


def open_fake(
    cache: Path, model: bytes = MODEL, spec: InputSpec = SPEC, **named: Any
) -> TensorRTEncoder:
    return TensorRTEncoder(model, spec, cache_dir=cache, **named)


@pytest.mark.parametrize("num", [0, 1, 7, 8, 9, 20])
def test_embeddings_are_those_of_onnx_runtime(trt: FakeTensorRT, cache: Path, num: int) -> None:
    images = random_images(num)
    encoder = open_fake(cache)
    found = encoder.encode(images)
    assert (encoder.dim, found.shape) == (DIM, (num, DIM))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, OnnxEncoder(MODEL, SPEC).encode(images), atol=1e-6)
    assert trt.plugins


@pytest.mark.parametrize("max_batch", [1, 3])
def test_more_images_than_the_engine_takes_are_run_in_parts(
    trt: FakeTensorRT, cache: Path, max_batch: int
) -> None:
    images = random_images(5)
    encoder = open_fake(cache, max_batch=max_batch)
    assert trt.batches == [1]  # opening runs one image
    found = encoder.encode(images)
    np.testing.assert_allclose(found, OnnxEncoder(MODEL, SPEC).encode(images), atol=1e-6)
    assert trt.batches[1:] == ([1] * 5 if max_batch == 1 else [3, 2])  # none is filled up


@pytest.mark.parametrize("num", [1, 4, 6])
def test_a_model_bound_to_a_batch_is_filled_up(trt: FakeTensorRT, cache: Path, num: int) -> None:
    images = random_images(num)
    found = open_fake(cache, make_onnx(WEIGHTS, batch=4)).encode(images)
    np.testing.assert_allclose(found, OnnxEncoder(MODEL, SPEC).encode(images), atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(WIDTH, HEIGHT, color="bgr", layout="nchw"),
        InputSpec(WIDTH, HEIGHT, dtype="float32", mean=(120, 110, 100), scale=(60, 50, 40)),
        InputSpec(WIDTH, HEIGHT, input_name="x", output_name="y"),
    ],
    ids=["bgr, nchw", "float32", "names"],
)
def test_each_input_spec_feeds_what_its_model_wants(
    trt: FakeTensorRT, cache: Path, spec: InputSpec
) -> None:
    images = random_images(3)
    found = open_fake(cache, make_onnx(WEIGHTS, spec=spec), spec).encode(images)
    np.testing.assert_allclose(found, OnnxEncoder(MODEL, SPEC).encode(images), atol=1e-5)


def test_half_precision_comes_back_as_float32(trt: FakeTensorRT, cache: Path) -> None:
    found = open_fake(cache, with_output(MODEL, TensorProto.FLOAT16)).encode(random_images(2))
    assert found.dtype == np.float32
    wanted = OnnxEncoder(MODEL, SPEC).encode(random_images(2))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def with_output(model: bytes, *types: int) -> bytes:
    """Return a model with outputs of other types before its own, which loses its name for them."""
    import onnx

    proto = onnx.load_from_string(model)
    proto.graph.node[-1].output[0] = "own"
    for i, number in enumerate(types):
        name = "embeddings" if i == len(types) - 1 else f"other{i}"
        proto.graph.node.append(helper.make_node("Cast", ["own"], [name], to=number))
        info = helper.make_tensor_value_info(name, number, ["batch", None])
        proto.graph.output.append(info)
    del proto.graph.output[0]
    return bytes(proto.SerializeToString())


def test_outputs_beside_the_embeddings_are_dropped(trt: FakeTensorRT, cache: Path) -> None:
    model = with_output(MODEL, TensorProto.INT32, TensorProto.FLOAT)
    found = open_fake(cache, model).encode(random_images(2))
    wanted = OnnxEncoder(MODEL, SPEC).encode(random_images(2))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("tf32", [False, True])
def test_float32_is_exact_unless_tf32_is_allowed(
    trt: FakeTensorRT, cache: Path, tf32: bool
) -> None:
    open_fake(cache, tf32=tf32)
    assert trt.tf32 == [tf32]


def test_threads_share_an_encoder(trt: FakeTensorRT, cache: Path) -> None:
    encoder, images = open_fake(cache, max_batch=1), random_images(6)
    wanted = encoder.encode(images)
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        found[number] = encoder.encode(images[number:])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]  # no thread met another in the context
    for number, embeddings in found.items():
        np.testing.assert_array_equal(embeddings, wanted[number:])


def test_a_closed_encoder_says_so_and_has_given_all_back(trt: FakeTensorRT, cache: Path) -> None:
    encoder = open_fake(cache)
    assert live() == 4  # the context, the stream, and a buffer for input and for output
    encoder.close()
    encoder.close()
    assert live() == 0
    with pytest.raises(ValueError, match="the encoder is closed"):
        encoder.encode(random_images(1))


def test_an_encoder_that_is_dropped_gives_all_back(trt: FakeTensorRT, cache: Path) -> None:
    encoder = open_fake(cache)
    assert live() == 4
    del encoder
    gc.collect()
    assert live() == 0


@pytest.mark.parametrize(
    "images",
    [random_images(1)[0], random_images(1)[:, :-1], random_images(1).astype(np.float32)],
    ids=["one image", "another size", "floats"],
)
def test_images_of_another_kind_are_an_error(
    trt: FakeTensorRT, cache: Path, images: Images
) -> None:
    encoder = open_fake(cache)
    with pytest.raises(ValueError, match=r"want uint8 of shape \(B, 24, 32, 3\)"):
        encoder.encode(images)


@pytest.mark.parametrize(
    "function",
    [
        "cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2",
        "cuStreamCreate", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDriverGetVersion",
        "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize",
    ],
)  # fmt: skip
def test_what_the_driver_refuses_is_an_error_that_names_it(
    trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setenv("FAKE_CUDA_FAIL", function)
    with pytest.raises(BackendUnavailable, match=f"CUDA: {function} failed with 2, out of memory"):
        open_fake(cache)
    monkeypatch.delenv("FAKE_CUDA_FAIL")


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("build", "cannot build the encoder: Error Code 4: no profile; Error Code 1: out of mem"),
        ("deserialize", "cannot load its own engine: Error Code 6: the engine plan file"),
        ("context", "is the GPU out of memory"),
        ("shape", "TensorRT refuses a batch of 8"),
        ("address", "TensorRT refuses the memory for 'images'"),
        ("execute", "cannot run the encoder: its log says why"),
    ],
)
def test_what_tensorrt_refuses_is_an_error_with_its_reason(
    trt: FakeTensorRT, cache: Path, failing: str, message: str
) -> None:
    trt.fail_to.add(failing)
    with pytest.raises(BackendUnavailable, match=message):
        open_fake(cache)


def test_the_errors_of_the_parser_are_shown_whole(trt: FakeTensorRT, cache: Path) -> None:
    message = r"cannot read the encoder: In node -1 \(parse\): INVALID_GRAPH: .*; line two$"
    with pytest.raises(BackendUnavailable, match=message):
        open_fake(cache, b"no model")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InputSpec(WIDTH, HEIGHT, input_name="pixels"), "takes images and gives embeddings"),
        (InputSpec(WIDTH, HEIGHT, output_name="codes"), "takes images and gives embeddings"),
        (InputSpec(WIDTH + 4, HEIGHT), r"by its input spec it is uint8 of shape \(24, 36, 3\)"),
        (InputSpec(WIDTH, HEIGHT, dtype="float32"), "by its input spec it is float32"),
        (InputSpec(WIDTH, HEIGHT, layout="nchw"), r"it is uint8 of shape \(3, 24, 32\)"),
    ],
)
def test_a_model_that_takes_something_else_is_an_error(
    trt: FakeTensorRT, cache: Path, spec: InputSpec, message: str
) -> None:
    with pytest.raises(BackendUnavailable, match=message):
        open_fake(cache, spec=spec)


def graph_with(shape: list[int | str], op_type: str, **attributes: Any) -> bytes:
    """Return a model of one node between `images` of a shape and `embeddings`."""
    return onnx_bytes(
        [helper.make_node(op_type, ["images"], ["embeddings"], **attributes)],
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("embeddings", attributes["to"], [None] * len(shape))],
        {},
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            graph_with(["b", "h", WIDTH, 3], "Cast", to=TensorProto.FLOAT),
            r"shape \(-1, -1, 32, 3\): only the batch may be free",
        ),
        (
            graph_with(["b", HEIGHT, WIDTH, 3], "Cast", to=TensorProto.FLOAT),
            r"output 'embeddings' has shape \(8, 24, 32, 3\), want \(8, D\)",
        ),
        (with_output(MODEL, TensorProto.INT32), "the encoder's 'embeddings' is INT32"),
    ],
)
def test_a_model_of_another_form_is_an_error(
    trt: FakeTensorRT, cache: Path, model: bytes, message: str
) -> None:
    with pytest.raises(BackendUnavailable, match=message):
        open_fake(cache, model)


def test_a_batch_of_none_is_an_error(cache: Path) -> None:
    with pytest.raises(ValueError, match="max_batch is 0, want 1 or more"):
        open_fake(cache, max_batch=0)


@pytest.mark.parametrize(
    ("machine", "message"),
    [("aarch64", "python3 -m venv --system-site-packages"), ("x86_64", r"geofix\[tensorrt\]")],
)
def test_without_tensorrt_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, cache: Path, machine: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(BackendUnavailable, match=f"this encoder needs TensorRT: .*{message}"):
        open_fake(cache)


def test_an_old_tensorrt_is_an_error_that_names_both_versions(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT("8.6.2"))
    with pytest.raises(BackendUnavailable, match=r"is 8\.6\.2, want 10\.3 .* JetPack 6\.1"):
        open_fake(cache)


def test_without_a_driver_the_error_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT())
    monkeypatch.setattr(cuda, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(BackendUnavailable, match=r"needs an NVIDIA GPU .* libno-such-driver"):
        open_fake(cache)


def test_what_tensorrt_says_goes_to_pythons_logging(
    trt: FakeTensorRT, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="geofix.backends")
    open_fake(cache)
    said = {(r.name, r.levelname, r.getMessage()) for r in caplog.records}
    name = "geofix.backends.tensorrt_engine"
    assert (name, "INFO", "Global timing cache in use.") in said
    assert any("which takes minutes" in text and str(cache) in text for _, _, text in said)


def test_a_packs_encoder_for_tensorrt_is_onnx_and_its_engine_lies_in_the_cache(
    trt: FakeTensorRT, cache: Path, region: TinyRegion, tmp_path: Path
) -> None:
    import dataclasses

    encoder = dataclasses.replace(region.encoder, target="tensorrt")
    path = region.write(tmp_path / "tiny.geofix", encoders=[encoder])
    with Localizer.open(path, backend="tensorrt", cache_dir=cache) as localizer:
        assert localizer.backend == "tensorrt"
        fix = localizer.localize(region.pictures[3])
    assert fix.candidates[0].cell == region.tokens[3]
    assert sorted(entry.suffix for entry in (cache / "engines").iterdir()) == [".engine", ".json"]
    gc.collect()
    assert live() == 0


def test_the_target_opens_this_backend(trt: FakeTensorRT, cache: Path) -> None:
    found = open_encoder("tensorrt", memoryview(MODEL), input_spec=SPEC, cache_dir=cache)
    assert isinstance(found, TensorRTEncoder)
    assert json.loads(next((cache / "engines").glob("*.json")).read_text())["key"]["gpu"] == "Orin"


def test_a_forked_child_is_told_to_open_its_own_and_frees_nothing(
    trt: FakeTensorRT, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, parent = open_fake(cache), os.getpid()
    runner, held = encoder._runner, live()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: parent + 1)
        with pytest.raises(BackendUnavailable, match=r"TensorRT does not work in a child.*spawn"):
            encoder.encode(random_images(1))
        encoder.close()
    assert live() == held > 0
    runner.close()
