"""`geofix-export tensorrt`: check an encoder for TensorRT, and build its engine on this device."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import geofix
from geofix.backends.tensorrt_engine import MAX_BATCH, import_tensorrt, trtexec_line
from geofix.encoder_files import read_model
from geofix.input_spec import InputSpec

_ZIP = b"PK\x03\x04"  # how a pack starts


@dataclass(frozen=True, slots=True)
class OnnxEncoderFile:
    """An ONNX encoder, from a file or a pack."""

    filename: str
    data: bytes
    input_spec: InputSpec


def add_tensorrt(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    text = "Check an encoder for TensorRT, and build its engine on this device."
    command = commands.add_parser("tensorrt", help=text, description=text)
    command.add_argument(
        "source", type=Path, metavar="MODEL.onnx|PACK", help="an ONNX file, or a region pack"
    )
    text = "what the ONNX file takes, as JSON (encoder.json beside it, if it is one of ours)"
    command.add_argument("--input-spec", type=Path, metavar="FILE", help=text)
    text = (
        "where the engine is kept (as for geofix localize: $GEOFIX_CACHE_DIR, or ~/.cache/geofix)"
    )
    command.add_argument("--cache-dir", type=Path, metavar="DIR", help=text)
    command.set_defaults(run_command=_tensorrt)


def read_encoder(
    source: Path, *, input_spec: Path | None = None, cache_dir: Path | None = None
) -> OnnxEncoderFile:
    """Return the encoder of an ONNX file, or the one for TensorRT of a pack.

    Args:
        source: the file.
        input_spec: JSON; not for packs, and not needed where the file's folder has encoder.json.
        cache_dir: its subfolder `encoders` may hold the file that a pack only names.

    Raises:
        ValueError: there is no input spec, or one too many, or it is wrong.
        BackendUnavailable: the pack has no encoder for TensorRT.
        PackError: the pack is damaged.
    """
    with source.open("rb") as file:
        is_pack = file.read(len(_ZIP)) == _ZIP
    if not is_pack:
        return OnnxEncoderFile(source.name, source.read_bytes(), _spec_of(source, input_spec))
    if input_spec is not None:
        raise ValueError(f"{source} is a pack and has its input spec: leave out {input_spec}")
    return _encoder_of_pack(source, cache_dir)


def _encoder_of_pack(source: Path, cache_dir: Path | None) -> OnnxEncoderFile:
    pack = geofix.RegionPack.open(source)
    for entry in pack.manifest.encoders:
        if entry.target == "tensorrt":
            data = bytes(read_model(pack, entry, given=None, cache_dir=cache_dir))
            return OnnxEncoderFile(entry.filename, data, entry.input_spec)
    has = ", ".join(encoder.target for encoder in pack.manifest.encoders) or "none"
    raise geofix.BackendUnavailable(f"{source} has no encoder for 'tensorrt'; it has {has}")


def _spec_of(model: Path, given: Path | None) -> InputSpec:
    from geofix_train.artifact import DESCRIPTION, read_artifact

    if given is not None:
        return InputSpec.from_json(json.loads(given.read_text()))
    if (model.parent / DESCRIPTION).is_file():
        artifact = read_artifact(model.parent)
        if artifact.filename == model.name:
            return artifact.input_spec
    raise ValueError(f"{model}: what it takes is not known: give --input-spec FILE")


def _tensorrt(arguments: argparse.Namespace) -> None:
    from geofix_export.onnx_graph import read_graph
    from geofix_export.tensorrt_rules import RULES, check_for_tensorrt

    encoder = read_encoder(
        arguments.source, input_spec=arguments.input_spec, cache_dir=arguments.cache_dir
    )
    violations = check_for_tensorrt(encoder.data)
    for violation in violations:
        print(f"{violation} See {violation.rule.source}")
    if violations:
        raise ValueError(f"{arguments.source} breaks TensorRT's rules in {len(violations)} places")
    print(f"{arguments.source}: keeps to all {len(RULES)} rules")
    (info,) = read_graph(encoder.data).inputs
    is_free = not info.type.tensor_type.shape.dim[0].dim_value
    _build(encoder, arguments.cache_dir, MAX_BATCH if is_free else None)


def _build(encoder: OnnxEncoderFile, cache_dir: Path | None, max_batch: int | None) -> None:
    """Build the engine and say where it lies; the command for trtexec comes in any case."""
    from geofix.backends.tensorrt import TensorRTEncoder

    name, spec = encoder.filename, encoder.input_spec
    try:
        version = import_tensorrt().__version__
        print("building the engine, which takes minutes the first time", file=sys.stderr)
        opened = TensorRTEncoder(encoder.data, spec, cache_dir=cache_dir)
    except geofix.BackendUnavailable:
        path = Path(name).with_suffix(".engine")
        print(trtexec_line(name, spec, engine=path, max_batch=max_batch))
        raise
    print(trtexec_line(name, spec, engine=opened.engine_path, max_batch=max_batch, version=version))
    opened.close()
    print(f"{opened.engine_path}: {opened.engine_path.stat().st_size / 1e6:.2f} MB")
