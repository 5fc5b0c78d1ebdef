"""Gives the operations of a converted program the names of the layers that they were made of.

coremltools calls operations `linear_7_cast_fp16` or `mul_1_cast_fp16`, and the latter need not be
the node of that name. The note that each node carries (`coreml_graph.HANDLE`) tells them apart; so
a profile in Xcode, and `compare_layers`, speak of layers.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from geofix_export.coreml_graph import Layer, TracedEncoder


def operation_names(model: Any, traced: TracedEncoder, *, keep: Collection[str]) -> dict[str, str]:
    """Return new names of a model's operations, by their old ones.

    The operation that gives what a layer gives takes the layer's name; others that the layer was
    broken into, for instance the softmax of attention, have their kind behind it.

    Args:
        model: what coremltools converted; not loaded from a file, which has no notes.
        traced: what it was converted from.
        keep: names that stay: inputs and outputs.
    """
    made_of: defaultdict[int, list[Any]] = defaultdict(list)
    for operation in _operations(model):
        handle = _handle(operation)
        if handle is not None and operation.outputs[0].name not in keep:
            made_of[handle].append(operation)
    names: dict[str, str] = {}
    for layer in traced.layers:
        names.update(_names(layer, made_of.get(layer.handle, [])))
    return names


def rename_operations(stored: Any, names: Mapping[str, str]) -> None:
    """Rename operations in a model's protobuf, where they are made and where they are used."""
    (function,) = stored.mlProgram.functions.values()
    for operation in function.block_specializations[function.opset].operations:
        for output in operation.outputs:
            if output.name in names:
                operation.attributes["name"].immediateValue.tensor.strings.values[0] = names[
                    output.name
                ]
            output.name = names.get(output.name, output.name)
        for value in operation.inputs.values():
            for argument in value.arguments:
                if argument.WhichOneof("binding") == "name":
                    argument.name = names.get(argument.name, argument.name)


def _operations(model: Any) -> list[Any]:
    (function,) = model._mil_program.functions.values()
    return [op for op in function.operations if op.op_type != "const"]


def _handle(operation: Any) -> int | None:
    from coremltools.converters.mil.mil.scope import ScopeSource

    handles = operation.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE)
    return int(handles[0]) if handles and handles[0] is not None else None


def _names(layer: Layer, operations: list[Any]) -> dict[str, str]:
    """Return the names of the operations that one layer became."""
    chosen = _representative(layer, operations)
    names: dict[str, str] = {}
    for operation in operations:
        for at, output in enumerate(operation.outputs):
            name = layer.name if operation is chosen else f"{layer.name}__{operation.op_type}"
            name += f"__{at}" if at else ""
            num_same = sum(re.sub(r"__n\d+$", "", taken) == name for taken in names.values())
            names[output.name] = f"{name}__n{num_same}" if num_same else name
    return names


def _representative(layer: Layer, operations: list[Any]) -> Any:
    """Return the operation that gives what the layer gives: of its size, by name or else last."""
    value = layer.node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) else value
    wanted = [int(size) for size in value.shape] if isinstance(value, Tensor) else []
    same_size = [op for op in operations if sorted(op.outputs[0].shape) == sorted(wanted)]
    same_shape = [op for op in same_size if list(op.outputs[0].shape) == wanted]
    candidates = same_shape or same_size
    named = [op for op in candidates if _plain(op.outputs[0].name) == layer.node.name]
    return (named or candidates or [None])[-1]


def _plain(name: str) -> str:
    return re.sub(r"(_cast)?_(to_)?fp(16|32)$", "", name)
