"""Runtimes for query encoders. Each is imported when an encoder that needs it is opened."""

from geofix.encoder import QueryEncoder
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec

BACKENDS = ("auto", "onnx", "tensorrt", "coreml")


def open_encoder(
    target: str, model: bytes | memoryview, *, input_spec: InputSpec, num_threads: int = 0
) -> QueryEncoder:
    """Open an encoder file with the runtime that its target names.

    Raises:
        BackendUnavailable: this version has no backend for the target, its runtime is absent, or
            the runtime cannot run the model.
    """
    if target == "onnx":
        from geofix.backends.onnx import OnnxEncoder

        return OnnxEncoder(model, input_spec, num_threads=num_threads)
    raise BackendUnavailable(f"this version of geofix cannot run encoders for {target!r}")
