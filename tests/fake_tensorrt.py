"""The part of TensorRT's Python API that geofix calls, over ONNX Runtime, for tests.

Works on the "GPU memory" of fake_cuda.c, and is as strict as the real one: a network of TensorRT 10
has to be strongly typed, a free batch has to have a profile, an engine is of one version, and an
execution context is not for two threads at once. In 11 the names are gone that 11 removed.
"""

import base64
import ctypes
import enum
import hashlib
import json
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from geofix.backends import cuda
from geofix_index.onnx_runtime import import_onnxruntime

ort = import_onnxruntime()  # the first import of all tests, so that none of them is reported
_TYPES = {1: "FLOAT", 2: "UINT8", 6: "INT32", 10: "HALF"}
_NUMPY = {"FLOAT": "float32", "UINT8": "uint8", "HALF": "float16", "INT32": "int32"}


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """TensorRT crashes where a logger's base was not initialized."""

    def __init__(self) -> None:
        self.initialized = True

    def log(self, severity: Severity, text: str) -> None:
        raise NotImplementedError


class FakeTensorRT(ModuleType):
    """A module, and what happened in it."""

    def __init__(self, version: str = "10.3.0") -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.major = int(version.split(".")[0])
        self.num_builds = 0
        self.tf32: list[bool] = []  # of each build
        self.seen: list[str] = []  # SHA-256 of what was to be deserialized
        self.refused: set[str] = set()  # of these, None comes back
        self.fail_to: set[str] = set()  # "build", "deserialize", "context", "execute", ...
        self.plugins = False
        self.batches: list[int] = []  # of each execution
        self.ILogger = ILogger
        flags = ["TF32"] if self.major >= 11 else ["FP16", "INT8", "TF32"]
        self.BuilderFlag = SimpleNamespace(**{name: SimpleNamespace(name=name) for name in flags})
        names = {} if self.major >= 11 else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**names)

    def init_libnvinfer_plugins(self, logger: ILogger, namespace: str) -> bool:
        assert logger.initialized
        assert namespace == ""
        self.plugins = True
        return True

    def Builder(self, logger: ILogger) -> "Builder":
        assert logger.initialized
        return Builder(self, logger)

    def OnnxParser(self, network: "Network", logger: ILogger) -> "Parser":
        assert logger.initialized
        return Parser(network)

    def Runtime(self, logger: ILogger) -> "Runtime":
        assert logger.initialized
        return Runtime(self, logger)


class Network:
    """What the parser found: tensors with name and shape, free sizes as -1."""

    def __init__(self) -> None:
        self.model = b""
        self.inputs: list[SimpleNamespace] = []
        self.outputs: list[SimpleNamespace] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> SimpleNamespace:
        return self.inputs[index]

    def get_output(self, index: int) -> SimpleNamespace:
        return self.outputs[index]

    def unmark_output(self, tensor: SimpleNamespace) -> None:
        self.outputs.remove(tensor)


class Parser:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._errors: list[str] = []

    def parse(self, model: bytes) -> bool:
        assert isinstance(model, bytes)
        try:
            graph = onnx.load_from_string(model).graph
        except DecodeError:
            self._errors = ["In node -1 (parse): INVALID_GRAPH: Failed to parse", "line two"]
            return False
        self._network.model = model
        self._network.inputs = [_tensor(info) for info in graph.input]
        self._network.outputs = [_tensor(info) for info in graph.output]
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> str:
        return self._errors[index]


def _tensor(info: onnx.ValueInfoProto) -> SimpleNamespace:
    found = info.type.tensor_type
    shape = tuple(size.dim_value or -1 for size in found.shape.dim)
    return SimpleNamespace(name=info.name, shape=shape, dtype=_TYPES[found.elem_type])


class Config:
    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.profiles: list[dict[str, Any]] = []

    def clear_flag(self, flag: SimpleNamespace) -> None:
        self.flags.discard(flag.name)

    def add_optimization_profile(self, profile: "Profile") -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert len(shapes) == 3
        self.shapes[name] = shapes


class Builder:
    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> Network:
        assert flags == (0 if self._trt.major >= 11 else 1 << 1), "not strongly typed"
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
        self._logger.log(Severity.INFO, "Global timing cache in use.")
        (tensor,) = network.inputs
        profile = config.profiles[0][tensor.name] if config.profiles else None
        if "build" in self._trt.fail_to or (-1 in tensor.shape and profile is None):
            self._logger.log(Severity.ERROR, "Error Code 4: no profile")
            self._logger.log(Severity.INTERNAL_ERROR, "Error Code 1: out of memory")
            return None
        assert (-1 in tensor.shape) == (profile is not None)
        self._trt.num_builds += 1
        self._trt.tf32.append("TF32" in config.flags)
        plan = {
            "version": self._trt.__version__,
            "model": base64.b64encode(network.model).decode(),
            "input": vars(tensor),
            "outputs": [vars(output) for output in network.outputs],
            "profile": profile,
        }
        return memoryview(json.dumps(plan).encode())


class Runtime:
    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        digest = hashlib.sha256(plan).hexdigest()
        self._trt.seen.append(digest)
        content = json.loads(plan)  # damaged bytes crash here, as they do there
        if "deserialize" in self._trt.fail_to or digest in self._trt.refused:
            self._logger.log(Severity.ERROR, "Error Code 6: the engine plan file is not compatible")
            return None
        assert content["version"] == self._trt.__version__
        return Engine(self._trt, content)


class Engine:
    def __init__(self, trt: FakeTensorRT, plan: dict[str, Any]) -> None:
        self.trt, self.profile = trt, plan["profile"]
        self.input = plan["input"]
        self.tensors = {t["name"]: t for t in [plan["input"], *plan["outputs"]]}
        self.session = ort.InferenceSession(
            base64.b64decode(plan["model"]), providers=["CPUExecutionProvider"]
        )

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.tensors[name]["shape"])

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self.tensors[name]["dtype"])

    def create_execution_context(self) -> "Context | None":
        return None if "context" in self.trt.fail_to else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}
        self._busy = threading.Lock()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._engine.profile or [self._engine.input["shape"]] * 3
        self._shape = shape
        fits = all(a <= s <= b for a, s, b in zip(smallest, shape, largest, strict=True))
        return (
            fits and name == self._engine.input["name"] and "shape" not in self._engine.trt.fail_to
        )

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._run(name, np.zeros(self._shape, self._dtype())).shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine.tensors and "address" not in self._engine.trt.fail_to

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == fake_cuda("fake_stream", ctypes.c_void_p)
        assert fake_cuda("fake_depth", ctypes.c_int) == 1, "no current context"
        assert self._busy.acquire(blocking=False), "two threads in one context"
        self._engine.trt.batches.append(self._shape[0])
        time.sleep(0.002)  # long enough for another thread to come in
        (output,) = (name for name in self._addresses if name != self._engine.input["name"])
        pixels = self._view(self._engine.input["name"], self._shape, self._dtype())
        found = self._run(output, pixels)
        dtype = _NUMPY[self._engine.tensors[output]["dtype"]]
        self._view(output, found.shape, dtype)[:] = found
        self._busy.release()
        return "execute" not in self._engine.trt.fail_to

    def _dtype(self) -> str:
        return _NUMPY[self._engine.input["dtype"]]

    def _run(self, output: str, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        feeds = {self._engine.input["name"]: pixels}
        (found,) = self._engine.session.run([output], feeds)
        return np.asarray(found)

    def _view(self, name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory: Any = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.asarray(np.frombuffer(memory, dtype).reshape(shape))


def fake_cuda(name: str, result: Any) -> Any:
    """Call one of the functions that fake_cuda.c has beyond CUDA's."""
    function = getattr(ctypes.CDLL(cuda.LIBRARY), name)
    function.restype = result
    return function()


def live() -> int:
    """Return how many things were taken from the driver and not given back."""
    return int(fake_cuda("fake_live", ctypes.c_long))
