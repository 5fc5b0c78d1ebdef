"""Runtimes for query encoders. Each is imported when an encoder that needs it is opened."""

from pathlib import Path

from geofix.encoder import QueryEncoder
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec

BACKENDS = ("auto", "onnx", "tensorrt", "coreml")


def open_encoder(
    target: str,
    model: bytes | memoryview,
    *,
    input_spec: InputSpec,
    num_threads: int = 0,
    cache_dir: Path | None = None,
) -> QueryEncoder:
    """Open an encoder file with the runtime that its target names.

    Args:
        target: "onnx"; "tensorrt", whose file is ONNX, too; or "coreml".
        model: the file's bytes.
        input_spec: what the model takes and gives.
        num_threads: of one inference on the CPU; 0 lets the runtime choose.
        cache_dir: what is made of a model on the device is kept there; None: `default_cache_dir`.

    Raises:
        BackendUnavailable: this version has no backend for the target, its runtime is absent, or
            the runtime cannot run the model.
    """
    if target == "onnx":
        from geofix.backends.onnx import OnnxEncoder

        return OnnxEncoder(model, input_spec, num_threads=num_threads)
    if target == "tensorrt":
        from geofix.backends.tensorrt import TensorRTEncoder

        return TensorRTEncoder(model, input_spec, cache_dir=cache_dir)
    if target == "coreml":
        from geofix.backends.coreml import CoreMLEncoder

        return CoreMLEncoder(model, input_spec, cache_dir=cache_dir)
    raise BackendUnavailable(f"this version of geofix cannot run encoders for {target!r}")
