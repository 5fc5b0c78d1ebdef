"""ONNX Runtime as backend."""

import logging
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.encoder import check_images, unit_length
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from geofix_index.forks import ForkSafeLock, keep_forever
from geofix_index.onnx_runtime import import_onnxruntime

_log = logging.getLogger("geofix")

# What TensorRT and Core ML do through ONNX Runtime, backends of our own do: they keep engines, and
# refuse what does not equal the trained encoder.
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_BATCH = 32  # images that go through the network at once; bounds memory


class OnnxEncoder:
    """A query encoder from an ONNX model, on a GPU where ONNX Runtime is built for CUDA.

    Threads may share it. In a forked child it opens a session of its own when it is first used
    there.

    Attributes:
        device: "CUDA" or "CPU".
    """

    def __init__(
        self, model: bytes | memoryview, input_spec: InputSpec, *, num_threads: int = 0
    ) -> None:
        """Load a model and run it once.

        Args:
            model: the file's bytes.
            input_spec: what the model takes and gives.
            num_threads: of one inference; 0 lets ONNX Runtime choose.

        Raises:
            BackendUnavailable: ONNX Runtime is absent, or it cannot run the model as described.
        """
        self.input_spec = input_spec
        self._model, self._num_threads = model, num_threads
        self._opening = ForkSafeLock()
        self._own = _OwnSession(model, num_threads)
        self.device = _device(self._session().get_providers()[0])
        self._fixed_batch = self._check_tensors()
        blank = np.zeros((1, input_spec.height, input_spec.width, 3), np.uint8)
        self._dim = int(self._run(blank).shape[1])

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed images (B, height, width, 3) RGB; return (B, D), each row of unit length.

        An embedding of zeros stays zero.
        """
        check_images(images, self.input_spec)
        step = self._fixed_batch or _BATCH
        parts = [self._run(images[at : at + step]) for at in range(0, len(images), step)]
        embeddings = np.concatenate([np.zeros((0, self._dim), np.float32), *parts])
        return unit_length(embeddings)

    def _run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        spec = self.input_spec
        num = len(images)
        if self._fixed_batch:
            images = np.concatenate(
                [images, np.repeat(images[-1:], self._fixed_batch - num, axis=0)]
            )
        feeds = {spec.input_name: network_input(images, spec)}
        try:
            (embeddings,) = self._session().run([spec.output_name], feeds)
        except Exception as e:  # ONNX Runtime's errors share no base class but this
            raise BackendUnavailable(f"ONNX Runtime cannot run the encoder: {e}") from e
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise BackendUnavailable(
                f"the encoder's output {spec.output_name!r} has shape {embeddings.shape}, "
                f"want ({len(images)}, D)"
            )
        return np.asarray(embeddings[:num], np.float32)

    def _session(self) -> Any:
        """Return the session of this process."""
        if self._own.process != os.getpid():
            with self._opening:
                if self._own.process != os.getpid():  # else another thread was faster
                    self._own = _OwnSession(self._model, self._num_threads)
        return self._own.session

    def _check_tensors(self) -> int:
        """Check names; return the batch size that the model is bound to, 0 where it is free."""
        spec = self.input_spec
        inputs = {tensor.name: tensor for tensor in self._session().get_inputs()}
        outputs = [tensor.name for tensor in self._session().get_outputs()]
        if list(inputs) != [spec.input_name] or spec.output_name not in outputs:
            raise BackendUnavailable(
                f"the encoder takes {', '.join(inputs)} and gives {', '.join(outputs)}; its input "
                f"spec names {spec.input_name!r} and {spec.output_name!r}"
            )
        batch = inputs[spec.input_name].shape[:1]
        return batch[0] if batch and isinstance(batch[0], int) else 0


class _OwnSession:
    """A session that ends in the process that opened it, which alone has its threads."""

    def __init__(self, model: bytes | memoryview, num_threads: int) -> None:
        self.process = os.getpid()
        self.session: Any = None
        self.session = _open_session(bytes(model), num_threads)

    def __del__(self) -> None:
        if self.process != os.getpid():
            keep_forever(self.session)


def network_input(images: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[Any]:
    """Return the tensor that a network with this input spec takes for images (B, H, W, 3) RGB."""
    pixels: npt.NDArray[Any] = images[..., ::-1] if spec.color == "bgr" else images
    if spec.dtype == "float32":
        mean, scale = np.array(spec.mean, np.float32), np.array(spec.scale, np.float32)
        pixels = (pixels.astype(np.float32) - mean) / scale
    if spec.layout == "nchw":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels)


def _open_session(model: bytes, num_threads: int) -> Any:
    """Open an ONNX Runtime session."""
    try:
        ort = import_onnxruntime()
    except ImportError as e:
        raise BackendUnavailable(
            "this encoder needs ONNX Runtime: pip install 'geofix[onnx]'"
        ) from e
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Threads that wait by spinning hold the cores that the next stage or another program needs: on
    # two busy cores that made fixes twice as slow.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; what matters is raised
    wanted = [name for name in _PROVIDERS if name in ort.get_available_providers()]
    try:
        session = ort.InferenceSession(model, options, providers=wanted)
    except Exception as e:  # ONNX Runtime's errors share no base class but this
        raise BackendUnavailable(f"ONNX Runtime cannot load the encoder: {e}") from e
    if session.get_providers()[0] != wanted[0]:
        _log.warning(
            "this ONNX Runtime is built for %s and cannot use it here (are its libraries "
            "installed?): the encoder runs on %s",
            _device(wanted[0]),
            _device(session.get_providers()[0]),
        )
    return session


def _device(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")
