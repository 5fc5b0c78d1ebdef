"""What is prepared for TensorRT breaks no rule and computes the same."""

import numpy as np
import onnx
import pytest

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


@pytest.mark.xdist_group("export")
def test_our_encoder_breaks_no_rule(artifact: EncoderArtifact) -> None:
    assert broken(artifact.data) == []


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
