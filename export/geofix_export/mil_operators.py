"""What MIL's operations compute, in torch and in float32.

Only what encoders of ours are made of, as documented for coremltools 9.0. Numbers stay float32
between operations here; rounding to what a program declares is the evaluator's part. Weights are
decompressed as their operations say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from geofix_export.mil_program import MilError, TensorType

Argument = Tensor | str | Sequence[Tensor]
Operator = Callable[["Arguments"], Tensor | Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class Arguments:
    """What one operation takes."""

    values: Mapping[str, Any]
    output: TensorType

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def tensor(self, name: str) -> Tensor:
        """Return an argument; numbers that are not whole are float32."""
        value: Tensor = self.values[name]
        return value.float() if value.is_floating_point() else value

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """Return a list of whole numbers; a single one counts as a list of one."""
        if name not in self.values:
            return list(default)
        return [int(number) for number in self.values[name].reshape(-1)]

    def number(self, name: str, default: float) -> float:
        """Return a single number."""
        return float(self.values[name]) if name in self.values else default

    def flag(self, name: str) -> bool:
        """Return a truth value; False where it is absent."""
        return bool(self.values[name]) if name in self.values else False

    def text(self, name: str, default: str) -> str:
        """Return a string."""
        return str(self.values.get(name, default))


def _unary(compute: Callable[[Tensor], Tensor]) -> Operator:
    return lambda given: compute(given.tensor("x"))


def _binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda given: compute(given.tensor("x"), given.tensor("y"))


def _reduction(compute: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(given: Arguments) -> Tensor:
        x = given.tensor("x")
        return compute(x, given.ints("axes", range(x.ndim)), given.flag("keep_dims"))

    return reduce


def _cast(given: Arguments) -> Tensor:
    x = given.tensor("x")
    kind = given.text("dtype", "fp32")
    return x.float() if kind.startswith("fp") else x.to(getattr(torch, kind))


def _conv(given: Arguments) -> Tensor:
    x, weight = given.tensor("x"), given.tensor("weight")
    num_axes = x.ndim - 2
    strides = given.ints("strides", [1] * num_axes)
    dilations = given.ints("dilations", [1] * num_axes)
    kind = given.text("pad_type", "valid")
    if kind == "same":
        pads = _same_padding(x.shape[2:], weight.shape[2:], strides, dilations)
    elif kind in ("valid", "custom"):
        pads = given.ints("pad") if kind == "custom" else [0] * (2 * num_axes)
    else:
        raise MilError(f"conv: padding {kind!r} is not understood")
    edges = [pads[2 * axis + end] for axis in reversed(range(num_axes)) for end in (0, 1)]
    bias = given.tensor("bias") if "bias" in given else None
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[num_axes]
    groups = int(given.number("groups", 1))
    return convolve(functional.pad(x, edges), weight, bias, strides, 0, dilations, groups)


def _same_padding(
    sizes: Sequence[int], kernel: Sequence[int], strides: list[int], dilations: list[int]
) -> list[int]:
    pads = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        pads += [total // 2, total - total // 2]
    return pads


def _linear(given: Arguments) -> Tensor:
    bias = given.tensor("bias") if "bias" in given else None
    return functional.linear(given.tensor("x"), given.tensor("weight"), bias)


def _matmul(given: Arguments) -> Tensor:
    x, y = given.tensor("x"), given.tensor("y")
    x = x.transpose(-1, -2) if given.flag("transpose_x") else x
    return x @ (y.transpose(-1, -2) if given.flag("transpose_y") else y)


def _layer_norm(given: Arguments) -> Tensor:
    x = given.tensor("x")
    axes = given.ints("axes", range(x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    normed = (x - mean) / torch.sqrt(variance + given.number("epsilon", 1e-5))
    normed_axes = {axis % x.ndim for axis in axes}
    shape = [size if axis in normed_axes else 1 for axis, size in enumerate(x.shape)]
    if "gamma" in given:
        normed = normed * given.tensor("gamma").reshape(shape)
    return normed + given.tensor("beta").reshape(shape) if "beta" in given else normed


def _batch_norm(given: Arguments) -> Tensor:
    gamma = given.tensor("gamma") if "gamma" in given else None
    beta = given.tensor("beta") if "beta" in given else None
    return functional.batch_norm(
        given.tensor("x"), given.tensor("mean"), given.tensor("variance"), gamma, beta,
        eps=given.number("epsilon", 1e-5),
    )  # fmt: skip


def _gelu(given: Arguments) -> Tensor:
    mode = given.text("mode", "EXACT")
    if mode != "EXACT":
        raise MilError(f"gelu: mode {mode!r} is not understood")
    return functional.gelu(given.tensor("x"))


def _reshape(given: Arguments) -> Tensor:
    # Of what `shape` says, -1 and 0 have become numbers in what is declared.
    return given.tensor("x").reshape(given.output.shape)


def _slice_by_index(given: Arguments) -> Tensor:
    x = given.tensor("x")
    begin, end = given.ints("begin"), given.ints("end")
    stride = given.ints("stride", [1] * x.ndim)
    masks = {name: given.ints(name, [0] * x.ndim) for name in ("begin_mask", "end_mask")}
    squeeze = given.ints("squeeze_mask", [0] * x.ndim)
    parts: list[slice | int] = []
    for axis in range(x.ndim):
        if stride[axis] < 1:
            raise MilError(f"slice_by_index: stride {stride[axis]} is not understood")
        first = None if masks["begin_mask"][axis] else begin[axis]
        last = None if masks["end_mask"][axis] else end[axis]
        parts.append(begin[axis] if squeeze[axis] else slice(first, last, stride[axis]))
    return x[tuple(parts)]


def _split(given: Arguments) -> Sequence[Tensor]:
    x, axis = given.tensor("x"), int(given.number("axis", 0))
    num = int(given.number("num_splits", 1))
    sizes = given.ints("split_sizes", [x.shape[axis] // num] * num)
    parts: Sequence[Tensor] = torch.functional.split(x, sizes, axis)
    return parts


def _concat(given: Arguments) -> Tensor:
    if given.flag("interleave"):
        raise MilError("concat: interleave is not understood")
    values = [v.float() if v.is_floating_point() else v for v in given.values["values"]]
    return torch.cat(values, int(given.number("axis", 0)))


def _pad(given: Arguments) -> Tensor:
    if given.text("mode", "constant") != "constant":
        raise MilError(f"pad: mode {given.text('mode', '')!r} is not understood")
    pads = given.ints("pad")
    edges = [pads[at + end] for at in range(len(pads) - 2, -1, -2) for end in (0, 1)]
    return functional.pad(given.tensor("x"), edges, value=given.number("constant_val", 0))


def _pool(compute: Callable[..., Tensor]) -> Operator:
    def pool(given: Arguments) -> Tensor:
        pads = any(given.ints("pad")) or given.text("pad_type", "valid").startswith("same")
        if pads or given.flag("ceil_mode"):
            raise MilError("pooling with padding or ceil_mode is not understood")
        return compute(given.tensor("x"), given.ints("kernel_sizes"), given.ints("strides"))

    return pool


def _along(vector: Tensor, ndim: int, axis: int) -> Tensor:
    """Return a vector that broadcasts along one axis; a scalar stays as it is."""
    if vector.ndim == 0:
        return vector
    return vector.reshape([-1 if at == axis % ndim else 1 for at in range(ndim)])


def _quantize(given: Arguments) -> Tensor:
    x, axis = given.tensor("input"), int(given.number("axis", 0))
    scale = _along(given.tensor("scale"), x.ndim, axis)
    zero = _along(given.tensor("zero_point"), x.ndim, axis).float() if "zero_point" in given else 0
    kind = getattr(torch, given.text("output_dtype", "int8"))
    bounds = torch.iinfo(kind)
    return torch.clamp(torch.round(x / scale) + zero, bounds.min, bounds.max).to(kind)


def _dequantize(given: Arguments) -> Tensor:
    x, axis = given.tensor("input").float(), int(given.number("axis", 0))
    zero = _along(given.tensor("zero_point"), x.ndim, axis).float() if "zero_point" in given else 0
    return _along(given.tensor("scale"), x.ndim, axis) * (x - zero)


def _affine_weights(given: Arguments) -> Tensor:
    data, axis = given.tensor("quantized_data").float(), int(given.number("axis", 0))
    zero = _along(given.tensor("zero_point"), data.ndim, axis).float()
    return _along(given.tensor("scale"), data.ndim, axis) * (data - zero)


def _table_weights(given: Arguments) -> Tensor:
    """Look weights up in a table; positions in it are packed."""
    table, shape = given.tensor("lut"), given.ints("shape")
    packed: npt.NDArray[np.uint8] = given.values["indices"].numpy()
    found = unpack_bits(packed, len(table).bit_length() - 1, int(np.prod(shape)))
    return table[torch.from_numpy(found).long()].reshape(shape)


def unpack_bits(packed: npt.NDArray[np.uint8], num_bits: int, count: int) -> npt.NDArray[np.uint8]:
    """Return `count` numbers that are packed without gaps, lowest bits first."""
    bits = np.unpackbits(packed, bitorder="little")[: count * num_bits].reshape(count, num_bits)
    return np.asarray((bits << np.arange(num_bits, dtype=np.uint8)).sum(axis=1), np.uint8)


OPERATORS: dict[str, Operator] = {
    "add": _binary(torch.add),
    "avg_pool": _pool(functional.avg_pool2d),
    "batch_norm": _batch_norm,
    "cast": _cast,
    "clip": lambda given: given.tensor("x").clamp(
        given.number("alpha", 0), given.number("beta", 1)
    ),
    "concat": _concat,
    "constexpr_affine_dequantize": _affine_weights,
    "constexpr_lut_to_dense": _table_weights,
    "conv": _conv,
    "dequantize": _dequantize,
    "exp": _unary(torch.exp),
    "expand_dims": _reshape,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _pool(functional.max_pool2d),
    "maximum": _binary(torch.maximum),
    "mul": _binary(torch.mul),
    "pad": _pad,
    "pow": _binary(torch.pow),
    "quantize": _quantize,
    "real_div": _binary(torch.div),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "reduce_log_sum_exp": _reduction(torch.logsumexp),
    "reduce_mean": _reduction(torch.mean),
    "reduce_sum": _reduction(torch.sum),
    "relu": _unary(torch.relu),
    "reshape": _reshape,
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(functional.silu),
    "slice_by_index": _slice_by_index,
    "softmax": lambda given: given.tensor("x").softmax(int(given.number("axis", -1))),
    "split": _split,
    "sqrt": _unary(torch.sqrt),
    "squeeze": _reshape,
    "sub": _binary(torch.sub),
    "tanh": _unary(torch.tanh),
    "tile": lambda given: given.tensor("x").repeat(given.ints("reps")),
    "transpose": lambda given: given.tensor("x").permute(given.ints("perm")),
}
