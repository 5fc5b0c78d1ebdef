"""A good model breaks no rule; for each rule there is a model that breaks it and no other."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from geofix.backends.onnx import OnnxEncoder
from geofix_export.tensorrt_operators import OPERATORS
from geofix_export.tensorrt_rules import RULES, check_for_tensorrt
from tests.geofix_export.broken_models import (
    BREAKS,
    Break,
    int8_between,
    quantized_operator,
    shifted_zero,
)
from tests.geofix_export.quantized_model import (
    CHANNELS,
    DIM,
    SPEC,
    insert_after,
    make,
    model_bytes,
    node,
    pair,
    quantized_model,
    replace_input,
    set_attribute,
    set_constant,
)


def broken(model: bytes) -> list[str]:
    return [violation.rule.name for violation in check_for_tensorrt(model)]


def test_a_model_as_tensorrt_wants_it_breaks_no_rule() -> None:
    model = quantized_model()
    onnx.checker.check_model(model, full_check=True)
    assert OnnxEncoder(model_bytes(model), SPEC).dim == DIM
    assert check_for_tensorrt(model_bytes(model)) == []


@pytest.mark.parametrize(("rule", "change"), BREAKS, ids=lambda v: getattr(v, "__name__", v))
def test_a_model_that_breaks_one_rule_is_told_so_and_no_more(rule: str, change: Break) -> None:
    model = quantized_model()
    change(model)
    assert set(broken(model_bytes(model))) == {rule}


def test_int8_that_another_operator_takes_is_no_pair() -> None:
    model = quantized_model()
    int8_between(model)
    assert set(broken(model_bytes(model))) == {"pairs"}


def test_operators_of_onnx_runtimes_own_format_are_named() -> None:
    model = quantized_model()
    quantized_operator(model)
    assert "dynamic-quantization" in broken(model_bytes(model))


def test_each_rule_is_broken_by_a_model_here_and_names_its_source() -> None:
    assert {rule.name for rule in RULES} == {name for name, _ in BREAKS}
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source.startswith("https://") for rule in RULES)
    assert all(rule.sentence.endswith(".") for rule in RULES)


def test_a_violation_says_the_rule_the_node_and_what_is_wrong() -> None:
    model = quantized_model()
    shifted_zero(model)
    first = check_for_tensorrt(model_bytes(model))[0]
    assert str(first) == (
        "zero-point: QuantizeLinear 'planes_q' -> planes_q: its zero point is [3] of int8. "
        "Quantization is symmetric: zero points are given, int8, and zero."
    )


@pytest.mark.parametrize("data", [b"", b"no model", model_bytes(quantized_model())[:-200]], ids=len)
def test_bytes_that_are_no_model_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable ONNX model"):
        check_for_tensorrt(data)


@pytest.mark.parametrize(("op_type", "axis"), [("Conv", 0), ("ConvTranspose", 1)])
def test_weights_have_their_scales_along_the_outputs_of_the_layer(op_type: str, axis: int) -> None:
    for given in (0, 1):
        model = quantized_model()
        node(model, "maps").op_type = op_type
        set_constant(model, "kernel", np.ones((3, 3, 3, 3), np.int8))
        set_constant(model, "bias", np.ones(3, np.float32))
        set_constant(model, "kernel_scales", np.ones(3, np.float32))
        set_constant(model, "kernel_zeros", np.zeros(3, np.int8))
        set_constant(model, "matrix", np.ones((3, DIM), np.int8))
        set_attribute(model, "kernel_dq", "axis", given)
        assert broken(model_bytes(model)) == ([] if given == axis else ["weight-axis"])


@pytest.mark.parametrize(("axis", "names"), [(1, []), (-1, []), (0, ["weight-axis"])])
def test_the_scales_of_a_matmul_go_along_its_columns(axis: int, names: list[str]) -> None:
    model = quantized_model()
    node(model, "embeddings").op_type = "MatMul"
    set_constant(model, "matrix", np.ones((CHANNELS, CHANNELS), np.int8))
    set_constant(model, "matrix_scales", np.ones(CHANNELS, np.float32))
    set_constant(model, "matrix_zeros", np.zeros(CHANNELS, np.int8))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = CHANNELS
    set_attribute(model, "matrix_dq", "axis", axis)
    assert broken(model_bytes(model)) == names


def test_weights_that_the_graph_quantizes_are_weights_too() -> None:
    model = quantized_model()
    set_constant(model, "kernel_floats", np.ones((CHANNELS, 3, 3, 3), np.float32))
    inputs = ["kernel_floats", "kernel_scales", "kernel_zeros"]
    insert_after(model, "planes_dq", make("QuantizeLinear", inputs, "kernel_q", axis=0))
    replace_input(model, "kernel_dq", "kernel", "kernel_q")
    assert broken(model_bytes(model)) == []


def test_a_pair_around_an_activation_may_lead_anywhere() -> None:
    model = quantized_model()
    insert_after(model, "maps", *pair("maps", "scale", "zero"))
    replace_input(model, "positive", "maps", "maps_dq")
    assert broken(model_bytes(model)) == []


def test_control_flow_and_random_numbers_are_not_in_the_list() -> None:
    assert not {"If", "Loop", "Scan", "RandomNormal", "DynamicQuantizeLinear"} & set(OPERATORS)


def test_constants_are_found_where_nodes_give_them() -> None:
    model = quantized_model()
    kept = [t for t in model.graph.initializer if t.name != "scale"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    value = numpy_helper.from_array(np.asarray(np.float32(2)), "value")
    model.graph.node.insert(0, make("Constant", [], "scale", value=value))
    assert broken(model_bytes(model)) == []
    set_attribute(model, "scale", "value", numpy_helper.from_array(np.asarray(np.float32(0)), "v"))
    assert set(broken(model_bytes(model))) == {"scale"}
