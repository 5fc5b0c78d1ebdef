"""Engines: from an ONNX model to what TensorRT runs on this GPU.

Networks are strongly typed. TensorRT 10 has to be told; 11 knows nothing else, and has no flags for
fp16 and int8 any more. So nothing here chooses a precision: the model says it, for both versions.

The accelerator DLA is not used: in TensorRT 10 it does not take the Q/DQ of the model, but flags
and calibration that 11 removed, and most versions of 11 have none (docs/jetson.md).
"""

import functools
import hashlib
import logging
import os
import platform
import shlex
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geofix.backends.cuda import CudaDevice
from geofix.backends.engine_cache import EngineKey, keep_engine, read_engine
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec

OLDEST = (10, 3)  # JetPack 6.1
MAX_BATCH = 8  # images; a larger batch is run in parts

_SYSTEM_FILES = (Path("/etc/nv_tegra_release"), Path("/proc/driver/nvidia/version"))
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
}
_log = logging.getLogger(__name__)


def import_tensorrt() -> Any:
    """Return the module; the only place that imports TensorRT.

    Raises:
        BackendUnavailable: it is absent, or older than `OLDEST`.
    """
    try:
        import tensorrt as trt
    except ImportError as e:
        raise BackendUnavailable(f"this encoder needs TensorRT: {_how_to_get_it()}") from e
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < OLDEST:
        raise BackendUnavailable(
            f"TensorRT is {trt.__version__}, want 10.3 or later: on a Jetson, JetPack 6.1"
        )
    return trt


def _how_to_get_it() -> str:
    if platform.machine() == "aarch64":
        return (
            "JetPack has its Python bindings, and a virtual environment sees them if it was made "
            "with python3 -m venv --system-site-packages"
        )
    return "pip install 'geofix[tensorrt]', which fetches NVIDIA's package for Linux on x86-64"


def engine_key(
    trt: Any,
    device: CudaDevice,
    model: bytes,
    input_spec: InputSpec,
    *,
    max_batch: int = MAX_BATCH,
    tf32: bool = False,
) -> EngineKey:
    """Return what the engine of a model on this GPU depends on."""
    return EngineKey(
        model_sha256=hashlib.sha256(model).hexdigest(),
        tensorrt=trt.__version__,
        gpu=device.name,
        compute_capability=device.compute_capability,
        system=_system(device),
        precision="tf32" if tf32 else "fp32",
        max_batch=max_batch,
        tensors=f"{input_spec.input_name} -> {input_spec.output_name}",
    )


def _system(device: CudaDevice) -> str:
    """Return the first line of what JetPack or the driver says of itself, and CUDA's version."""
    said = [path.read_text().splitlines()[:1] for path in _SYSTEM_FILES if path.is_file()]
    return "; ".join([*(line for lines in said for line in lines), f"CUDA {device.driver_version}"])


def load_engine(
    trt: Any, model: bytes, input_spec: InputSpec, *, key: EngineKey, folder: Path
) -> Any:
    """Return an engine, from the folder where it was kept, or built now, which takes minutes.

    Args:
        trt: the module.
        model: ONNX.
        input_spec: what the model takes and gives.
        key: of this model on this GPU.
        folder: where engines are kept.

    Raises:
        BackendUnavailable: TensorRT cannot read the model, build it, or load what it built.
    """
    runtime = trt.Runtime(_logger(trt))
    kept = read_engine(folder, key)
    engine = None if kept is None else runtime.deserialize_cuda_engine(kept)
    if engine is not None:
        return engine
    if kept is not None:
        _log.warning("TensorRT refuses the engine %s: it is built again", key.name)
    _log.info("building an engine for %s, which takes minutes and is kept in %s", key.gpu, folder)
    start = time.monotonic()
    data = build_engine(
        trt, model, input_spec, max_batch=key.max_batch, tf32=key.precision == "tf32"
    )
    _log.info("built in %.0f s, %.1f MB", time.monotonic() - start, len(data) / 1e6)
    keep_engine(folder, key, data)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise BackendUnavailable(f"TensorRT cannot load its own engine: {_reasons(trt)}")
    return engine


def build_engine(
    trt: Any, model: bytes, input_spec: InputSpec, *, max_batch: int = MAX_BATCH, tf32: bool = False
) -> bytes:
    """Build the serialized engine of an ONNX model, on the current GPU.

    Args:
        trt: the module.
        model: ONNX, strongly typed.
        input_spec: what the model takes and gives.
        max_batch: the most images at once, where the model leaves the batch free.
        tf32: let float32 be multiplied with 10 bits of mantissa, which is faster.

    Raises:
        BackendUnavailable: TensorRT cannot read the model, or build it.
    """
    logger = _logger(trt)
    logger.errors.clear()
    trt.init_libnvinfer_plugins(logger, "")  # some ONNX operators are plugins
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise BackendUnavailable(f"TensorRT cannot read the encoder: {_one_line(errors)}")
    _keep_output(network, input_spec)
    config = builder.create_builder_config()
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    _set_shapes(builder, network, config, max_batch)
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise BackendUnavailable(f"TensorRT cannot build the encoder: {_reasons(trt)}")
    return bytes(data)


def trtexec_line(
    model: str | os.PathLike[str],
    input_spec: InputSpec,
    *,
    engine: str | os.PathLike[str],
    max_batch: int | None = MAX_BATCH,
    tf32: bool = False,
    version: str = "10.3",
) -> str:
    """Return the command that builds the same engine with NVIDIA's tool, and times it.

    Args:
        model: path of the ONNX file.
        input_spec: what the model takes and gives.
        engine: path of the engine.
        max_batch: None where the model binds the batch to a number.
        tf32: as for `build_engine`.
        version: of TensorRT; 11 no longer needs to be told of strong typing.
    """
    words = ["trtexec", f"--onnx={os.fspath(model)}", f"--saveEngine={os.fspath(engine)}"]
    if int(version.split(".")[0]) < 11:
        words.append("--stronglyTyped")
    if not tf32:
        words.append("--noTF32")
    if max_batch is not None:
        size = [input_spec.height, input_spec.width]
        size = [*size, 3] if input_spec.layout == "nhwc" else [3, *size]
        for which, batch in (("min", 1), ("opt", 1), ("max", max_batch)):
            shape = "x".join(map(str, [batch, *size]))
            words.append(f"--{which}Shapes={input_spec.input_name}:{shape}")
    return shlex.join(words)


def _strongly_typed(trt: Any) -> int:
    """Return the flags of a network; 11 is always strongly typed and may come without the name."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _keep_output(network: Any, input_spec: InputSpec) -> None:
    """Drop all outputs but the embeddings, and check that these are there."""
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    names = [tensor.name for tensor in outputs]
    if inputs != [input_spec.input_name] or input_spec.output_name not in names:
        raise BackendUnavailable(
            f"the encoder takes {', '.join(inputs)} and gives {', '.join(names)}; its input "
            f"spec names {input_spec.input_name!r} and {input_spec.output_name!r}"
        )
    for tensor in outputs:
        if tensor.name != input_spec.output_name:
            network.unmark_output(tensor)


def _set_shapes(builder: Any, network: Any, config: Any, max_batch: int) -> None:
    """Let the batch be 1 to `max_batch`, best at 1, where the model leaves it free."""
    tensor = network.get_input(0)
    batch, *size = tuple(tensor.shape)
    if -1 in size:
        raise BackendUnavailable(
            f"the encoder's input has shape {(batch, *size)}: only the batch may be free (-1)"
        )
    if batch == -1:
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, (1, *size), (1, *size), (max_batch, *size))
        config.add_optimization_profile(profile)


def _reasons(trt: Any) -> str:
    return _one_line(_logger(trt).errors)


def _one_line(texts: Iterable[str]) -> str:
    return "; ".join(" ".join(text.split()) for text in texts) or "it gives no reason"


@functools.cache
def _logger(trt: Any) -> Any:
    """Return the one logger of the process, as TensorRT wants it; it writes to Python's logging."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, text: str) -> None:
            level = _LEVELS.get(severity.name, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(text)
            _log.log(level, "%s", text)

    return Logger()
