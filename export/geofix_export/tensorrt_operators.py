"""The ONNX operators that TensorRT 10.3 and 11 both read, with the types of their main input.

From the lists that NVIDIA publishes with its parser, docs/operators.md of onnx/onnx-tensorrt. There
is none at hand for 10.3 itself; what stands here is in the list of 9.2, before it, and in that of
10.15, after it. int64 has been a type like others since 9.0, and is no longer narrowed to int32.
Control flow, random numbers and operators that ONNX has withdrawn are left out: no encoder needs
them.
"""

SOURCE = "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md"

_HALF = frozenset({"float32", "float16"})
_FLOAT = _HALF | {"bfloat16"}
_NUMBER = _FLOAT | {"int32", "int64"}
_ANY = _NUMBER | {"bool"}

OPERATORS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv
        ConvTranspose Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool
        GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid HardSwish Hardmax
        InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM
        LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization Pow PRelu QuantizeLinear
        Reciprocal Resize RNN Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh
        ThresholdedRelu
        """.split(),
        _FLOAT,
    ),
    **dict.fromkeys("GridSample NonMaxSuppression NonZero RoiAlign".split(), _HALF),
    **dict.fromkeys(
        """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual
        Max Mean Min Mod Mul Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
        ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu ScatterElements ScatterND
        Shrink Sign SpaceToDepth Sub Sum TopK
        """.split(),
        _NUMBER,
    ),
    **dict.fromkeys(
        """
        Concat Constant Expand EyeLike Flatten Gather GatherElements GatherND Identity OneHot
        Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
        """.split(),
        _ANY,
    ),
    **dict.fromkeys("Cast CastLike".split(), _ANY | {"uint8"}),
    **dict.fromkeys("And Not Or Xor".split(), frozenset({"bool"})),
    "ConstantOfShape": frozenset({"float32"}),
    "DequantizeLinear": frozenset({"int8", "int32"}),  # int32 has a rule of its own
}

# Their type is that of another input than the first, or of what they give.
MAIN_INPUT = {"Where": 1, "OneHot": 2}
TYPED_BY_OUTPUT = frozenset({"Constant", "ConstantOfShape", "EyeLike"})

# Which input has to be known when the engine is built.
CONSTANT_INPUT = {
    **{name: 1 for name in OPERATORS if name.startswith("Reduce")},
    "CumSum": 1,
    "OneHot": 1,
    "Squeeze": 1,
    "Unsqueeze": 1,
}
