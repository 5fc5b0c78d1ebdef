"""From a trained encoder to an ONNX model, fp32, normalization inside."""

import contextlib
import io
import json
import logging
import traceback
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from torch import nn

import geofix
from geofix.input_spec import InputSpec
from geofix_export.tensorrt_prepare import prepare_for_tensorrt

OPSET = 18
IR_VERSION = 8  # what opset 18 came with; ONNX Runtime 1.17 reads no more than 9


def describe_onnx(model: bytes, spec: InputSpec, *, target: str, precision: str) -> bytes:
    """Return a model whose metadata says what it is and what it wants, for whoever finds it alone.

    Normalization is inside the graph: the input is pixels from 0 to 255.
    """
    described = onnx.load_from_string(model)
    described.producer_name, described.producer_version = "geofix", geofix.__version__
    described.doc_string = "geofix query encoder: images in, embeddings of unit length out."
    onnx.helper.set_model_props(
        described,
        {
            "geofix.target": target,
            "geofix.precision": precision,
            "geofix.input_spec": json.dumps(spec.to_json(), sort_keys=True),
        },
    )
    return bytes(described.SerializeToString())


class UnsupportedOperator(ValueError):
    """An encoder that computes something for which ONNX has no operator."""


def to_onnx(encoder: nn.Module, spec: InputSpec) -> bytes:
    """Return an encoder as ONNX; it takes any number of images as the input spec says.

    Raises:
        UnsupportedOperator: one that ONNX lacks, named with the module that uses it.
    """
    size = (2, spec.height, spec.width, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    batch = {0: torch.export.Dim("batch")}
    with _quiet():
        try:
            program = torch.onnx.export(
                encoder,
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.input_name],
                output_names=[spec.output_name],
                dynamic_shapes=(batch,),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as e:
            raise UnsupportedOperator(_reason(e)) from e
    if program is None:
        raise RuntimeError("the exporter gave no program")
    model = program.model_proto
    model.ir_version = IR_VERSION
    _clear_notes(model)
    return prepare_for_tensorrt(bytes(model.SerializeToString()))


def _reason(error: BaseException) -> str:
    """Return which operator of which module the exporter stumbled over."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    node = _node_in_hand(error)
    if node is None:
        return f"the encoder cannot be exported: {str(cause).strip().splitlines()[0]}"
    path, kind = [*node.meta["nn_module_stack"].values()][-1]
    module = getattr(kind, "__name__", str(kind).rsplit(".", 1)[-1])
    return (
        f"ONNX has no operator for {node.target}, which module {path or 'encoder'} ({module}) "
        "uses: spell it out in others there"
    )


def _node_in_hand(error: BaseException) -> torch.fx.Node | None:
    """Return the node that the exporter was at, which its messages name and do not describe."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for one in reversed(chain):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            node = frame.f_locals.get("node")
            if isinstance(node, torch.fx.Node) and "nn_module_stack" in node.meta:
                return node
    return None


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
