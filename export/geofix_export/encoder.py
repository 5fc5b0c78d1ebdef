"""Export the query encoder of a run to ONNX, and refuse to where it does not equal the original."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from torch import nn

from geofix.backends.onnx import OnnxEncoder
from geofix_export.tensorrt_prepare import prepare_for_tensorrt
from geofix_train.artifact import EncoderArtifact
from geofix_train.fit import load_model
from geofix_train.training_data import input_spec

OPSET = 18
IR_VERSION = 8  # what opset 18 came with; ONNX Runtime 1.17 reads no more than 9
MIN_COSINE = 0.9999  # fp32 runs the same arithmetic in another order


class ParityError(ValueError):
    """An exported encoder that does not equal the trained one."""


def export_encoder(run: Path) -> EncoderArtifact:
    """Return the ground encoder of a finished run as ONNX, fp32, normalization inside.

    Raises:
        CheckpointError: the run is not finished.
        ParityError: ONNX Runtime does not reproduce the trained encoder's embeddings.
    """
    config, model, _ = load_model(run)
    encoder = model.ground
    spec = input_spec(config)
    size = (2, spec.height, spec.width, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    data = _to_onnx(encoder, images, spec.input_name, spec.output_name)
    artifact = EncoderArtifact(
        target="onnx",
        precision="fp32",
        filename="encoder.onnx",
        data=data,
        dim=config.model.dim,
        input_spec=spec,
        provenance={"opset": OPSET, "torch": torch.__version__},
    )
    _check_parity(encoder, artifact, images)
    return artifact


def _to_onnx(encoder: nn.Module, images: torch.Tensor, input_name: str, output_name: str) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            encoder,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise ParityError("the exporter gave no program")
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


def _check_parity(encoder: nn.Module, artifact: EncoderArtifact, images: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = encoder(images).numpy()
    got = OnnxEncoder(artifact.data, artifact.input_spec).encode(images.numpy())
    cosine = float((wanted * got).sum(axis=1).min())
    if not cosine >= MIN_COSINE:
        raise ParityError(
            f"the ONNX encoder's embeddings have cosine {cosine:.6f} with the trained encoder's, "
            f"want at least {MIN_COSINE}"
        )
