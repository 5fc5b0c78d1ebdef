"""TensorRT as backend, on NVIDIA's GPUs: a Jetson, or Linux on x86-64."""

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.backends.cuda import CudaDevice
from geofix.backends.engine_cache import engine_path
from geofix.backends.onnx import network_input
from geofix.backends.tensorrt_engine import MAX_BATCH, engine_key, import_tensorrt, load_engine
from geofix.encoder import check_images, check_process, unit_length
from geofix.encoder_files import default_cache_dir
from geofix.errors import BackendUnavailable
from geofix.input_spec import InputSpec
from geofix_index.forks import ForkSafeLock, keep_forever

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}  # by TensorRT's names


class TensorRTEncoder:
    """A query encoder from an ONNX model, on the first GPU. Threads may share it.

    Attributes:
        input_spec: what the model takes and gives.
        engine_path: where its engine is kept; no file, where nothing can be written there.
    """

    device = "GPU"

    def __init__(
        self,
        model: bytes | memoryview,
        input_spec: InputSpec,
        *,
        cache_dir: Path | None = None,
        max_batch: int = MAX_BATCH,
        tf32: bool = False,
    ) -> None:
        """Load the engine of a model and run it once; the first time, build it: minutes.

        Args:
            model: the bytes of an ONNX file that keeps to TensorRT's rules.
            input_spec: what the model takes and gives.
            cache_dir: its subfolder `engines` keeps the engine; None: `default_cache_dir`.
            max_batch: the most images at once; more are run in parts.
            tf32: let float32 be multiplied with 10 bits of mantissa, which is faster.

        Raises:
            BackendUnavailable: TensorRT or the GPU is absent, or cannot run the model as described.
        """
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}, want 1 or more")
        trt = import_tensorrt()
        model, folder = bytes(model), (cache_dir or default_cache_dir()) / "engines"
        self.input_spec = input_spec
        self._lock = ForkSafeLock()  # an execution context is one thread's at a time
        device = CudaDevice()
        release = weakref.finalize(self, device.close)
        with device.current():
            key = engine_key(trt, device, model, input_spec, max_batch=max_batch, tf32=tf32)
            self.engine_path = engine_path(folder, key)
            engine = load_engine(trt, model, input_spec, key=key, folder=folder)
            self._runner = EngineRunner(trt, device, engine, input_spec, max_batch=max_batch)
        release.detach()
        self._release = weakref.finalize(self, self._runner.close)
        self.encode(np.zeros((1, input_spec.height, input_spec.width, 3), np.uint8))

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._runner.dim

    def encode(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed images (B, height, width, 3) RGB; return (B, D), each row of unit length.

        An embedding of zeros stays zero.
        """
        check_process(self._runner.process, "TensorRT")
        check_images(images, self.input_spec)
        step = self._runner.max_batch
        parts = [self._run(images[at : at + step]) for at in range(0, len(images), step)]
        return unit_length(np.concatenate([np.zeros((0, self.dim), np.float32), *parts]))

    def close(self) -> None:
        """Free what lies on the GPU. Closing twice is fine."""
        with self._lock:
            self._release()

    def _run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        pixels = network_input(images, self.input_spec)
        with self._lock:
            return self._runner.run(pixels)


class EngineRunner:
    """An engine with its buffers on the GPU. Not for two threads at once."""

    def __init__(
        self, trt: Any, device: CudaDevice, engine: Any, input_spec: InputSpec, *, max_batch: int
    ) -> None:
        """Prepare an engine to run on the GPU where it was loaded, which has to be current."""
        self.process = os.getpid()
        self._device, self._engine, self._spec = device, engine, input_spec
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendUnavailable("TensorRT cannot run the encoder: is the GPU out of memory?")
        batch, *_ = engine.get_tensor_shape(input_spec.input_name)
        self.is_free = batch == -1  # the batch
        self.max_batch = max_batch if self.is_free else int(batch)
        self._check_input()
        self._set_batch(self.max_batch)
        shape = tuple(self._context.get_tensor_shape(input_spec.output_name))
        if len(shape) != 2 or shape[0] != self.max_batch or shape[1] < 1:
            raise BackendUnavailable(
                f"the encoder's output {input_spec.output_name!r} has shape {shape}, want "
                f"({self.max_batch}, D)"
            )
        self.dim = int(shape[1])
        self._output = np.empty(shape, self._dtype(input_spec.output_name))
        self._addresses = {
            input_spec.input_name: device.allocate(self._input_bytes()),
            input_spec.output_name: device.allocate(self._output.nbytes),
        }
        for name, address in self._addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise BackendUnavailable(f"TensorRT refuses the memory for {name!r}")

    def run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return embeddings (B, D) for what the network takes, at most `max_batch` of it."""
        if self._context is None:
            raise ValueError("the encoder is closed")
        num = len(pixels)
        if not self.is_free:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self.max_batch - num, axis=0)])
        found = self._output[: len(pixels)]
        with self._device.current():
            self._set_batch(len(pixels))
            self._device.copy_in(self._addresses[self._spec.input_name], pixels)
            if not self._context.execute_async_v3(self._device.stream):
                raise BackendUnavailable("TensorRT cannot run the encoder: its log says why")
            self._device.copy_out(found, self._addresses[self._spec.output_name])
            self._device.wait()
        return found[:num].astype(np.float32)  # a copy: the buffer is used again

    def close(self) -> None:
        """Free context, engine and buffers, in this order. Closing twice is fine.

        In a forked child they are the parent's, and stay.
        """
        if os.getpid() != self.process:
            keep_forever(self)
            return
        self._context = self._engine = None
        self._device.close()

    def _set_batch(self, batch: int) -> None:
        name = self._spec.input_name
        if not self._context.set_input_shape(name, (batch, *self._size())):
            raise BackendUnavailable(f"TensorRT refuses a batch of {batch}")

    def _size(self) -> tuple[int, ...]:
        return tuple(self._engine.get_tensor_shape(self._spec.input_name))[1:]

    def _input_bytes(self) -> int:
        dtype = np.dtype(self._dtype(self._spec.input_name))
        return int(self.max_batch * np.prod(self._size())) * dtype.itemsize

    def _dtype(self, tensor: str) -> str:
        """Return the NumPy name of a tensor's type."""
        name = self._engine.get_tensor_dtype(tensor).name
        if name not in _DTYPES:
            raise BackendUnavailable(f"the encoder's {tensor!r} is {name}, want float or uint8")
        return _DTYPES[name]

    def _check_input(self) -> None:
        spec = self._spec
        blank = network_input(np.zeros((1, spec.height, spec.width, 3), np.uint8), spec)
        found = self._dtype(spec.input_name), self._size()
        if found != (blank.dtype.name, blank.shape[1:]):
            raise BackendUnavailable(
                f"the encoder takes {found[0]} of shape {found[1]}; by its input spec it is "
                f"{blank.dtype.name} of shape {blank.shape[1:]}"
            )
