"""The evaluator against torch, operation by operation, and against damaged programs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix.input_spec import InputSpec
from geofix.mlpackage import MODEL, WEIGHTS, MlpackageError, pack_mlpackage, read_mlpackage
from geofix_export.coreml import convert_to_coreml
from geofix_export.mil_evaluator import evaluate
from geofix_export.mil_operators import unpack_bits
from geofix_export.mil_program import MilError, parse_model, read_program
from tests.geofix_export.coreml_encoders import images_of, package_of

pytestmark = pytest.mark.xdist_group("coreml")

SPEC = InputSpec(width=12, height=8)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)


class _Computes(nn.Module):
    """An encoder that brings pixels to -1 to 1 and computes one thing."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.float() / 127.5 - 1).permute(0, 3, 1, 2)
        return self.compute(pixels).flatten(1)


WEIGHT = torch.randn(6, 3, 3, 3, generator=torch.manual_seed(0))
GROUPED = torch.randn(3, 1, 5, 3, generator=torch.manual_seed(1))
COMPUTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda x: functional.conv2d(x, WEIGHT, stride=2, padding=1),
    "dilation": lambda x: functional.conv2d(x, WEIGHT, dilation=2, padding=(1, 3)),
    "groups": lambda x: functional.conv2d(x, GROUPED, groups=3),
    "odd padding": lambda x: functional.conv2d(functional.pad(x, (0, 1, 2, 0)), WEIGHT),
    "average pooling": lambda x: functional.avg_pool2d(x, 2),
    "largest of pools": lambda x: functional.max_pool2d(x, (2, 3), (2, 1)),
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "tanh gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "root": lambda x: torch.sqrt(x + 2),
    "power": lambda x: (x + 2).pow(2.5),
    "clamp": lambda x: x.clamp(-0.25, 0.5),
    "softmax": lambda x: x.softmax(dim=3),
    "log of sums": lambda x: x.logsumexp(dim=2),
    "mean": lambda x: x.mean(dim=(2, 3)),
    "layer norm": lambda x: functional.layer_norm(x, (8, 12)),
    "every second": lambda x: x[:, :2, 1::2, -5:],
    "split": lambda x: torch.cat(torch.functional.split(x, [4, 8], 3)[::-1], dim=3),
    "turned product": lambda x: x @ x.transpose(2, 3),
    "concatenation": lambda x: torch.cat([x, -x], dim=2),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, -x),
    "attention with a scale": lambda x: functional.scaled_dot_product_attention(x, x, -x, scale=2),
    "maximum": lambda x: torch.maximum(x, 0.3 - x),
}


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_operations_compute_what_torch_computes(name: str) -> None:
    encoder = _Computes(COMPUTATIONS[name])
    package = convert_to_coreml(encoder, SPEC, precision="fp32")
    got = evaluate(package, IMAGES, rounding="float32").embeddings
    np.testing.assert_allclose(got, encoder(torch.from_numpy(IMAGES)).numpy(), atol=2e-5)


def test_rounding_to_16_bits_is_that_of_each_step() -> None:
    encoder = _Computes(lambda x: (x + 100) - 100)
    package = convert_to_coreml(encoder, SPEC, precision="fp16")
    exact = evaluate(package, IMAGES, rounding="float32").embeddings
    rounded = evaluate(package, IMAGES, rounding="float16").embeddings
    assert np.abs(exact - rounded).max() > 0.01  # 16 bits near 100 are 1/16 apart
    assert np.abs(exact - rounded).max() <= 1 / 32 + 1e-3
    steps = rounded * 16
    np.testing.assert_array_equal(steps, np.round(steps))


def test_what_16_bits_cannot_hold_becomes_infinite() -> None:
    package = convert_to_coreml(_Computes(lambda x: (x + 300) ** 2), SPEC, precision="fp16")
    assert np.isinf(evaluate(package, IMAGES).embeddings).all()
    assert np.isfinite(evaluate(package, IMAGES, rounding="float32").embeddings).all()


def test_intermediates_have_the_names_of_layers_and_a_row_for_each_image() -> None:
    evaluation = evaluate(package_of("town", "fp16"), images_of("town", 3))
    assert evaluation.intermediates["aggregator_scores_0__conv2d"].shape == (3, 128, 6, 8)
    assert evaluation.intermediates["projection__linear"].shape == (3, 128)
    np.testing.assert_array_equal(evaluation.intermediates["embeddings"], evaluation.embeddings)


def changed(package: bytes, change: Callable[[Any], None]) -> bytes:
    """Return a package with another protobuf; `change` is given its operations."""
    files = read_mlpackage(package)
    model = parse_model(files[MODEL])
    (function,) = model.mlProgram.functions.values()
    change(function.block_specializations[function.opset].operations)
    return pack_mlpackage({**files, MODEL: model.SerializeToString()})


def test_an_unknown_operation_is_an_error_that_names_it_and_its_layer() -> None:
    def change(operations: Any) -> None:
        next(op for op in operations if op.type == "relu").type = "warp"

    with pytest.raises(MilError, match=r"'warp' at backbone_0_2__relu is not understood"):
        evaluate(changed(package_of("town", "fp16"), change), images_of("town"))


def test_a_result_of_another_shape_than_declared_is_an_error() -> None:
    def change(operations: Any) -> None:
        relu = next(op for op in operations if op.type == "relu")
        relu.outputs[0].type.tensorType.dimensions[1].constant.size += 1

    with pytest.raises(MilError, match=r"relu at backbone_0_2__relu gives \(1, 64, 12, 16\), the"):
        evaluate(changed(package_of("town", "fp16"), change), images_of("town"))


def test_a_value_that_is_not_there_is_an_error_that_names_the_layer() -> None:
    def change(operations: Any) -> None:
        relu = next(op for op in operations if op.type == "relu")
        relu.inputs["x"].arguments[0].name = "nowhere"

    with pytest.raises(MilError, match=r"relu at backbone_0_2__relu .*'nowhere'"):
        evaluate(changed(package_of("town", "fp16"), change), images_of("town"))


@pytest.mark.parametrize("keep", [0, 64, 5000])
def test_weights_that_are_cut_off_are_an_error(keep: int) -> None:
    files = read_mlpackage(package_of("town", "fp16"))
    cut = pack_mlpackage({**files, WEIGHTS: files[WEIGHTS][:keep]})
    with pytest.raises(MilError, match=r"the weights (end before|have no tensor at) byte \d+"):
        read_program(cut)


def test_bytes_that_are_no_package_are_an_error() -> None:
    with pytest.raises(MlpackageError, match="no readable ZIP"):
        evaluate(b"model", images_of("town"))


@pytest.mark.parametrize(
    "images",
    [images_of("town")[:, 1:], images_of("town").astype(np.float32), images_of("town")[..., :1]],
)
def test_images_of_another_kind_are_refused(images: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"want uint8 of shape \(B, 96, 128, 3\)"):
        evaluate(package_of("town", "fp16"), images)


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(ValueError, match="rounding is 'bfloat16', want one of float16, float32"):
        evaluate(package_of("town", "fp16"), images_of("town"), rounding="bfloat16")


@pytest.mark.parametrize("num_bits", [1, 2, 4, 6, 8])
def test_packed_numbers_are_unpacked(num_bits: int) -> None:
    numbers = np.random.default_rng(num_bits).integers(0, 1 << num_bits, 37)
    whole = sum(int(number) << (num_bits * at) for at, number in enumerate(numbers))
    packed = np.frombuffer(whole.to_bytes(37 * num_bits // 8 + 1, "little"), np.uint8)
    np.testing.assert_array_equal(unpack_bits(packed, num_bits, 37), numbers)
