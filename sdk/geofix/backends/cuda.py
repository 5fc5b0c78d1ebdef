"""A small part of CUDA's driver API, through ctypes: the first GPU, a stream, memory, copies.

Not through cuda-python: JetPack does not have it, and its modules moved between versions. Not
through libcudart: its file is called otherwise with each CUDA and lies elsewhere on each system.
The driver's own library is libcuda.so.1 wherever there is a driver, and these functions have kept
their form from CUDA 11 to 13. TensorRT works in the same context, the primary one of the GPU.

CUDA_VISIBLE_DEVICES says which GPU is the first.
"""

import contextlib
import ctypes
import logging
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

from geofix.errors import BackendUnavailable

LIBRARY = "libcuda.so.1"

_log = logging.getLogger(__name__)

_SM_MAJOR, _SM_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for what others do on the GPU
_NAME_BYTES = 256

_INT, _UINT, _POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
_ADDRESS, _SIZE = ctypes.c_uint64, ctypes.c_size_t  # CUdeviceptr; on 64-bit systems
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (_UINT,),
    "cuDriverGetVersion": (_POINTER,),
    "cuGetErrorString": (_INT, _POINTER),
    "cuDeviceGet": (_POINTER, _INT),
    "cuDeviceGetName": (_POINTER, _INT, _INT),
    "cuDeviceGetAttribute": (_POINTER, _INT, _INT),
    "cuDevicePrimaryCtxRetain": (_POINTER, _INT),
    "cuDevicePrimaryCtxRelease_v2": (_INT,),
    "cuCtxPushCurrent_v2": (_POINTER,),
    "cuCtxPopCurrent_v2": (_POINTER,),
    "cuStreamCreate": (_POINTER, _UINT),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamDestroy_v2": (_POINTER,),
    "cuMemAlloc_v2": (_POINTER, _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, _ADDRESS, _SIZE, _POINTER),
}


class CudaDevice:
    """The first GPU with a stream of its own. Its methods want `current()` around them."""

    def __init__(self) -> None:
        """Take hold of the GPU.

        Raises:
            BackendUnavailable: there is no driver, or no GPU that it finds usable.
        """
        self._cuda = _load(LIBRARY)
        self._call("cuInit", 0)
        self._device = self._get(_INT(), "cuDeviceGet", 0)
        self._context = self._get(_POINTER(), "cuDevicePrimaryCtxRetain", self._device)
        self._addresses: list[int] = []
        self._stream: int | None = None
        try:
            with self.current():
                self._stream = self._get(_POINTER(), "cuStreamCreate", _NON_BLOCKING)
        except BackendUnavailable:
            self.close()
            raise

    @property
    def name(self) -> str:
        """What the driver calls the GPU."""
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", text, _NAME_BYTES, self._device)
        return text.value.decode(errors="replace")

    @property
    def compute_capability(self) -> str:
        """The GPU's generation, such as "8.7" of an Orin."""
        numbers = [
            self._get(_INT(), "cuDeviceGetAttribute", which, self._device)
            for which in (_SM_MAJOR, _SM_MINOR)
        ]
        return ".".join(map(str, numbers))

    @property
    def driver_version(self) -> int:
        """The newest CUDA that the driver runs, such as 12060 for 12.6."""
        return int(self._get(_INT(), "cuDriverGetVersion"))

    @property
    def stream(self) -> int:
        """The handle of the stream, for TensorRT."""
        if self._stream is None:
            raise ValueError("the GPU was let go of")
        return self._stream

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU the one of this thread, and afterwards the one it was before."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._get(_POINTER(), "cuCtxPopCurrent_v2")

    def allocate(self, num_bytes: int) -> int:
        """Return the address of new memory on the GPU; `close` frees it."""
        address = int(self._get(_ADDRESS(), "cuMemAlloc_v2", num_bytes))
        self._addresses.append(address)
        return address

    def copy_in(self, address: int, array: npt.NDArray[Any]) -> None:
        """Start to copy a contiguous array to the GPU; leave it alone until `wait` returns."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self.stream)

    def copy_out(self, array: npt.NDArray[Any], address: int) -> None:
        """Start to fill a contiguous array from the GPU; it is full when `wait` returns."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self.stream)

    def wait(self) -> None:
        """Return when the stream has done all of its work.

        Raises:
            BackendUnavailable: some of it failed.
        """
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Free memory and stream and let go of the GPU. Closing twice is fine.

        What a broken GPU refuses is only logged: it is let go of all the same.
        """
        if self._context is None:
            return
        calls = [("cuMemFree_v2", address) for address in self._addresses]
        if self._stream is not None:
            calls.append(("cuStreamDestroy_v2", self._stream))
        try:
            with self.current():
                for function, handle in calls:
                    self._call(function, handle)
        except BackendUnavailable as e:
            _log.warning("%s", e)
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._device)
        self._addresses, self._stream, self._context = [], None, None

    def _get(self, result: Any, function: str, *arguments: Any) -> Any:
        """Call a function whose first argument is where its result goes; return the result."""
        self._call(function, ctypes.byref(result), *arguments)
        return result.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cuda, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(status, ctypes.byref(text))
            reason = (text.value or b"unknown").decode(errors="replace")
            raise BackendUnavailable(f"CUDA: {function} failed with {status}, {reason}")


def _load(library: str) -> Any:
    """Return the driver's library with the types of the functions that are called."""
    try:
        loaded = ctypes.CDLL(library)
        for name, types in _FUNCTIONS.items():
            getattr(loaded, name).argtypes = types
    except (OSError, AttributeError) as e:
        raise BackendUnavailable(
            f"TensorRT needs an NVIDIA GPU and its driver, and {library} does not load: {e}"
        ) from e
    return loaded
