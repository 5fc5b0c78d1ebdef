"""ONNX models in lower precision: fp16, and int8 with explicit Q/DQ.

int8 is that of ONNX Runtime's static quantizer: ranges of activations are learned from photos,
weights are quantized for each channel. CPUs want unsigned activations (U8S8), TensorRT signed and
symmetric ones (S8S8), so that these are two models.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from geofix_index.onnx_runtime import import_onnxruntime

# What costs time. Sums, norms and softmax stay in float: they cost little and lose much.
QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")
_BATCH = 4  # photos at a time: all that a network computes of them lies in memory at once
_NUM_COMPARED = 24  # photos that a node's cost is measured on

Images = npt.NDArray[np.uint8]


class CalibrationError(ValueError):
    """Photos that ranges cannot be learned from."""


def to_fp16(model: bytes) -> bytes:
    """Return a model that computes in fp16; its input and its output stay as they are."""
    import_onnxruntime()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    return bytes(converted.SerializeToString())


def to_int8(
    model: bytes,
    images: Images,
    *,
    symmetric: bool,
    keep: Sequence[str] = (),
    keep_costliest: int = 0,
) -> bytes:
    """Return a model that computes in int8 where that saves time.

    Args:
        model: ONNX, fp32.
        images: (N, H, W, 3) photos as the model takes them, which its ranges are learned from.
        symmetric: signed activations around zero, for TensorRT; else unsigned ones, for CPUs.
        keep: names of nodes that stay in fp32.
        keep_costliest: so many more stay in fp32, those that `node_costs` puts first.

    Raises:
        CalibrationError: no photos, all alike, or of another size than the model's.
        ValueError: a node to keep that the model lacks.
    """
    with Int8Quantizer(model, images, symmetric=symmetric) as quantizer:
        kept = list(keep)
        if keep_costliest:
            kept += list(node_costs(quantizer, images))[:keep_costliest]
        return quantizer.quantize(keep=kept)


class Int8Quantizer:
    """Quantizes an ONNX model in several ways, by ranges that are learned once."""

    def __init__(self, model: bytes, images: Images, *, symmetric: bool) -> None:
        """Take what `to_int8` takes; raise what it raises."""
        self.model = onnx.load_from_string(model)
        check_images(images, self.model)
        self._reader = _Reader(self.model.graph.input[0].name, images)
        self._symmetric = symmetric
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> "Int8Quantizer":
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that can be quantized, in the order of the graph."""
        return [node.name for node in self.model.graph.node if node.op_type in QUANTIZED_OPS]

    def quantize(self, *, keep: Sequence[str] = ()) -> bytes:
        """Return the model in int8, without the nodes to keep."""
        import_onnxruntime()
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        lacking = sorted(set(keep) - {node.name for node in self.model.graph.node})
        if lacking:
            raise ValueError(f"the model has no node {', '.join(lacking)} to keep in fp32")
        if set(keep) >= set(self.nodes):
            return bytes(self.model.SerializeToString())
        out = Path(self._folder.name) / "int8.onnx"
        copied = onnx.ModelProto()
        copied.CopyFrom(self.model)
        with _quiet():
            quantize_static(
                copied,
                out,
                self._reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED_OPS),
                per_channel=True,
                activation_type=QuantType.QInt8 if self._symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(keep),
                calibration_cache_path=Path(self._folder.name) / "ranges.json",
                extra_options={
                    "ActivationSymmetric": self._symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": not self._symmetric,  # TensorRT takes no int32 biases
                },
            )
        return self._with_exact_input(onnx.load(out), keep)

    def _with_exact_input(self, quantized: onnx.ModelProto, keep: Sequence[str]) -> bytes:
        """Let the kept nodes take what they took in fp32, also where another takes it rounded."""
        inputs = {node.name: list(node.input) for node in self.model.graph.node}
        for node in quantized.graph.node:
            if node.name in keep:
                node.input[:] = inputs[node.name]
        return bytes(quantized.SerializeToString())


def node_costs(quantizer: Int8Quantizer, images: Images) -> dict[str, float]:
    """Return what int8 costs at each node, the costliest first: 1 - cosine of the embeddings.

    Each node computes in int8 by itself, its output rounded, too, while all else stays in fp32.

    Args:
        quantizer: of the model.
        images: (N, H, W, 3); the first few are embedded.
    """
    few = images[:_NUM_COMPARED]
    exact = _embed(bytes(quantizer.model.SerializeToString()), few)
    whole = onnx.load_from_string(quantizer.quantize())
    cost = {}
    for name in quantizer.nodes:
        alone = _embed(_with_one_rounded(quantizer.model, whole, name), few)
        cost[name] = 1 - float((alone * exact).sum(axis=1).mean())
    return dict(sorted(cost.items(), key=lambda item: -item[1]))


def _with_one_rounded(exact: onnx.ModelProto, quantized: onnx.ModelProto, name: str) -> bytes:
    """Return a quantized model in which one node's input and output are rounded, and no others.

    Biases stay as they are: in 32 bits, they are as good as exact.
    """
    inputs = {node.name: list(node.input) for node in exact.graph.node}
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    rounded = next(list(node.output) for node in exact.graph.node if node.name == name)
    for node in model.graph.node:
        if node.name in inputs and node.name != name:
            pairs = zip(node.input, inputs[node.name], strict=True)
            node.input[:] = [taken if own in rounded else own for taken, own in pairs]
    there = {constant.name for constant in model.graph.initializer}
    there.update(name for node in model.graph.node for name in node.output)
    model.graph.initializer.extend(c for c in exact.graph.initializer if c.name not in there)
    return bytes(model.SerializeToString())


def _embed(model: bytes, images: Images) -> npt.NDArray[np.float32]:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def float_nodes(model: bytes) -> list[str]:
    """Return the nodes of an int8 model that stayed in fp32 though they could be quantized."""
    graph = onnx.load_from_string(model).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    return [
        node.name
        for node in graph.node
        if node.op_type in QUANTIZED_OPS
        and any(made_by.get(name) != "DequantizeLinear" for name in node.input[:2])
    ]


def check_images(images: Images, model: onnx.ModelProto) -> None:
    """Raise CalibrationError unless ranges can be learned from these photos."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    wanted = tuple(dim.dim_value for dim in shape[1:])
    if len(images) == 0:
        raise CalibrationError("there is no photo to learn ranges from, want some hundreds")
    if images.shape[1:] != wanted:
        raise CalibrationError(f"calibration photos are {images.shape[1:]}, want {wanted}")
    if len(images) > 1 and (images == images[0]).all():
        raise CalibrationError(
            f"all {len(images)} calibration photos are the same picture: ranges learned from it "
            "fit no other"
        )


class _Reader:
    """Gives photos to the quantizer, in batches."""

    def __init__(self, name: str, images: Images) -> None:
        starts = range(0, len(images), _BATCH)
        self._batches = ({name: images[at : at + _BATCH]} for at in starts)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch; None after the last."""
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice to pre-process off the screen: the exporter has done it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
