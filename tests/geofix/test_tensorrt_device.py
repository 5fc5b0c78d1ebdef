"""The backend on a real GPU with a real TensorRT; skipped where either is absent."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofix.backends.cuda import CudaDevice
from geofix.backends.onnx import OnnxEncoder
from geofix.backends.tensorrt import TensorRTEncoder
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from tests.tiny_pack import DIM, HEIGHT, WIDTH, make_onnx, projection

MIN_COSINE = 0.9999  # fp32 in another order, without TF32
SPECS = [
    InputSpec(WIDTH, HEIGHT),
    InputSpec(WIDTH, HEIGHT, layout="nchw", dtype="float32", mean=(1, 2, 3), scale=(4, 5, 6)),
]


def why_not() -> str:
    """Say why TensorRT cannot run here, "" where it can."""
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed"
    try:
        CudaDevice().close()
    except BackendUnavailable as e:
        return str(e)
    return ""


pytestmark = [pytest.mark.tensorrt, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]


@pytest.mark.parametrize("spec", SPECS, ids=["uint8, nhwc", "float32, nchw"])
@pytest.mark.parametrize("batch", ["batch", 4])
def test_an_engine_equals_onnx_runtime(tmp_path: Path, spec: InputSpec, batch: Any) -> None:
    model = make_onnx(projection(np.random.default_rng(0)), spec=spec, batch=batch)
    images = np.random.default_rng(1).integers(0, 256, (11, HEIGHT, WIDTH, 3), dtype=np.uint8)
    encoder = TensorRTEncoder(model, spec, cache_dir=tmp_path)
    found, wanted = encoder.encode(images), OnnxEncoder(model, spec).encode(images)
    assert found.shape == (11, DIM)
    assert (found * wanted).sum(axis=1).min() >= MIN_COSINE
    np.testing.assert_array_equal(encoder.encode(images), found)
    encoder.close()


def test_an_engine_that_was_kept_gives_the_same(tmp_path: Path) -> None:
    model = make_onnx(projection(np.random.default_rng(0)))
    images = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    first = TensorRTEncoder(model, SPECS[0], cache_dir=tmp_path).encode(images)
    (engine,) = (tmp_path / "engines").glob("*.engine")
    before = engine.stat()
    second = TensorRTEncoder(model, SPECS[0], cache_dir=tmp_path).encode(images)
    np.testing.assert_array_equal(first, second)
    assert engine.stat().st_mtime_ns == before.st_mtime_ns


def test_the_reasons_of_the_real_parser_are_shown(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"TensorRT cannot read the encoder: .+"):
        TensorRTEncoder(b"no model", SPECS[0], cache_dir=tmp_path)
