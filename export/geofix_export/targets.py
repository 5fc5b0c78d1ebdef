"""What exporting means for each runtime: convert, embed as it will, say where the two part."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geofix.backends.onnx import OnnxEncoder
from geofix.encoder import unit_length
from geofix.input_spec import InputSpec
from geofix_export import coreml_divergence, onnx_divergence
from geofix_export.coreml import convert_to_coreml
from geofix_export.mil_evaluator import evaluate
from geofix_export.onnx_model import OPSET, describe_onnx, to_onnx
from geofix_export.onnx_precision import float_nodes, to_fp16, to_int8
from geofix_export.parity import ParityError
from geofix_export.recipe import ExportRecipe
from geofix_export.tensorrt_rules import check_for_tensorrt
from geofix_train.model import Encoder

_EVALUATED_AT_ONCE = 8  # images of a Core ML program, all of whose layers are kept

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Photos = Callable[[], Images]  # reads training photos, which int8 learns its ranges from


class Target(Protocol):
    """A runtime that encoders are exported for."""

    filename: str  # of the model
    max_photos: int  # that it embeds in a minute or so: for parity, and for calibration

    def convert(
        self, encoder: Encoder, spec: InputSpec, recipe: ExportRecipe, photos: Photos
    ) -> bytes:
        """Return the model file."""

    def facts(self, data: bytes, recipe: ExportRecipe) -> dict[str, Any]:
        """Return what is to be known of a model file, for its provenance."""

    def embed(self, data: bytes, spec: InputSpec, images: Images) -> Floats:
        """Embed images (N, H, W, 3) by the model file, as the runtime will; return (N, D)."""

    def divergence(self, encoder: Encoder, spec: InputSpec, data: bytes, images: Images) -> str:
        """Return the first layer in which file and encoder part, "" where none can be told."""


class OnnxTarget:
    """ONNX Runtime."""

    filename = "encoder.onnx"
    max_photos = 1000
    symmetric = False  # activations in int8

    def convert(
        self, encoder: Encoder, spec: InputSpec, recipe: ExportRecipe, photos: Photos
    ) -> bytes:
        """Return the model as ONNX."""
        model = to_onnx(encoder, spec)
        if recipe.precision == "fp16":
            model = to_fp16(model)
        if recipe.precision == "int8":
            model = to_int8(
                model,
                photos(),
                symmetric=self.symmetric,
                keep=recipe.keep,
                keep_costliest=recipe.keep_costliest,
            )
        return describe_onnx(model, spec, target=recipe.target, precision=recipe.precision)

    def facts(self, data: bytes, recipe: ExportRecipe) -> dict[str, Any]:
        """Return the opset, and the layers of an int8 model that stayed in fp32."""
        kept = {"kept_in_fp32": float_nodes(data)} if recipe.precision == "int8" else {}
        return {"opset": OPSET, **kept}

    def embed(self, data: bytes, spec: InputSpec, images: Images) -> Floats:
        """Embed images by ONNX Runtime."""
        return OnnxEncoder(data, spec).encode(images)

    def divergence(self, encoder: Encoder, spec: InputSpec, data: bytes, images: Images) -> str:
        """Compare with the model in fp32, tensor by tensor."""
        found = onnx_divergence.first_divergence(to_onnx(encoder, spec), data, images)
        return "" if found is None else f"{found.node} ({found.op}, off by {found.error:.0%})"


class TensorRTTarget(OnnxTarget):
    """TensorRT, which builds its engine from ONNX. ONNX Runtime stands in for it here."""

    symmetric = True

    def convert(
        self, encoder: Encoder, spec: InputSpec, recipe: ExportRecipe, photos: Photos
    ) -> bytes:
        """Return ONNX that keeps TensorRT's rules; raise ParityError if it does not."""
        data = super().convert(encoder, spec, recipe, photos)
        violations = check_for_tensorrt(data)
        if violations:
            told = "; ".join(map(str, violations))
            raise ParityError(f"TensorRT would refuse this encoder: {told}")
        return data


class CoreMLTarget:
    """Core ML. An evaluator of the stored program stands in for it here."""

    filename = "encoder.mlpackage.zip"
    max_photos = 200

    def convert(
        self, encoder: Encoder, spec: InputSpec, recipe: ExportRecipe, photos: Photos
    ) -> bytes:
        """Return the package, zipped."""
        learns = recipe.precision == "int8_activations"
        calibration = photos() if learns else None
        return convert_to_coreml(encoder, spec, precision=recipe.precision, calibration=calibration)

    def facts(self, data: bytes, recipe: ExportRecipe) -> dict[str, Any]:
        """Return nothing: the package describes itself."""
        return {}

    def embed(self, data: bytes, spec: InputSpec, images: Images) -> Floats:
        """Embed images by evaluating the program with 16-bit rounding."""
        starts = range(0, len(images), _EVALUATED_AT_ONCE)
        parts = [evaluate(data, images[at : at + _EVALUATED_AT_ONCE]).embeddings for at in starts]
        return unit_length(np.concatenate(parts))

    def divergence(self, encoder: Encoder, spec: InputSpec, data: bytes, images: Images) -> str:
        """Compare with the encoder, layer by layer."""
        layers = coreml_divergence.compare_layers(encoder, data, images)
        found = coreml_divergence.first_divergence(layers)
        if found is None:
            return ""
        return f"{found.name} ({found.module}, off by {found.relative_error:.0%})"


TARGETS: Mapping[str, Target] = {
    "onnx": OnnxTarget(),
    "tensorrt": TensorRTTarget(),
    "coreml": CoreMLTarget(),
}
