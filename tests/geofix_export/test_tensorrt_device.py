"""What our rules let pass, a real TensorRT builds; skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest

from geofix.backends.onnx import OnnxEncoder
from geofix.backends.tensorrt import TensorRTEncoder
from geofix.input_spec import InputSpec
from geofix_train.artifact import EncoderArtifact
from tests.geofix.test_tensorrt_device import MIN_COSINE, why_not
from tests.geofix_export.quantized_model import SPEC, model_bytes, quantized_model

INT8_MIN_COSINE = 0.99  # rounding at the edge between two of 255 steps goes either way

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.xdist_group("export"),
]


def lowest_cosine(model: bytes, spec: InputSpec, folder: Path) -> float:
    size = (9, spec.height, spec.width, 3)
    images = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    found = TensorRTEncoder(model, spec, cache_dir=folder).encode(images)
    return float((found * OnnxEncoder(model, spec).encode(images)).sum(axis=1).min())


def test_our_encoder_equals_onnx_runtime(artifact: EncoderArtifact, tmp_path: Path) -> None:
    assert lowest_cosine(artifact.data, artifact.input_spec, tmp_path) >= MIN_COSINE


def test_a_quantized_encoder_is_close_to_onnx_runtime(tmp_path: Path) -> None:
    model = model_bytes(quantized_model())
    assert lowest_cosine(model, SPEC, tmp_path) >= INT8_MIN_COSINE
