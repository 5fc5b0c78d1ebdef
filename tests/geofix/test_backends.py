import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import TensorProto, helper

from geofix.backends import BACKENDS, open_encoder
from geofix.backends.onnx import OnnxEncoder, network_input
from geofix.encoder import QueryEncoder
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from tests.tiny_pack import DIM, HEIGHT, WIDTH, TinyRegion, make_onnx, onnx_bytes, projection

SPEC = InputSpec(width=WIDTH, height=HEIGHT)
WEIGHTS = projection(np.random.default_rng(0))
Images = npt.NDArray[np.uint8]


def random_images(num: int) -> Images:
    return np.random.default_rng(1).integers(0, 256, (num, HEIGHT, WIDTH, 3), dtype=np.uint8)


def embeddings_by_hand(images: Images) -> npt.NDArray[np.float32]:
    """Return what the tiny encoder computes, in NumPy."""
    blocks = images.reshape(len(images), HEIGHT // 4, 4, WIDTH // 4, 4, 3).mean(axis=(2, 4))
    flat = blocks.transpose(0, 3, 1, 2).reshape(len(images), -1)
    found = (flat - 127.5) @ WEIGHTS
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def constant_output(value: float, shape: list[int]) -> bytes:
    """Return an encoder that gives the same numbers for each image."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["sums"], keepdims=1),
        helper.make_node("Mul", ["sums", "zero"], ["zeros"]),
        helper.make_node("Reshape", ["zeros", "ones"], ["scalar"]),
        helper.make_node("Add", ["scalar", "value"], ["embeddings"]),
    ]
    constants = {
        "zero": np.float32(0),
        "ones": np.ones(1, np.int64),
        "value": np.full(shape, value, np.float32),
    }
    size: list[int | str] = ["batch", HEIGHT, WIDTH, 3]
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, size)]
    outputs = [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [None] * len(shape))]
    return onnx_bytes(nodes, inputs, outputs, constants)


def test_embeddings_are_those_of_the_graph() -> None:
    images = random_images(5)
    encoder = OnnxEncoder(make_onnx(WEIGHTS), SPEC)
    assert encoder.dim == DIM
    found = encoder.encode(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embeddings_by_hand(images), atol=1e-5)


def test_the_first_embedding_of_the_tiny_region_never_changes(region: TinyRegion) -> None:
    wanted = [0.148277, 0.070870, 0.041012, -0.009165, -0.072564]
    np.testing.assert_allclose(region.cell_codes[0, :5], wanted, atol=1e-4)


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(WIDTH, HEIGHT, color="bgr"),
        InputSpec(WIDTH, HEIGHT, layout="nchw"),
        InputSpec(WIDTH, HEIGHT, dtype="float32", mean=(120, 110, 100), scale=(60, 50, 40)),
        InputSpec(WIDTH, HEIGHT, color="bgr", layout="nchw", dtype="float32", scale=(1, 2, 3)),
        InputSpec(WIDTH, HEIGHT, input_name="x", output_name="y"),
    ],
    ids=lambda spec: f"{spec.color}-{spec.layout}-{spec.dtype}-{spec.input_name}",
)
def test_each_input_spec_feeds_what_its_model_wants(spec: InputSpec) -> None:
    images = random_images(3)
    found = OnnxEncoder(make_onnx(WEIGHTS, spec=spec), spec).encode(images)
    np.testing.assert_allclose(found, embeddings_by_hand(images), atol=1e-5)


def test_the_networks_input_is_normalized_in_the_order_of_its_channels() -> None:
    spec = InputSpec(1, 1, color="bgr", dtype="float32", mean=(1, 2, 3), scale=(2, 4, 8))
    image = np.array([[[[10, 20, 30]]]], np.uint8)
    tensor = network_input(image, spec)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor, [[[[29 / 2, 18 / 4, 7 / 8]]]])


@pytest.mark.parametrize("batch", [1, 4, "batch"])
@pytest.mark.parametrize("num", [0, 1, 3, 4, 9, 70])
def test_any_number_of_images_gives_the_same_as_one_by_one(batch: int | str, num: int) -> None:
    images = random_images(num)
    encoder = OnnxEncoder(make_onnx(WEIGHTS, batch=batch), SPEC)
    found = encoder.encode(images)
    assert found.shape == (num, DIM)
    for image, embedding in zip(images, found, strict=True):
        np.testing.assert_allclose(encoder.encode(image[None])[0], embedding, atol=1e-6)


def test_embeddings_of_a_model_that_does_not_normalize_get_unit_length() -> None:
    encoder = OnnxEncoder(constant_output(3.0, [1, 4]), SPEC)
    np.testing.assert_allclose(encoder.encode(random_images(1)), [[0.5, 0.5, 0.5, 0.5]])


def test_an_embedding_of_zeros_stays_zero() -> None:
    encoder = OnnxEncoder(constant_output(0.0, [1, 4]), SPEC)
    np.testing.assert_array_equal(encoder.encode(random_images(1)), np.zeros((1, 4)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_an_error(value: float) -> None:
    encoder = OnnxEncoder(constant_output(value, [1, 4]), SPEC)
    with pytest.raises(BackendUnavailable, match="NaN or infinity"):
        encoder.encode(random_images(1))


@pytest.mark.parametrize("shape", [[4], [1, 2, 2], [3, 4]])
def test_an_output_of_another_shape_is_an_error(shape: list[int]) -> None:
    with pytest.raises(BackendUnavailable, match=r"has shape .*, want \(1, D\)"):
        OnnxEncoder(constant_output(1.0, shape), SPEC)


@pytest.mark.parametrize(
    "spec",
    [InputSpec(WIDTH, HEIGHT, input_name="pixels"), InputSpec(WIDTH, HEIGHT, output_name="codes")],
)
def test_tensors_of_another_name_are_an_error(spec: InputSpec) -> None:
    with pytest.raises(BackendUnavailable, match=r"takes images and gives embeddings; its .* spec"):
        OnnxEncoder(make_onnx(WEIGHTS), spec)


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(WIDTH + 4, HEIGHT),
        InputSpec(WIDTH, HEIGHT, layout="nchw"),
        InputSpec(WIDTH, HEIGHT, dtype="float32"),
    ],
)
def test_a_model_that_takes_something_else_is_an_error(spec: InputSpec) -> None:
    with pytest.raises(BackendUnavailable, match="ONNX Runtime cannot run the encoder"):
        OnnxEncoder(make_onnx(WEIGHTS), spec)


def test_a_model_whose_input_has_no_dimensions_is_an_error() -> None:
    nodes = [helper.make_node("Identity", ["images"], ["embeddings"])]
    scalar = [helper.make_tensor_value_info("images", TensorProto.UINT8, [])]
    output = [helper.make_tensor_value_info("embeddings", TensorProto.UINT8, [])]
    with pytest.raises(BackendUnavailable, match=r"want \(1, D\)"):
        OnnxEncoder(onnx_bytes(nodes, scalar, output, {}), SPEC)


@pytest.mark.parametrize("data", [b"", b"no model", make_onnx(WEIGHTS)[:-100]], ids=len)
def test_bytes_that_are_no_model_are_an_error(data: bytes) -> None:
    with pytest.raises(BackendUnavailable, match="ONNX Runtime cannot load the encoder"):
        OnnxEncoder(data, SPEC)


@pytest.mark.parametrize(
    "images",
    [
        random_images(1)[0],
        random_images(1)[:, :-1],
        random_images(1).astype(np.float32),
        random_images(1)[..., :1],
    ],
    ids=["one image", "another size", "floats", "gray"],
)
def test_images_of_another_kind_are_an_error(images: Images) -> None:
    encoder = OnnxEncoder(make_onnx(WEIGHTS), SPEC)
    with pytest.raises(ValueError, match=r"want uint8 of shape \(B, 24, 32, 3\)"):
        encoder.encode(images)


def test_without_onnx_runtime_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'geofix\[onnx\]'"):
        OnnxEncoder(make_onnx(WEIGHTS), SPEC)


@pytest.mark.parametrize("target", ["openvino", ""])
def test_a_target_without_a_backend_is_an_error_that_names_it(target: str) -> None:
    with pytest.raises(BackendUnavailable, match=f"cannot run encoders for '{target}'"):
        open_encoder(target, make_onnx(WEIGHTS), input_spec=SPEC)


def test_an_opened_encoder_is_a_query_encoder() -> None:
    encoder: QueryEncoder = open_encoder("onnx", memoryview(make_onnx(WEIGHTS)), input_spec=SPEC)
    assert encoder.dim == DIM
    assert "onnx" in BACKENDS


class FakeRuntime:
    """Stands for an ONNX Runtime that was built for CUDA."""

    def __init__(self, real: Any, *, can_use_it: bool) -> None:
        self._real, self._can_use_it = real, can_use_it
        self.asked: list[str] = []
        self.SessionOptions = real.SessionOptions

    def disable_telemetry_events(self) -> None:
        """Nothing is reported."""

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(self, model: bytes, options: Any, providers: list[str]) -> Any:
        self.asked = providers
        session = self._real.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        used = providers if self._can_use_it else providers[1:]
        return FakeSession(session, used)


class FakeSession:
    """A session that says it runs elsewhere."""

    def __init__(self, real: Any, providers: list[str]) -> None:
        self._real, self._providers = real, providers

    def get_providers(self) -> list[str]:
        return self._providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize("can_use_it", [True, False])
def test_cuda_is_used_where_the_runtime_has_it_and_missed_aloud_where_it_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, can_use_it: bool
) -> None:
    runtime = FakeRuntime(onnxruntime, can_use_it=can_use_it)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with caplog.at_level("WARNING", logger="geofix"):
        encoder = OnnxEncoder(make_onnx(WEIGHTS), SPEC)
    assert runtime.asked == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert encoder.device == ("CUDA" if can_use_it else "CPU")
    assert ("is built for CUDA and cannot use it here" in caplog.text) == (not can_use_it)


def test_threads_do_not_spin_while_they_wait() -> None:
    options = OnnxEncoder(make_onnx(WEIGHTS), SPEC)._session().get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_without_a_gpu_the_device_is_the_cpu() -> None:
    assert OnnxEncoder(make_onnx(WEIGHTS), SPEC).device == "CPU"
