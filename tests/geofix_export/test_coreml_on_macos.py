"""Core ML itself on each compute unit, against the evaluator. Runs on macOS alone."""

import sys
from pathlib import Path

import numpy as np
import pytest

from geofix.backends.coreml import COMPUTE_UNITS, CoreMLEncoder
from geofix_export.mil_evaluator import evaluate
from tests.geofix_export.coreml_encoders import (
    cosines,
    embed_with,
    images_of,
    make_encoder,
    package_of,
    spec_of,
)

pytestmark = [
    pytest.mark.macos,
    pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on Apple systems only"),
    pytest.mark.xdist_group("coreml"),
]

PRECISIONS = ("fp32", "fp16", "int8", "int8_activations", "palettized6", "palettized4")


@pytest.mark.parametrize("units", COMPUTE_UNITS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["town", "vit", "dinov3_convnext"])
def test_core_ml_gives_what_the_evaluator_gives(
    name: str, precision: str, units: str, tmp_path: Path
) -> None:
    package, images = package_of(name, precision), images_of(name, 3)
    encoder = CoreMLEncoder(package, spec_of(name), compute_units=units, cache_dir=tmp_path)
    wanted = evaluate(package, images).embeddings
    assert cosines(encoder.encode(images), wanted).min() >= 0.999


@pytest.mark.parametrize("units", COMPUTE_UNITS)
def test_core_ml_gives_what_the_trained_encoder_gives(units: str, tmp_path: Path) -> None:
    images = images_of("town", 3)
    encoder = CoreMLEncoder(
        package_of("town", "fp16"), spec_of("town"), compute_units=units, cache_dir=tmp_path
    )
    wanted = embed_with(make_encoder("town"), images)
    assert cosines(encoder.encode(images), wanted).min() >= 0.999


def test_red_is_not_blue(tmp_path: Path) -> None:
    package, images = package_of("town", "fp16"), images_of("town", 2)
    encoder = CoreMLEncoder(package, spec_of("town"), compute_units="cpu", cache_dir=tmp_path)
    flipped = np.ascontiguousarray(images[..., ::-1])
    assert cosines(encoder.encode(images), encoder.encode(flipped)).max() < 0.999


def test_a_compiled_model_is_used_again(tmp_path: Path) -> None:
    package, spec, images = package_of("town", "fp16"), spec_of("town"), images_of("town")
    first = CoreMLEncoder(package, spec, cache_dir=tmp_path).encode(images)
    (compiled,) = tmp_path.rglob("*.mlmodelc")
    made = compiled.stat().st_mtime_ns
    again = CoreMLEncoder(package, spec, cache_dir=tmp_path).encode(images)
    assert compiled.stat().st_mtime_ns == made
    np.testing.assert_allclose(again, first, atol=1e-3)
