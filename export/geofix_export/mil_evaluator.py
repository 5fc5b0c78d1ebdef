"""Evaluates the program of a Core ML package, so that its arithmetic is checked without a Mac.

What this shows: that the conversion means what the encoder means, that weights survived their
compression, and what rounding each intermediate to 16 bits does. What it cannot show: in which
order, and with how many bits between, a CPU, a GPU or a Neural Engine sums; only a device can.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geofix_export.mil_operators import OPERATORS, Arguments
from geofix_export.mil_program import (
    MilError,
    MilProgram,
    Operation,
    Reference,
    Value,
    read_program,
)

ROUNDINGS = ("float16", "float32")
_DECLARED = {"FLOAT16": torch.float16}


@dataclass(frozen=True)
class Evaluation:
    """What a program gives for images."""

    embeddings: npt.NDArray[np.float32]  # (B, D)
    intermediates: Mapping[str, npt.NDArray[Any]]  # by operation, in order; (B, ...)


def evaluate(
    package: bytes, images: npt.NDArray[np.uint8], *, rounding: str = "float16"
) -> Evaluation:
    """Run a package's program on images, one at a time.

    Args:
        package: the bytes of `encoder.mlpackage.zip`.
        images: (B, H, W, 3) uint8 RGB, of the size that the program takes.
        rounding: "float16" rounds each result to 16 bits where the program declares it so, as the
            least that hardware keeps; "float32" rounds nothing.

    Raises:
        MilError: the program holds an operation that is not understood; the message names it and
            its layer. Or a result has another shape than it is declared to have.
        ValueError: images of another size, or an unknown rounding.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding is {rounding!r}, want one of {', '.join(ROUNDINGS)}")
    program = read_program(package)
    height, width = program.input_type.shape[2:]
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3):
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}, want uint8 of shape "
            f"(B, {height}, {width}, 3)"
        )
    evaluator = _Evaluator(program, rounds=rounding == "float16")
    values = [evaluator.run(image) for image in images]
    names = list(values[0]) if values else []
    found = {name: np.concatenate([value[name] for value in values]) for name in names}
    embeddings = np.asarray(found[program.output_names[0]], np.float32)
    return Evaluation(embeddings, found)


class _Evaluator:
    """Runs a program; what does not depend on the image is computed once."""

    def __init__(self, program: MilProgram, *, rounds: bool) -> None:
        self.program, self.rounds = program, rounds
        self.constants: dict[str, Any] = {}
        self.steps: list[Operation] = []
        for operation in program.operations:
            if operation.kind == "const":
                self.constants[operation.name] = _argument(operation.inputs["val"], {})
            elif operation.kind.startswith("constexpr_"):
                self._compute(operation, self.constants)
            else:
                self.steps.append(operation)

    @torch.no_grad()
    def run(self, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Return all results for one image (H, W, 3)."""
        pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
        values: dict[str, Any] = {**self.constants, self.program.input_name: pixels}
        for operation in self.steps:
            self._compute(operation, values)
        names = [name for step in self.steps for name, _ in step.outputs]
        return {name: np.atleast_1d(values[name].numpy()) for name in names}

    def _compute(self, operation: Operation, values: dict[str, Any]) -> None:
        results = _results(operation, values)
        for (name, kind), result in zip(operation.outputs, results, strict=True):
            if tuple(result.shape) != kind.shape:
                raise MilError(
                    f"{operation.kind} at {name} gives {tuple(result.shape)}, "
                    f"the program declares {kind.shape}"
                )
            if self.rounds and kind.dtype in _DECLARED:
                result = result.to(_DECLARED[kind.dtype]).float()
            values[name] = result


def _results(operation: Operation, values: Mapping[str, Any]) -> list[Tensor]:
    compute = OPERATORS.get(operation.kind)
    if compute is None:
        raise MilError(
            f"operation {operation.kind!r} at {operation.name} is not understood: "
            "add it to geofix_export/mil_operators.py"
        )
    try:
        given = {name: _argument(value, values) for name, value in operation.inputs.items()}
        results = compute(Arguments(given, operation.outputs[0][1]))
    except (KeyError, RuntimeError) as e:
        raise MilError(f"{operation.kind} at {operation.name} cannot be computed: {e}") from e
    return [results] if isinstance(results, Tensor) else list(results)


def _argument(parts: tuple[Reference | Value, ...], values: Mapping[str, Any]) -> Any:
    found = [
        values[part.name] if isinstance(part, Reference) else _from_numpy(part) for part in parts
    ]
    return found[0] if len(found) == 1 else found


def _from_numpy(value: Value) -> Any:
    if isinstance(value, str):
        return value
    if value.dtype in (np.uint16, np.uint32, np.uint64):
        value = value.astype(np.int64)
    return torch.from_numpy(np.array(value))
