"""Lower precision, on the tiny run's encoder; and encoders that somebody broke."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import geofix
import geofix_export.targets
from geofix.input_spec import InputSpec
from geofix_export.coreml import convert_to_coreml
from geofix_export.encoder import export_encoder
from geofix_export.onnx_divergence import first_divergence
from geofix_export.onnx_precision import (
    CalibrationError,
    Int8Quantizer,
    float_nodes,
    node_costs,
    to_fp16,
    to_int8,
)
from geofix_export.parity import ParityError
from geofix_export.recipe import ExportRecipe, read_recipe
from geofix_export.targets import OnnxTarget
from geofix_export.tensorrt_rules import check_for_tensorrt
from geofix_train.artifact import EncoderArtifact, read_artifact, write_artifact
from geofix_train.photo_table import read_photo_table
from geofix_train.photos import read_photos
from tests.geofix_export.sabotage import normalized_twice, with_weights

pytestmark = pytest.mark.xdist_group("export")

Images = npt.NDArray[np.uint8]
LAX = {"min_mean_cosine": 0.0, "min_p01_cosine": 0.0, "max_recall_loss": 1.0, "min_same_cell": 0.0}


@pytest.fixture(scope="module")
def images(data: Path, artifact: EncoderArtifact) -> Images:
    """Return the photos of the data set."""
    table, _ = read_photo_table(data / "photos.parquet")
    return read_photos(table, artifact.input_spec)[0]


def embed(model: bytes, images: Images) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    embeddings = session.run(None, {"images": images})[0]
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))


def operators(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


def test_fp16_computes_in_fp16_and_gives_the_same(
    artifact: EncoderArtifact, images: Images
) -> None:
    half = to_fp16(artifact.data)
    assert len(half) < 0.65 * len(artifact.data)  # much of a tiny model is its graph
    kinds = {t.data_type for t in onnx.load_from_string(half).graph.initializer if len(t.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
    cosine = (embed(half, images) * embed(artifact.data, images)).sum(axis=1)
    assert cosine.min() >= 0.999


@pytest.mark.parametrize("symmetric", [False, True])
def test_int8_computes_in_int8_and_gives_nearly_the_same(
    artifact: EncoderArtifact, images: Images, symmetric: bool
) -> None:
    small = to_int8(artifact.data, images, symmetric=symmetric)
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(small)
    loaded = onnx.load_from_string(small)
    values = {t.name: numpy_helper.to_array(t) for t in loaded.graph.initializer}
    zeros = [values[n.input[2]] for n in loaded.graph.node if n.op_type == "QuantizeLinear"]
    assert {zero.dtype.name for zero in zeros} == ({"int8"} if symmetric else {"uint8"})
    if symmetric:
        assert all((zero == 0).all() for zero in zeros)
    cosine = (embed(small, images) * embed(artifact.data, images)).sum(axis=1)
    assert cosine.mean() >= 0.98


def test_int8_is_the_same_each_time(artifact: EncoderArtifact, images: Images) -> None:
    first, second = (to_int8(artifact.data, images, symmetric=False) for _ in range(2))
    assert first == second


def test_a_layer_that_is_kept_stays_in_fp32(artifact: EncoderArtifact, images: Images) -> None:
    model = onnx.load_from_string(artifact.data)
    kept = next(node for node in model.graph.node if node.op_type == "Conv")
    small = onnx.load_from_string(to_int8(artifact.data, images, symmetric=False, keep=[kept.name]))
    dequantized = {n.output[0] for n in small.graph.node if n.op_type == "DequantizeLinear"}
    layers = {n.name: n for n in small.graph.node if n.op_type == "Conv"}
    assert layers[kept.name].input[1] not in dequantized
    others = [n for name, n in layers.items() if name != kept.name]
    assert all(n.input[1] in dequantized for n in others)
    with pytest.raises(ValueError, match="no node node_x to keep"):
        to_int8(artifact.data, images, symmetric=False, keep=["node_x"])


def test_the_costliest_layers_stay_in_fp32_and_are_listed(
    finished_run: Path, images: Images, artifact: EncoderArtifact
) -> None:
    with Int8Quantizer(artifact.data, images, symmetric=False) as quantizer:
        costs = node_costs(quantizer, images)
    assert list(costs) == sorted(costs, key=lambda name: -costs[name])
    assert set(costs) == set(quantizer.nodes)
    small = to_int8(artifact.data, images, symmetric=False, keep_costliest=2)
    assert set(float_nodes(small)) == set(list(costs)[:2])
    exact = {n.name: n.input for n in onnx.load_from_string(artifact.data).graph.node}
    for node in onnx.load_from_string(small).graph.node:
        if node.name in float_nodes(small):
            assert node.input == exact[node.name]  # though others may take the same rounded
    changed = read_recipe("onnx-int8").to_json() | LAX | {"keep_costliest": 2}
    made = export_encoder(finished_run, ExportRecipe.from_dict(changed))
    assert made.provenance["kept_in_fp32"] == float_nodes(made.data)
    assert len(made.provenance["kept_in_fp32"]) == 2


def test_a_model_file_says_itself_what_it_is(finished_run: Path) -> None:
    recipe = ExportRecipe.from_dict(read_recipe("onnx-fp16").to_json() | LAX)
    made = export_encoder(finished_run, recipe)
    model = onnx.load_from_string(made.data)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (model.producer_name, model.producer_version) == ("geofix", geofix.__version__)
    assert (facts["geofix.target"], facts["geofix.precision"]) == ("onnx", "fp16")
    assert InputSpec.from_json(json.loads(facts["geofix.input_spec"])) == made.input_spec
    assert made.provenance["opset"] == model.opset_import[0].version


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda images: images[:0], "there is no photo to learn ranges from"),
        (lambda images: np.repeat(images[:1], 9, axis=0), "all 9 calibration photos are the same"),
        (
            lambda images: images[:, :-1],
            r"photos are \(23, 32, 3\), want \(24, 32, 3\)",
        ),
    ],
    ids=["none", "same", "size"],
)
def test_photos_that_ranges_cannot_be_learned_from_are_an_error(
    artifact: EncoderArtifact, images: Images, make: object, message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        to_int8(artifact.data, make(images), symmetric=False)  # type: ignore[operator]


@pytest.mark.parametrize(
    "name",
    ["onnx-fp16", "onnx-int8", "tensorrt-fp16", "tensorrt-int8", "coreml-fp16", "coreml-int8"],
)
def test_a_recipe_gives_an_encoder_with_its_parity_and_its_queries(
    finished_run: Path, name: str, tmp_path: Path
) -> None:
    recipe = ExportRecipe.from_dict(read_recipe(name).to_json() | LAX)
    made = export_encoder(finished_run, recipe)
    assert (made.target, made.precision) == (recipe.target, recipe.precision)
    assert made.parity is not None
    assert made.parity["mean_cosine"] > 0.98
    assert made.provenance["recipe"] == recipe.to_json()
    assert made.queries is not None
    write_artifact(made, tmp_path)
    read = read_artifact(tmp_path)
    assert read == made
    assert read.queries is not None
    np.testing.assert_array_equal(read.queries.embeddings, made.queries.embeddings)


def test_an_export_is_known_by_checkpoint_and_recipe(finished_run: Path) -> None:
    recipe = ExportRecipe.from_dict(read_recipe("onnx-fp16").to_json() | LAX)
    first, again = (export_encoder(finished_run, recipe) for _ in range(2))
    other = export_encoder(
        finished_run, ExportRecipe.from_dict(recipe.to_json() | {"min_same_cell": 0.1})
    )
    known = [made.provenance["source_sha256"] for made in (first, again, other)]
    assert known[0] == known[1] != known[2]


@pytest.mark.parametrize("change", ["scale", "swap", "twice"])
def test_a_sabotaged_encoder_fails_the_gate_which_names_the_place(
    artifact: EncoderArtifact,
    finished_run: Path,
    images: Images,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    if change == "twice":
        broken, place = normalized_twice(artifact.data)
    else:
        broken, place = with_weights(artifact.data, "Conv", change, number=2)
    found = first_divergence(artifact.data, broken, images[:8])
    assert found is not None
    assert found.node == place
    monkeypatch.setattr(OnnxTarget, "convert", lambda *_: broken)
    with pytest.raises(ParityError, match=f"first layer that diverges: {place} "):
        export_encoder(finished_run, "onnx-fp32")
    half, place = with_weights(to_fp16(artifact.data), "Conv", "swap", number=1)
    found = first_divergence(artifact.data, half, images[:8])
    assert found is not None
    assert found.node == place


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_is_made_for_tensorrt_keeps_its_rules(
    artifact: EncoderArtifact, images: Images, precision: str
) -> None:
    made = (
        to_fp16(artifact.data)
        if precision == "fp16"
        else to_int8(artifact.data, images, symmetric=True)
    )
    assert check_for_tensorrt(made) == []


def test_what_breaks_the_rules_of_tensorrt_is_not_shipped(
    artifact: EncoderArtifact,
    finished_run: Path,
    images: Images,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsigned = to_int8(artifact.data, images, symmetric=False)
    monkeypatch.setattr(OnnxTarget, "convert", lambda *_: unsigned)
    with pytest.raises(ParityError, match="TensorRT would refuse this encoder: "):
        export_encoder(finished_run, "tensorrt-int8")


def test_a_sabotaged_core_ml_encoder_fails_the_gate_which_names_the_place(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = convert_to_coreml

    def broken(encoder: nn.Module, *arguments: Any, **named: Any) -> bytes:
        other = copy.deepcopy(encoder)
        with torch.no_grad():
            other.backbone[1].conv.weight.mul_(-2)  # type: ignore[index, union-attr]
        return real(other, *arguments, **named)

    monkeypatch.setattr(geofix_export.targets, "convert_to_coreml", broken)
    with pytest.raises(ParityError, match=r"first layer that diverges: .* \(backbone\.1"):
        export_encoder(finished_run, "coreml-fp16")
