"""Conversion to Core ML, judged by the evaluator; on a Mac, test_coreml_on_macos runs it."""

import copy
import gc
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geofix
from geofix.input_spec import InputSpec
from geofix.mlpackage import FOLDER, MANIFEST, MODEL, WEIGHTS, pack_mlpackage, read_mlpackage
from geofix_export.coreml import PRECISIONS, CoreMLConversionError, convert_to_coreml
from geofix_export.coreml_tools import import_coremltools, quiet
from geofix_export.coreml_weights import nearest_values
from geofix_export.mil_evaluator import evaluate
from geofix_export.mil_program import MilProgram, parse_model, read_program
from geofix_train.config import ModelConfig
from geofix_train.model import Encoder
from tests.geofix_export.coreml_encoders import (
    cosines,
    embed_with,
    images_of,
    make_encoder,
    package_of,
    spec_of,
)
from tests.geofix_train.tiny_backbones import FAMILIES

pytestmark = pytest.mark.xdist_group("coreml")

LEAST_COSINE = {
    "fp32": 0.999_999,
    "fp16": 0.9999,
    "int8": 0.999,
    "int8_activations": 0.998,
    "palettized6": 0.998,
    "palettized4": 0.98,
}
# Of the bytes of the weights in float32, for an encoder of 12 MB.
LARGEST_SHARE = {"fp16": 0.55, "int8": 0.30, "palettized6": 0.25, "palettized4": 0.17}


def worst_cosine(name: str, precision: str) -> float:
    images = images_of(name)
    got = evaluate(package_of(name, precision), images).embeddings
    return float(cosines(got, embed_with(make_encoder(name), images)).min())


def kinds(program: MilProgram) -> list[str]:
    return [operation.kind for operation in program.operations]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["town", "vit"])
def test_the_program_gives_what_the_encoder_gives(name: str, precision: str) -> None:
    assert worst_cosine(name, precision) >= LEAST_COSINE[precision]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_backbones_converts(family: str) -> None:
    assert worst_cosine(family, "fp16") >= LEAST_COSINE["fp16"]


@pytest.mark.parametrize("aggregator", ["mean", "gem"])
def test_each_aggregator_converts(aggregator: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(ModelConfig(aggregator=aggregator)).eval()
    package = convert_to_coreml(encoder, spec_of("town"), precision="fp16")
    images = images_of("town")
    got = evaluate(package, images).embeddings
    assert cosines(got, embed_with(encoder, images)).min() >= LEAST_COSINE["fp16"]


def test_photos_are_told_apart() -> None:
    images = images_of("town", 3)
    images[1], images[2] = 0, 255
    got = evaluate(package_of("town", "fp16"), images).embeddings
    others = (got @ got.T)[~np.eye(3, dtype=bool)]
    assert others.max() < LEAST_COSINE["palettized4"]


@pytest.mark.parametrize("precision", sorted(LARGEST_SHARE))
def test_files_are_as_small_as_their_precision_says(precision: str) -> None:
    num_bytes = 4 * sum(p.numel() for p in make_encoder("vit").parameters())
    assert num_bytes > 10e6
    assert len(package_of("vit", precision)) <= LARGEST_SHARE[precision] * num_bytes


def test_coarser_precisions_are_further_from_the_encoder() -> None:
    order = ["fp32", "fp16", "int8", "palettized6", "palettized4"]
    found = [worst_cosine("vit", precision) for precision in order]
    assert found == sorted(found, reverse=True)


def test_int8_activations_round_what_each_layer_takes() -> None:
    program = read_program(package_of("town", "int8_activations"))
    made_by = {op.name: op.kind for op in program.operations}
    layers = [op for op in program.operations if op.kind in ("conv", "linear")]
    assert len(layers) == 11
    for layer in layers:
        (x,) = layer.inputs["x"]
        assert made_by[getattr(x, "name", "")] == "dequantize"
    assert kinds(program).count("constexpr_affine_dequantize") == 9  # the others are small


def test_the_image_is_normalized_in_the_program_and_only_there() -> None:
    program = read_program(package_of("town", "fp32"))
    first = [op.kind for op in program.operations if op.kind != "const"][:3]
    assert first == ["sub", "mul", "conv"]
    assert kinds(program).count("sub") == 1 + 6  # the others are Sinkhorn's
    stored = parse_model(read_mlpackage(package_of("town", "fp32"))[MODEL])
    assert not stored.neuralNetwork.preprocessing


def test_the_package_takes_an_image_and_says_what_it_is() -> None:
    package = convert_to_coreml(
        make_encoder("town"),
        InputSpec(128, 96, input_name="photo", output_name="found"),
        precision="fp16",
        author="A survey",
        license="CC-BY-4.0",
    )
    stored = parse_model(read_mlpackage(package)[MODEL])
    (taken,), (given,) = stored.description.input, stored.description.output
    assert (taken.name, given.name) == ("photo", "found")
    image = taken.type.imageType
    assert (image.width, image.height) == (128, 96)
    assert image.ColorSpace.Name(image.colorSpace) == "RGB"
    assert list(given.type.multiArrayType.shape) == [1, 128]
    array = given.type.multiArrayType
    assert array.ArrayDataType.Name(array.dataType) == "FLOAT32"
    metadata = read_program(package).metadata
    assert (metadata["author"], metadata["license"]) == ("A survey", "CC-BY-4.0")
    assert metadata["versionString"] == geofix.__version__
    assert metadata["org.geofix.precision"] == "fp16"
    assert stored.specificationVersion == 8  # iOS 17
    assert len(evaluate(package, images_of("town")).embeddings) == 2


def test_the_archive_is_a_package_of_stored_entries() -> None:
    package = package_of("town", "fp16")
    with zipfile.ZipFile(BytesIO(package)) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
    assert [e.filename for e in entries] == [f"{FOLDER}/{n}" for n in (MODEL, WEIGHTS, MANIFEST)]
    assert {e.compress_type for e in entries} == {zipfile.ZIP_STORED}
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}
    manifest = json.loads(read_mlpackage(package)[MANIFEST])
    items = manifest["itemInfoEntries"]
    assert items[manifest["rootModelIdentifier"]]["path"] == "com.apple.CoreML/model.mlmodel"
    assert {item["path"] for item in items.values()} == {
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    }


@pytest.mark.parametrize("precision", ["fp16", "int8", "palettized4"])
def test_coremltools_loads_the_package_and_decompresses_it_alike(
    precision: str, tmp_path: Path
) -> None:
    package = package_of("town", precision)
    zipfile.ZipFile(BytesIO(package)).extractall(tmp_path)
    ct = import_coremltools()
    with quiet():
        model = ct.models.MLModel(str(tmp_path / FOLDER), skip_model_load=True)
        plain = ct.optimize.coreml.decompress_weights(model)
        plain.save(str(tmp_path / "plain.mlpackage"))
    files = {
        name: (tmp_path / "plain.mlpackage" / name).read_bytes()
        for name in (MANIFEST, MODEL, WEIGHTS)
    }
    images = images_of("town")
    decompressed = evaluate(pack_mlpackage(files), images)
    wanted = evaluate(package, images)
    np.testing.assert_allclose(decompressed.embeddings, wanted.embeddings, atol=2e-3)


CONVERT = """
import hashlib
from tests.geofix_export.coreml_encoders import package_of
for precision in ("fp16", "palettized4", "int8_activations"):
    print(hashlib.sha256(package_of("town", precision)).hexdigest())
"""


def test_another_process_gives_the_same_bytes() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    out = subprocess.run(
        [sys.executable, "-c", CONVERT], capture_output=True, text=True, check=True, env=environment
    )
    assert out.stdout.split() == [
        hashlib.sha256(package_of("town", precision)).hexdigest()
        for precision in ("fp16", "palettized4", "int8_activations")
    ]
    assert out.stderr == ""  # coremltools' own talk is kept off the screen


def test_other_weights_give_other_ids() -> None:
    manifests = [
        read_mlpackage(package_of("town", precision))[MANIFEST] for precision in ("fp16", "int8")
    ]
    roots = [json.loads(manifest)["rootModelIdentifier"] for manifest in manifests]
    assert roots[0] != roots[1]


def test_the_package_names_no_folder_of_the_machine() -> None:
    package = package_of("vit", "fp16")
    root = Path(geofix.__file__).parents[2]
    assert str(root).encode() not in package
    assert b"site-packages" not in package


def test_an_encoder_is_left_as_it_was() -> None:
    encoder = copy.deepcopy(make_encoder("town")).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    calibration = images_of("town", 8, seed=1)
    package = convert_to_coreml(
        encoder, spec_of("town"), precision="int8_activations", calibration=calibration
    )
    assert package == package_of("town", "int8_activations")
    assert all(module.training for module in encoder.modules())
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "int4"}, "precision is 'int4', want one of fp32, fp16"),
        ({"precision": "int8_activations"}, "takes calibration photos, got none"),
        ({"precision": "fp16", "calibration": images_of("town")}, "takes no calibration"),
    ],
)
def test_what_cannot_be_converted_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert_to_coreml(make_encoder("town"), spec_of("town"), **options)


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(128, 96, color="bgr"),
        InputSpec(128, 96, layout="nchw"),
        InputSpec(128, 96, dtype="float32"),
    ],
)
def test_an_input_spec_that_is_not_pixels_is_refused(spec: InputSpec) -> None:
    with pytest.raises(ValueError, match="want rgb nhwc uint8"):
        convert_to_coreml(nn.Identity(), spec, precision="fp16")


class _Unusual(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        unusual: Tensor = torch.special.i0(images.float())
        return unusual.flatten(1)


# Where it fails, coremltools leaves its temporary folder to the garbage collector.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_what_coremltools_has_no_translation_for_is_named() -> None:
    with pytest.raises(CoreMLConversionError, match=r"cannot convert the encoder: .*i0"):
        convert_to_coreml(_Unusual(), spec_of("town"), precision="fp16")
    gc.collect()


def test_without_coremltools_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(ImportError, match=r"pip install 'geofix\[export\]'"):
        convert_to_coreml(make_encoder("town"), spec_of("town"), precision="fp16")


@pytest.mark.parametrize(("num", "distortion"), [(16, 0.009497), (4, 0.1175), (2, 0.3634)])
def test_tables_of_normal_weights_are_as_good_as_tables_can_be(num: int, distortion: float) -> None:
    # Lloyd-Max quantizers of a normal distribution, J. Max 1960, table I.
    values = np.sort(np.random.default_rng(0).standard_normal(200_000))
    table = nearest_values(values, num)
    nearest = table[np.searchsorted((table[1:] + table[:-1]) / 2, values)]
    assert np.square(values - nearest).mean() == pytest.approx(distortion, rel=0.03)


def test_a_table_may_be_larger_than_what_it_holds() -> None:
    values = np.sort(np.repeat([-1.0, 0.5, 2.0], 4))
    table = nearest_values(values, 16)
    assert len(table) == 16
    assert set(values) <= set(table)
