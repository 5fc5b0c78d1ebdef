"""Reads the program of a Core ML package: MIL, Apple's intermediate language, as it is stored.

A program is a list of operations in an order in which they can run. Operations name the values
that they take; constants stand beside them, in the protobuf or in the weights file. Nothing here
decompresses: quantized and palettized weights come as integers and tables, and operations called
`constexpr_...` say how to make numbers of them.

The weights file (all little-endian): 64 bytes of header, then for each tensor 64 bytes that begin
with 0xDEADBEEF (u32), a type (u32), a size in bytes (u64) and an offset (u64), and the data there.
The protobuf gives the position of those 64 bytes.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geofix.mlpackage import MODEL, WEIGHTS, read_mlpackage

_BLOB = struct.Struct("<IIQQ")
_BLOB_MAGIC = 0xDEADBEEF
_TYPES: dict[str, Any] = {
    "BOOL": np.bool_, "FLOAT16": np.float16, "FLOAT32": np.float32, "FLOAT64": np.float64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
}  # fmt: skip
_AS_BYTES = ("FLOAT16", "INT8", "UINT8", "INT16", "UINT16", "UINT32")  # if beside an operation

Value = npt.NDArray[Any] | str


class MilError(ValueError):
    """A program that cannot be read or evaluated; names what is not understood, and where."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of a value that an operation takes."""

    name: str


@dataclass(frozen=True, slots=True)
class TensorType:
    """What a value is declared to be."""

    dtype: str  # as MIL names it: "FLOAT16", "INT32", ...
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a program."""

    kind: str  # "conv", "const", "constexpr_lut_to_dense", ...
    inputs: Mapping[str, tuple[Reference | Value, ...]]  # mostly of length 1
    outputs: tuple[tuple[str, TensorType], ...]  # names and types

    @property
    def name(self) -> str:
        """The name of the first output, which stands for the operation in messages."""
        return self.outputs[0][0]


@dataclass(frozen=True, slots=True)
class MilProgram:
    """The function that a package runs."""

    input_name: str
    input_type: TensorType
    operations: tuple[Operation, ...]
    output_names: tuple[str, ...]
    specification_version: int
    metadata: Mapping[str, str]  # `userDefined`, and shortDescription, author, license, version


def read_program(package: bytes) -> MilProgram:
    """Read the program of a package, given as the bytes of its archive.

    Raises:
        MlpackageError: not a package.
        MilError: its model is no program of one image input, or has values of unknown types.
        ImportError: coremltools, which knows the protobuf, is not installed.
    """
    files = read_mlpackage(package)
    model = parse_model(files[MODEL])
    if model.WhichOneof("Type") != "mlProgram":
        raise MilError(f"the model is a {model.WhichOneof('Type')}, want an mlProgram")
    (function,) = model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    if len(function.inputs) != 1:
        raise MilError(f"the program takes {len(function.inputs)} inputs, want one image")
    reader = _ValueReader(files.get(WEIGHTS, b""))
    return MilProgram(
        input_name=function.inputs[0].name,
        input_type=_tensor_type(function.inputs[0].type),
        operations=tuple(reader.operation(op) for op in block.operations),
        output_names=tuple(block.outputs),
        specification_version=model.specificationVersion,
        metadata=_metadata(model.description.metadata),
    )


def parse_model(data: bytes) -> Any:
    """Return the protobuf of a `model.mlmodel` file."""
    from geofix_export.coreml_tools import import_coremltools

    return import_coremltools().proto.Model_pb2.Model.FromString(data)


def _metadata(stored: Any) -> dict[str, str]:
    fields = ("shortDescription", "author", "license", "versionString")
    return {**stored.userDefined, **{name: getattr(stored, name) for name in fields}}


def _tensor_type(stored: Any) -> TensorType:
    if stored.WhichOneof("type") != "tensorType":
        raise MilError(f"a value is a {stored.WhichOneof('type')}, want a tensor")
    tensor = stored.tensorType
    sizes = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
    kinds = type(tensor).DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
    return TensorType(kinds[tensor.dataType].name, sizes)


class _ValueReader:
    """Reads operations whose constants may lie in a weights file."""

    def __init__(self, weights: bytes) -> None:
        self.weights = weights

    def operation(self, stored: Any) -> Operation:
        """Return an operation; attributes count as inputs, but for its name."""
        if stored.blocks:
            raise MilError(f"operation {stored.type} has blocks: control flow is not understood")
        inputs = {key: self._arguments(value.arguments) for key, value in stored.inputs.items()}
        attributes = {
            key: (self._value(value),) for key, value in stored.attributes.items() if key != "name"
        }
        outputs = tuple((out.name, _tensor_type(out.type)) for out in stored.outputs)
        return Operation(stored.type, {**inputs, **attributes}, outputs)

    def _arguments(self, arguments: Iterable[Any]) -> tuple[Reference | Value, ...]:
        return tuple(
            Reference(a.name) if a.WhichOneof("binding") == "name" else self._value(a.value)
            for a in arguments
        )

    def _value(self, stored: Any) -> Value:
        kind = _tensor_type(stored.type)
        if stored.WhichOneof("value") == "blobFileValue":
            return _array(self._blob(stored.blobFileValue), kind)
        tensor = stored.immediateValue.tensor
        content = getattr(tensor, tensor.WhichOneof("value")).values
        if kind.dtype == "STRING":
            return str(content[0])
        if kind.dtype in _AS_BYTES and isinstance(content, bytes):
            return _array(content, kind)
        return np.array(content, _numpy_type(kind.dtype)).reshape(kind.shape)

    def _blob(self, stored: Any) -> bytes:
        if not stored.fileName.endswith("/weight.bin"):
            raise MilError(f"a value lies in {stored.fileName}, want weights/weight.bin")
        try:
            magic, _, size, at = _BLOB.unpack_from(self.weights, stored.offset)
        except struct.error as e:
            raise MilError(f"the weights end before byte {stored.offset}") from e
        if magic != _BLOB_MAGIC or at + size > len(self.weights):
            raise MilError(f"the weights have no tensor at byte {stored.offset}")
        return self.weights[at : at + size]


def _array(data: bytes, kind: TensorType) -> npt.NDArray[Any]:
    dtype, count = _numpy_type(kind.dtype), int(np.prod(kind.shape))
    return np.frombuffer(data, dtype, count).reshape(kind.shape)


def _numpy_type(dtype: str) -> Any:
    if dtype not in _TYPES:
        raise MilError(f"values of type {dtype} are not understood")
    return _TYPES[dtype]
