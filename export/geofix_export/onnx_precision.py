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

# What costs time. Sums, norms and softmax stay in float: they cost little and lose much.
QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")
_BATCH = 32

Images = npt.NDArray[np.uint8]


class CalibrationError(ValueError):
    """Photos that ranges cannot be learned from."""


def to_fp16(model: bytes) -> bytes:
    """Return a model that computes in fp16; its input and its output stay as they are."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True)
    return bytes(converted.SerializeToString())


def to_int8(model: bytes, images: Images, *, symmetric: bool, keep: Sequence[str] = ()) -> bytes:
    """Return a model that computes in int8 where that saves time.

    Args:
        model: ONNX, fp32.
        images: (N, H, W, 3) photos as the model takes them, which its ranges are learned from.
        symmetric: signed activations around zero, for TensorRT; else unsigned ones, for CPUs.
        keep: names of nodes that stay in fp32.

    Raises:
        CalibrationError: no photos, all alike, or of another size than the model's.
        ValueError: a node to keep that the model lacks.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    loaded = onnx.load_from_string(model)
    check_images(images, loaded)
    lacking = sorted(set(keep) - {node.name for node in loaded.graph.node})
    if lacking:
        raise ValueError(f"the model has no node {', '.join(lacking)} to keep in fp32")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            loaded,
            out,
            _Reader(loaded.graph.input[0].name, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPS),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep),
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": not symmetric,  # TensorRT takes no int32 biases
            },
        )
        return out.read_bytes()


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
        self._batches = iter(
            [{name: images[at : at + _BATCH]} for at in range(0, len(images), _BATCH)]
        )

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
