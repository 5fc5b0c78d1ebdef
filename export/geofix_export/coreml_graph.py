"""The encoder as Core ML gets it: traced, with a name for each step that tells its layer.

The program takes one image (1, 3, H, W), RGB, 0 to 255, as Core ML makes it of a pixel buffer. A
layer's name is the module that computes it and the operator: `backbone_0_0__conv2d`,
`aggregator__logsumexp_2`. The same encoder gives the same names.
"""

import copy
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node

from geofix.input_spec import InputSpec
from geofix_export.coreml_tools import quiet

HANDLE = "debug_handle"  # coremltools carries this note of a node to the operations made of it
_ROOT = "encoder"
# What coremltools 9.0 has no translation for.
_DECOMPOSED = ("new_ones", "new_full", "new_zeros")


class _TakesImage(nn.Module):
    """An encoder that takes channels first."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        embeddings: Tensor = self.encoder(image.permute(0, 2, 3, 1))
        return embeddings


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of the traced encoder."""

    handle: int
    name: str  # "backbone_0_0__conv2d"
    module: str  # "backbone.0.0"; empty for the encoder itself
    node: Node


@dataclass(frozen=True)
class TracedEncoder:
    """An encoder's graph, and its layers in the order in which they run."""

    program: ExportedProgram
    layers: tuple[Layer, ...]

    @torch.no_grad()
    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Return what each layer gives, by name, and `output` for the embeddings.

        Args:
            images: (B, H, W, 3) uint8 RGB.
        """
        values = [self._run(image[None]) for image in images]
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}

    def _run(self, image: Tensor) -> dict[str, Tensor]:
        recorder = _Recorder(self.program.graph_module)
        image = image.permute(0, 3, 1, 2).float().contiguous()
        (output,) = recorder.run(*_placeholders(self.program, image))
        found: dict[str, Tensor] = {}
        for layer in self.layers:
            value = recorder.values.get(layer.node)
            first = value[0] if isinstance(value, (tuple, list)) else value
            if isinstance(first, Tensor):
                found[layer.name] = first if first.ndim else first[None]
        return {**found, "output": output}


def trace_encoder(encoder: nn.Module, spec: InputSpec) -> TracedEncoder:
    """Trace an encoder that takes (B, H, W, 3) and normalizes inside, for one image.

    Raises:
        ValueError: the input spec does not say uint8 RGB in rows.
    """
    if (spec.color, spec.layout, spec.dtype) != ("rgb", "nhwc", "uint8"):
        raise ValueError(
            f"the input spec says {spec.color} {spec.layout} {spec.dtype}, want rgb nhwc uint8: "
            "the encoder normalizes inside, and Core ML hands over pixels"
        )
    image = torch.zeros(1, 3, spec.height, spec.width)
    with quiet(), torch.no_grad():
        # A copy, since evaluation mode is not to stay on what may be trained further.
        exported = torch.export.export(_TakesImage(copy.deepcopy(encoder)).eval(), (image,))
        program = exported.run_decompositions(_decompositions())
    layers = tuple(_layers(program))
    for layer in layers:
        layer.node.meta[HANDLE] = layer.handle
    return TracedEncoder(program, layers)


def _decompositions() -> dict[Any, Any]:
    operators = [getattr(torch.ops.aten, name) for name in _DECOMPOSED]
    return {**get_decompositions(operators), torch.ops.aten.gelu.default: _gelu}


def _gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """Spell the approximation out: coremltools 9.0 overlooks the keyword and takes the exact one.

    "NotImplemented" leaves an operator as it is.
    """
    if approximate == "none":
        return NotImplemented
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + torch.tanh(inner))


def _layers(program: ExportedProgram) -> Iterator[Layer]:
    seen: Counter[str] = Counter()
    for handle, node in enumerate(program.graph.nodes):
        if node.op != "call_function":
            continue
        module = _module(node)
        name = re.sub(r"\W", "_", module) + "__" + operator_of(node)
        name = name if name[0].isalpha() else f"{_ROOT}{name}"
        yield Layer(handle, f"{name}_{seen[name]}" if seen[name] else name, module, node)
        seen[name] += 1


def operator_of(node: Node) -> str:
    """Return the operator of a node without its dialect: "conv2d"."""
    name = re.sub(r"\W", "_", str(node.target).removeprefix("aten.").split(".")[0])
    return "batch_norm" if "_batch_norm_" in name else name


def _module(node: Node) -> str:
    """Return the path of the innermost module that a node was traced in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return re.sub(rf"^{_ROOT}\.?", "", path)


def _placeholders(program: ExportedProgram, image: Tensor) -> Iterator[Tensor]:
    """Yield what the graph takes: weights, buffers and constants, and then the image."""
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    stored = {**program.constants, **program.state_dict}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            yield stored[names[node.name]] if node.name in names else image


class _Recorder(Interpreter):
    """Runs a graph and keeps what each node gives."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[Node, object] = {}

    def run_node(self, node: Node) -> object:
        value = super().run_node(node)
        self.values[node] = value
        return value
