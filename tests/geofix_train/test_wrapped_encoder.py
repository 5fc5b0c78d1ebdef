"""What a wrapped encoder keeps of the model, and which models cannot be wrapped."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from geofix.input_spec import InputSpec
from geofix_train.wrapped_encoder import EncoderError, wrap_encoder
from tests.tiny_pack import HEIGHT, WIDTH, make_onnx, projection

SPEC = InputSpec(width=WIDTH, height=HEIGHT)
WEIGHTS = projection(np.random.default_rng(0), dim=24)


def test_the_resize_rule_goes_along_with_the_encoder() -> None:
    model = onnx.load_from_string(make_onnx(WEIGHTS))
    _, inside = wrap_encoder(model, replace(SPEC, resize="crop"), projection=None)
    assert (inside.width, inside.height, inside.resize) == (WIDTH, HEIGHT, "crop")


def test_an_old_opset_is_refused() -> None:
    model = onnx.load_from_string(make_onnx(WEIGHTS))
    model.opset_import[0].version = 12
    with pytest.raises(EncoderError, match="the model has opset 12, want 13 or newer"):
        wrap_encoder(model, SPEC, projection=None)


def test_a_model_that_takes_more_than_images_is_refused() -> None:
    model = onnx.load_from_string(make_onnx(WEIGHTS))
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(EncoderError, match="the model has 'images', 'mask', want this one alone"):
        wrap_encoder(model, SPEC, projection=None)


def test_a_model_that_is_not_valid_is_an_error_of_one_line() -> None:
    model = onnx.load_from_string(make_onnx(WEIGHTS))
    model.graph.node[0].op_type = "Nothing"
    with pytest.raises(EncoderError, match=r"cannot be wrapped .*: .*Nothing") as e:
        wrap_encoder(model, SPEC, projection=None)
    assert "\n" not in str(e.value)


def test_functions_of_a_model_and_its_field_of_view_go_along() -> None:
    model = onnx.load_from_string(make_onnx(WEIGHTS))
    body = [helper.make_node("Identity", ["a"], ["b"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("mine", "Same", ["a"], ["b"], body, opset))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    wrapped, outside = wrap_encoder(model, replace(SPEC, hfov_deg=70.0), projection=None)
    assert [function.name for function in wrapped.functions] == ["Same"]
    assert outside.hfov_deg == 70.0
