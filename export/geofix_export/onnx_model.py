"""From a trained encoder to an ONNX model, fp32, normalization inside."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from torch import nn

from geofix.input_spec import InputSpec
from geofix_export.tensorrt_prepare import prepare_for_tensorrt

OPSET = 18
IR_VERSION = 8  # what opset 18 came with; ONNX Runtime 1.17 reads no more than 9


def to_onnx(encoder: nn.Module, spec: InputSpec) -> bytes:
    """Return an encoder as ONNX; it takes any number of images as the input spec says.

    Raises:
        RuntimeError: an operation that ONNX lacks.
    """
    size = (2, spec.height, spec.width, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    with _quiet():
        program = torch.onnx.export(
            encoder,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.input_name],
            output_names=[spec.output_name],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no program")
    model = program.model_proto
    model.ir_version = IR_VERSION
    _clear_notes(model)
    return prepare_for_tensorrt(bytes(model.SerializeToString()))


def _clear_notes(message: Message) -> None:
    """Drop what the exporter notes beside the graph: lines of source code, with their paths."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                _clear_notes(part)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk about absent torchvision and its own deprecations off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
