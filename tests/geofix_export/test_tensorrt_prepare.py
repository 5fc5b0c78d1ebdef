"""Our own encoder, prepared for TensorRT and quantized by ONNX Runtime, breaks no rule."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from geofix.backends.onnx import OnnxEncoder
from geofix_export.tensorrt_prepare import prepare_for_tensorrt
from geofix_export.tensorrt_rules import check_for_tensorrt
from geofix_train.artifact import EncoderArtifact
from tests.geofix_export.quantized_model import (
    HEIGHT,
    SPEC,
    WIDTH,
    make,
    model_bytes,
    node,
    quantized_model,
)


def broken(model: bytes) -> list[str]:
    return [violation.rule.name for violation in check_for_tensorrt(model)]


class Photos(CalibrationDataReader):  # type: ignore[misc]
    """Random images, one at a time."""

    def __init__(self, width: int, height: int) -> None:
        rng = np.random.default_rng(0)
        self._rest: Iterator[dict[str, Any]] = iter(
            {"images": rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)}
            for _ in range(4)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rest, None)


def quantize(model: bytes, folder: Path, width: int, height: int, **options: Any) -> bytes:
    """Quantize a model with ONNX Runtime, symmetric int8 in Q/DQ form."""
    (folder / "model.onnx").write_bytes(model)
    quantize_static(
        folder / "model.onnx",
        folder / "int8.onnx",
        Photos(width, height),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, **options},
    )
    return (folder / "int8.onnx").read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.xdist_group("export")
def test_our_encoder_passes_and_so_it_does_when_it_is_quantized(
    artifact: EncoderArtifact, tmp_path: Path
) -> None:
    assert broken(artifact.data) == []
    width, height = artifact.input_spec.width, artifact.input_spec.height
    data = quantize(artifact.data, tmp_path, width, height, QuantizeBias=False)
    assert check_for_tensorrt(data) == []
    assert {"QuantizeLinear", "DequantizeLinear"} <= {
        n.op_type for n in onnx.load(tmp_path / "int8.onnx").graph.node
    }
    assert set(broken(quantize(artifact.data, tmp_path, width, height))) == {"int8-data"}


def test_preparing_a_model_that_needs_nothing_changes_nothing() -> None:
    model = quantized_model()
    assert prepare_for_tensorrt(model_bytes(model)) == model_bytes(model)


def test_a_cast_that_comes_late_is_put_before_who_asks_for_the_shape() -> None:
    model = quantized_model()
    model.graph.node.insert(0, make("Shape", ["images"], "size"))
    assert node(model, "size") == model.graph.node[0]
    prepared = onnx.load_from_string(prepare_for_tensorrt(model_bytes(model)))
    onnx.checker.check_model(prepared, full_check=True)
    assert node(prepared, "size").input == ["floats"]
    assert broken(model_bytes(prepared)) == []
    images = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    found = [
        OnnxEncoder(data, SPEC).encode(images)
        for data in (model_bytes(model), model_bytes(prepared))
    ]
    np.testing.assert_array_equal(found[0], found[1])
