"""Faults are put into encoders or packages, and the comparison has to name their place."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geofix.mlpackage import MODEL, pack_mlpackage, read_mlpackage
from geofix_export.coreml import convert_to_coreml
from geofix_export.coreml_divergence import LayerDifference, compare_layers, first_divergence
from geofix_export.mil_program import parse_model
from tests.geofix_export.coreml_encoders import (
    MEAN,
    SCALE,
    images_of,
    make_encoder,
    package_of,
    spec_of,
)

pytestmark = pytest.mark.xdist_group("coreml")


def differences_of(name: str, package: bytes) -> list[LayerDifference]:
    return compare_layers(make_encoder(name), package, images_of(name))


def divergence(name: str, package: bytes) -> LayerDifference | None:
    return first_divergence(differences_of(name, package))


def package_with(name: str, change: Callable[[Any], None]) -> bytes:
    """Return a package of an encoder that was changed before."""
    other = copy.deepcopy(make_encoder(name))
    with torch.no_grad():
        change(other)
    return convert_to_coreml(other, spec_of(name), precision="fp16")


@pytest.mark.parametrize(
    ("name", "precision", "bound"),
    [
        ("town", "fp32", 1e-5),
        ("town", "fp16", 0.01),
        ("vit", "fp16", 0.02),
        ("dinov3_convnext", "fp16", 0.01),
        ("town", "int8", 0.03),
    ],
)
def test_without_a_fault_no_layer_diverges(name: str, precision: str, bound: float) -> None:
    differences = differences_of(name, package_of(name, precision))
    assert max(d.relative_error for d in differences) <= bound
    assert min(d.cosine for d in differences if "logsumexp" not in d.name) > 0.99
    assert first_divergence(differences) is None


@pytest.mark.parametrize("name", ["town", "vit", "dinov3_convnext"])
def test_nearly_all_layers_are_compared(name: str) -> None:
    names = [d.name for d in differences_of(name, package_of(name, "fp16"))]
    assert len(names) == len(set(names))
    assert names[0] == "backbone__sub"
    assert names[-1] == "output"
    modules = {
        part.replace(".", "_")
        for part, module in make_encoder(name).named_modules()
        if isinstance(module, (nn.Linear, nn.LayerNorm))
    }
    missing = {m for m in modules if not any(n.startswith(f"{m}__") for n in names)}
    assert missing == set()


def test_a_scale_that_is_off_by_two_is_found() -> None:
    def change(encoder: Any) -> None:
        encoder.backbone[1].norm.weight *= 2

    found = divergence("town", package_with("town", change))
    assert found is not None
    assert found.module == "backbone.1.norm"
    assert found.relative_error > 0.5


def test_a_scale_deep_in_a_transformer_is_found() -> None:
    def change(encoder: Any) -> None:
        encoder.backbone.model.encoder.layer[4].attention.v_proj.weight *= 2

    found = divergence("vit", package_with("vit", change))
    assert found is not None
    assert found.module == "backbone.model.encoder.layer.4.attention.v_proj"


def test_a_layer_scale_folded_into_weights_is_compared() -> None:
    def change(encoder: Any) -> None:
        encoder.backbone.model.encoder.layer[2].layer_scale2.lambda1 *= 2

    found = divergence("vit", package_with("vit", change))
    assert found is not None
    assert found.module.startswith("backbone.model.encoder.layer.2.")
    assert found.module.endswith(("mlp.fc2", "layer_scale2"))


def test_swapped_channels_are_found_at_the_first_layer_that_sees_them() -> None:
    def change(encoder: Any) -> None:
        stem = encoder.backbone[0][0].weight
        stem.copy_(stem.flip(1))  # red is taken for blue

    found = divergence("town", package_with("town", change))
    assert found is not None
    assert found.module == "backbone.0.1"  # the first convolution, with its norm folded in


class _NormalizedTwice(nn.Module):
    """What an app gets that normalizes though the encoder does."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        given: Tensor = self.encoder((images - torch.tensor(MEAN)) / torch.tensor(SCALE))
        return given


def test_normalization_applied_twice_is_found_at_the_input() -> None:
    twice = convert_to_coreml(
        _NormalizedTwice(make_encoder("town")), spec_of("town"), precision="fp16"
    )
    renamed = _rename(twice, "encoder_backbone", "backbone")
    found = divergence("town", renamed)
    assert found is not None
    assert found.name == "backbone__sub"
    assert found.relative_error > 0.5


def _rename(package: bytes, old: str, new: str) -> bytes:
    files = read_mlpackage(package)
    model = parse_model(files[MODEL])
    (function,) = model.mlProgram.functions.values()
    for operation in function.block_specializations[function.opset].operations:
        for output in operation.outputs:
            output.name = output.name.replace(old, new)
        for value in operation.inputs.values():
            for argument in value.arguments:
                argument.name = argument.name.replace(old, new) if argument.name else argument.name
    return pack_mlpackage({**files, MODEL: model.SerializeToString()})


def test_a_divergence_that_is_no_number_counts() -> None:
    nan = LayerDifference("a", "", float("nan"), 0.0)
    fine = LayerDifference("b", "", 0.01, 1.0)
    assert first_divergence([fine, nan]) is nan
    assert first_divergence([fine]) is None
    assert first_divergence([fine], tolerance=0.001) is fine


def test_layers_of_rounded_activations_have_the_names_of_the_encoder() -> None:
    differences = differences_of("town", package_of("town", "int8_activations"))
    by_name = {d.name: d for d in differences}
    assert by_name["projection__linear"].relative_error < 0.05
    assert {d.name for d in differences_of("town", package_of("town", "int8"))} == set(by_name)


def test_the_comparison_sees_every_image() -> None:
    images = images_of("town", 3)
    differences = compare_layers(make_encoder("town"), package_of("town", "fp32"), images)
    black = np.zeros_like(images)
    others = compare_layers(make_encoder("town"), package_of("town", "fp32"), black)
    assert [d.name for d in differences] == [d.name for d in others]
    assert differences != others
