"""Convert a query encoder to Core ML, with weights of the precision that is asked for.

The program takes an image (a pixel buffer of the input spec's size; Core ML brings BGRA to RGB) and
gives `embeddings` (1, D) float32. Normalization is inside, once; batch 1. The same encoder and
precision give the same bytes: ids that coremltools draws at random follow from the content here.

Deployment target is iOS 17 (macOS 14) for all precisions: the first that rounds what layers take to
int8, and one floor is simpler to ship than several. Weights in int8 or tables alone would run from
iOS 16 on. Tables for groups of channels, which want iOS 18, were tried at 4 bits and no better.
"""

import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import nn

import geofix
from geofix.input_spec import InputSpec
from geofix.mlpackage import MANIFEST, MODEL, WEIGHTS, pack_mlpackage
from geofix_export.coreml_activations import round_activations
from geofix_export.coreml_graph import TracedEncoder, trace_encoder
from geofix_export.coreml_names import operation_names, rename_operations
from geofix_export.coreml_tools import import_coremltools, quiet
from geofix_export.coreml_weights import compress_weights

PRECISIONS = ("fp32", "fp16", "int8", "palettized6", "palettized4", "int8_activations")
_NAMESPACE = uuid.UUID("5a2c6f0e-3c1b-5d0e-9f5e-6b1d6a9f2c11")  # of the ids in our manifests
_AUTHOR = "com.apple.CoreML"  # of the format; also the folder within Data
_ITEMS = {
    path: {"author": _AUTHOR, "description": text, "name": name, "path": f"{_AUTHOR}/{name}"}
    for path, text, name in (
        (MODEL, "CoreML Model Specification", "model.mlmodel"),
        (WEIGHTS, "CoreML Model Weights", "weights"),
    )
}
_DESCRIPTION = "geofix query encoder: an image in, an embedding of unit length out."


class CoreMLConversionError(ValueError):
    """An encoder that coremltools does not translate."""


def convert_to_coreml(
    encoder: nn.Module,
    spec: InputSpec,
    *,
    precision: str,
    calibration: npt.NDArray[Any] | None = None,
    author: str = "geofix",
    license: str = "",
) -> bytes:
    """Return an encoder as `encoder.mlpackage.zip`.

    Args:
        encoder: takes (B, H, W, 3) RGB, 0 to 255; gives (B, D) of unit length.
        spec: size of images, names of input and output.
        precision: "fp32", for proofs; "fp16"; "int8", weights alone, one scale a channel;
            "palettized6" and "palettized4", weights from tables of 64 and 16 values;
            "int8_activations", weights and what layers take.
        calibration: (N, H, W, 3) uint8, photos from which "int8_activations" learns ranges.
        author, license: for the package's metadata.

    Raises:
        ValueError: unknown precision; an input spec other than uint8 RGB in rows; calibration that
            is missing, or given where it is not used.
        CoreMLConversionError: coremltools has no translation for something in the encoder.
        ImportError: coremltools is not installed.
    """
    _check_precision(precision, has_calibration=calibration is not None)
    if calibration is not None:
        encoder = round_activations(encoder, calibration)
    traced = trace_encoder(encoder, spec)
    with quiet():
        model = _convert(traced, spec, precision)
        names = operation_names(model, traced, keep=(spec.input_name, spec.output_name))
        model = compress_weights(model, precision)
    stored = model.get_spec()
    rename_operations(stored, names)
    _describe(stored, precision=precision, author=author, license=license)
    return _package(stored, Path(model.weights_dir))


def _check_precision(precision: str, *, has_calibration: bool) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, want one of {', '.join(PRECISIONS)}")
    if has_calibration != (precision == "int8_activations"):
        wanted = "no calibration" if has_calibration else "calibration photos, got none"
        raise ValueError(f"precision {precision!r} takes {wanted}")


def _convert(traced: TracedEncoder, spec: InputSpec, precision: str) -> Any:
    ct = import_coremltools()
    number = ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16
    shape = (1, 3, spec.height, spec.width)
    # Neither scale nor bias: the encoder's own normalization is the only one.
    image = ct.ImageType(spec.input_name, shape, color_layout=ct.colorlayout.RGB)
    try:
        return ct.convert(
            traced.program,
            inputs=[image],
            outputs=[ct.TensorType(spec.output_name, dtype=ct.converters.mil.mil.types.fp32)],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=number,
            skip_model_load=True,
        )
    except (NotImplementedError, ValueError, RuntimeError, TypeError) as e:
        raise CoreMLConversionError(
            f"coremltools cannot convert the encoder: {e}{_module(traced, str(e))}; change that "
            "layer, or spell its operator out in geofix_export/coreml_graph.py"
        ) from e


def _module(traced: TracedEncoder, message: str) -> str:
    """Return the module that holds the node which a message of coremltools names, as words."""
    found = re.search(r"fx node (\w+)", message)
    modules = [layer.module for layer in traced.layers if found and layer.node.name == found[1]]
    return f", of module {modules[0] or 'encoder'}" if modules else ""


def _describe(stored: Any, *, precision: str, author: str, license: str) -> None:
    metadata = stored.description.metadata
    metadata.shortDescription = _DESCRIPTION
    metadata.author, metadata.license = author, license
    metadata.versionString = geofix.__version__
    for key in list(metadata.userDefined):
        if key.endswith("conversion_date"):  # would make each day's bytes differ
            del metadata.userDefined[key]
    metadata.userDefined["org.geofix.precision"] = precision


def _package(stored: Any, weights_dir: Path) -> bytes:
    files = {MODEL: bytes(stored.SerializeToString(deterministic=True))}
    if (weights_dir / "weight.bin").exists():  # numbers of which there are few stand in the model
        files[WEIGHTS] = (weights_dir / "weight.bin").read_bytes()
    return pack_mlpackage({**files, MANIFEST: _manifest(files)})


def _manifest(files: dict[str, bytes]) -> bytes:
    """Return the package's manifest, with ids that follow from what the files hold."""
    content = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in files.values()))
    ids = {name: str(uuid.uuid5(_NAMESPACE, f"{content.hexdigest()} {name}")) for name in files}
    items = {ids[name]: _ITEMS[name] for name in files}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": ids[MODEL],
    }
    return json.dumps(manifest, indent=4, sort_keys=True).encode()
