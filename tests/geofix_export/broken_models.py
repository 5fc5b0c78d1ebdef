"""Changes of `quantized_model` that each break a rule, and the names of the rules."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from tests.geofix_export.quantized_model import (
    CHANNELS,
    DIM,
    insert_after,
    make,
    node,
    replace_input,
    set_attribute,
    set_constant,
)

Break = Callable[[ModelProto], None]


def old_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 12
    for name in ("kernel", "matrix"):  # 12 knows no scales for each channel
        del node(model, f"{name}_dq").attribute[:]
        set_constant(model, f"{name}_scales", np.float32(1))
        set_constant(model, f"{name}_zeros", np.int8(0))


def new_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 21


def weights_elsewhere(model: ModelProto) -> None:
    (bias,) = (t for t in model.graph.initializer if t.name == "bias")
    onnx.external_data_helper.set_external_data(bias, "weights.bin")
    bias.ClearField("raw_data")


def second_input(model: ModelProto) -> None:
    info = helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1, CHANNELS])
    model.graph.input.append(info)
    insert_after(model, "flat", make("Add", ["flat", "offset"], "moved"))
    replace_input(model, "flat_q", "flat", "moved")


def int32_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


def int64_output(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    node(model, "embeddings").output[0] = "values"
    model.graph.node.append(make("Cast", ["values"], "embeddings", to=TensorProto.INT64))


def free_height(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def unlisted_operator(model: ModelProto) -> None:
    insert_after(model, "maps", make("Bernoulli", ["maps"], "drawn"))
    replace_input(model, "positive", "maps", "drawn")


def other_domain(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node(model, "positive").op_type = "Gelu"
    node(model, "positive").domain = "com.microsoft"
    infos = [helper.make_tensor_value_info("positive", TensorProto.FLOAT, ["n", CHANNELS, 10, 14])]
    model.graph.value_info.extend(infos)


def dynamic_quantization(model: ModelProto) -> None:
    outputs = ["drop_q", "drop_scale", "drop_zero"]
    added = helper.make_node("DynamicQuantizeLinear", ["maps"], outputs, name="drop")
    insert_after(model, "maps", added)


def quantized_operator(model: ModelProto) -> None:
    inputs = ["flat_q", "scale", "zero", "matrix", "scale", "zero", "scale", "zero"]
    insert_after(model, "flat_dq", make("QLinearMatMul", inputs, "product"))
    insert_after(model, "product", make("DequantizeLinear", ["product", "scale", "zero"], "p_dq"))


def clip_of_integers(model: ModelProto) -> None:
    insert_after(
        model,
        "flat",
        make("Cast", ["flat"], "whole", to=TensorProto.INT32),
        make("Clip", ["whole"], "clipped"),
        make("Cast", ["clipped"], "clipped_floats", to=TensorProto.FLOAT),
    )
    replace_input(model, "flat_q", "flat", "clipped_floats")


def where_of_int16(model: ModelProto) -> None:
    set_constant(model, "yes", np.ones((1, 1), bool))
    insert_after(
        model,
        "flat",
        make("Cast", ["flat"], "short", to=TensorProto.INT16),
        make("Where", ["yes", "short", "short"], "chosen"),
    )


def float64_inside(model: ModelProto) -> None:
    set_attribute(model, "floats", "to", TensorProto.DOUBLE)
    insert_after(model, "floats", make("Cast", ["floats"], "single", to=TensorProto.FLOAT))
    replace_input(model, "planes", "floats", "single")


def shape_of_uint8(model: ModelProto) -> None:
    model.graph.node.insert(0, make("Shape", ["images"], "size"))


def uint8_inside(model: ModelProto) -> None:
    insert_after(
        model,
        "floats",
        make("Cast", ["floats"], "again", to=TensorProto.UINT8),
        make("Cast", ["again"], "floats_again", to=TensorProto.FLOAT),
    )


def half_and_single(model: ModelProto) -> None:
    set_constant(model, "half", np.ones(1, np.float16))
    insert_after(model, "flat", make("Mul", ["flat", "half"], "halved"))
    replace_input(model, "flat_q", "flat", "halved")
    infos = [helper.make_tensor_value_info("halved", TensorProto.FLOAT, ["n", CHANNELS])]
    model.graph.value_info.extend(infos)


def computed_axes(model: ModelProto) -> None:
    set_constant(model, "axes", np.array([1]))
    insert_after(
        model,
        "flat",
        make("Identity", ["axes"], "same_axes"),
        make("ReduceMean", ["flat", "same_axes"], "middle", keepdims=1),
    )


def antialiased(model: ModelProto) -> None:
    set_constant(model, "factors", np.array([1, 1, 2, 2], np.float32))
    resize = make("Resize", ["maps", "", "factors"], "larger", mode="linear", antialias=1)
    insert_after(model, "maps", resize)


def cubic(model: ModelProto) -> None:
    antialiased(model)
    set_attribute(model, "larger", "antialias", 0)
    set_attribute(model, "larger", "mode", "cubic")


def dilated_pool(model: ModelProto) -> None:
    pool = make("MaxPool", ["maps"], "pooled", kernel_shape=[2, 2], dilations=[2, 2])
    insert_after(model, "maps", pool)


def two_outputs(model: ModelProto) -> None:
    set_constant(model, "gain", np.ones(CHANNELS, np.float32))
    outputs = ["normal", "normal_mean"]
    insert_after(model, "flat", helper.make_node("LayerNormalization", ["flat", "gain"], outputs))


def added_scatter(model: ModelProto) -> None:
    set_constant(model, "at", np.array([[0]]))
    set_constant(model, "update", np.ones((1, CHANNELS), np.float32))
    scatter = make("ScatterND", ["flat", "at", "update"], "scattered", reduction="add")
    insert_after(model, "flat", scatter)


def shifted_zero(model: ModelProto) -> None:
    set_constant(model, "zero", np.int8(3))


def uint8_zero(model: ModelProto) -> None:
    set_constant(model, "zero", np.uint8(0))


def no_zero(model: ModelProto) -> None:
    for name in ("flat_q", "flat_dq"):
        del node(model, name).input[2]


def computed_zero(model: ModelProto) -> None:
    insert_after(model, "flat", make("Identity", ["zero"], "same_zero"))
    for name in ("flat_q", "flat_dq"):
        replace_input(model, name, "zero", "same_zero")


def negative_scale(model: ModelProto) -> None:
    set_constant(model, "kernel_scales", np.array([0.1, 0.1, -0.1, 0.1], np.float32))


def infinite_scale(model: ModelProto) -> None:
    set_constant(model, "scale", np.float32(np.inf))


def computed_scale(model: ModelProto) -> None:
    insert_after(model, "flat", make("ReduceMax", ["flat"], "largest", keepdims=0))
    for name in ("flat_q", "flat_dq"):
        replace_input(model, name, "scale", "largest")


def int32_bias(model: ModelProto) -> None:
    set_constant(model, "bias_q", np.ones(CHANNELS, np.int32))
    set_constant(model, "bias_zero", np.int32(0))
    bias = make("DequantizeLinear", ["bias_q", "scale", "bias_zero"], "bias_dq")
    insert_after(model, "kernel_dq", bias)
    replace_input(model, "maps", "bias", "bias_dq")


def int8_between(model: ModelProto) -> None:
    insert_after(model, "flat_q", make("Identity", ["flat_q"], "same"))
    replace_input(model, "flat_dq", "flat_q", "same")


def quantized_for_nothing(model: ModelProto) -> None:
    insert_after(model, "maps", make("QuantizeLinear", ["maps", "scale", "zero"], "maps_q"))


def scales_for_channels(model: ModelProto) -> None:
    for name in ("planes_q", "planes_dq"):
        set_attribute(model, name, "axis", 1)
        replace_input(model, name, "scale", "plane_scales")
        replace_input(model, name, "zero", "plane_zeros")
    set_constant(model, "plane_scales", np.ones(3, np.float32))
    set_constant(model, "plane_zeros", np.zeros(3, np.int8))


def scales_along_inputs(model: ModelProto) -> None:
    set_constant(model, "kernel_scales", np.ones(3, np.float32))
    set_constant(model, "kernel_zeros", np.zeros(3, np.int8))
    set_attribute(model, "kernel_dq", "axis", 1)


def scales_of_the_other_layout(model: ModelProto) -> None:
    set_attribute(model, "embeddings", "transB", 1)
    set_constant(model, "matrix", np.ones((DIM, CHANNELS), np.int8))
    set_constant(model, "matrix_scales", np.ones(CHANNELS, np.float32))
    set_constant(model, "matrix_zeros", np.zeros(CHANNELS, np.int8))


def only_weights_quantized(model: ModelProto) -> None:
    replace_input(model, "embeddings", "flat_dq", "flat")


def weights_for_another_operator(model: ModelProto) -> None:
    set_constant(model, "gain", np.ones((1, CHANNELS), np.int8))
    insert_after(
        model,
        "flat",
        make("DequantizeLinear", ["gain", "scale", "zero"], "gain_dq"),
        make("Mul", ["flat", "gain_dq"], "gained"),
    )


BREAKS: list[tuple[str, Break]] = [
    ("opset", old_opset),
    ("opset", new_opset),
    ("self-contained", weights_elsewhere),
    ("network-input", second_input),
    ("network-input", int32_input),
    ("network-input", int64_output),
    ("dynamic-axes", free_height),
    ("operator", unlisted_operator),
    ("operator", other_domain),
    ("dynamic-quantization", dynamic_quantization),
    ("type", clip_of_integers),
    ("type", where_of_int16),
    ("float64", float64_inside),
    ("uint8", shape_of_uint8),
    ("uint8", uint8_inside),
    ("float-types", half_and_single),
    ("constant-input", computed_axes),
    ("limits", antialiased),
    ("limits", cubic),
    ("limits", dilated_pool),
    ("limits", two_outputs),
    ("limits", added_scatter),
    ("zero-point", shifted_zero),
    ("zero-point", uint8_zero),
    ("zero-point", no_zero),
    ("zero-point", computed_zero),
    ("scale", negative_scale),
    ("scale", infinite_scale),
    ("scale", computed_scale),
    ("int8-data", int32_bias),
    ("pairs", quantized_for_nothing),
    ("activation-scale", scales_for_channels),
    ("weight-axis", scales_along_inputs),
    ("weight-axis", scales_of_the_other_layout),
    ("fused", only_weights_quantized),
    ("fused", weights_for_another_operator),
]
